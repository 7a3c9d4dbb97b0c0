"""Check a pack: redo one of its runs here and compare."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from adaptsr.errors import UserError, check_known
from adaptsr.exchange.agreement import Agreement, compare, machine, means_of, same_type, spread_of
from adaptsr.exchange.packs import records_of, unpacked
from adaptsr.progress import Progress
from adaptsr.runs.matrix import Matrix
from adaptsr.runs.parts import Part, take_part
from adaptsr.runs.records import RunRecord, read_record
from adaptsr.runs.run import Run
from adaptsr.scoring.score_runs import score_block
from adaptsr.training.train_runs import ensure_runs


@dataclass(frozen=True)
class Check:
    """A run that was redone, and whether it agrees with the pack's. bitwise: whether it must agree to the bit."""

    run: Run
    machines: tuple[str, str]
    bitwise: bool
    agreement: Agreement

    @property
    def passed(self) -> bool | None:
        """Whether the pack stands the check; None if it cannot be said."""
        if self.bitwise and "to the bit" not in self.agreement.text:
            return False
        return self.agreement.agrees

    @property
    def text(self) -> str:
        there, here = self.machines
        required = "the same machine type: to the bit is required" if self.bitwise else "within the spread is required"
        verdict = {True: "agrees", False: "DOES NOT AGREE", None: "undecided"}[self.passed]
        return f"{self.run.name}: {verdict}: {self.agreement.text}; {there} there, {here} here ({required})"


def check_pack(matrix: Matrix, archive: Path, name: str | None, progress: Progress) -> Check:
    """Train and score one run of a pack in a temporary folder and compare it with the pack's.

    name: `<backbone>/<row>/seed<k>`; default: the run that took the least time. Raises `UserError` if the pack has no such
    run, or if the profile asks for another one than the pack has.
    """
    with unpacked(archive) as folder, TemporaryDirectory() as temporary:
        theirs = records_of(matrix, folder)
        run, record = _chosen(matrix, archive, theirs, name)
        assert run.backbone is not None
        assert run.seed is not None
        here = replace(matrix, folder=Path(temporary) / "results")
        if (folder / "tuning").is_dir():
            shutil.copytree(folder / "tuning", here.results / "tuning")
        if record.variant_key != here.variant_key(run.backbone, run.variant) or record.inputs != here.inputs(
            run.backbone
        ):
            raise UserError(
                f"{archive}: {run.name}: of another protocol, schedule, data or options than {matrix.source}"
            )
        ensure_runs(here, run.backbone, run.variant, [run.seed], progress)
        redone = read_record(run.record_path(here.results))
        datasets = [test.dataset for test in matrix.profile.data.scored]
        if redone.adaptation_sha256 != record.adaptation_sha256:
            part = take_part(here, Part(run.backbone, str(run.seed), run.variant))
            rows = [row for row in part.rows if row.name == run.variant]
            score_block(part, run.backbone, part.tests, rows, Path(temporary) / "scored.json", progress)
        siblings = [Run(run.backbone, run.variant, seed) for seed in matrix.profile.seeds]
        spread = spread_of(means_of(sibling.folder(folder), datasets) for sibling in siblings)
        means = means_of(run.folder(folder), datasets), means_of(run.folder(here.results), datasets)
        agreement = compare(record, redone, means, spread)
        return Check(run, (machine(record), machine(redone)), same_type(record, redone), agreement)


def _chosen(matrix: Matrix, archive: Path, found: dict[Run, RunRecord], name: str | None) -> tuple[Run, RunRecord]:
    by_name = {run.name: run for run in found}
    if not by_name:
        raise UserError(f"{archive}: no run of {matrix.source} is in this pack")
    if name is None:
        run = min(found, key=lambda run: (found[run].wall_seconds, run.name))
    else:
        run = by_name[check_known(str(archive), "run", name, by_name)]
    return run, found[run]
