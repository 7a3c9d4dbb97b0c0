"""Merge packs into a profile's results: everything is checked before the first run is moved, and all of it is, or nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from adaptsr import files
from adaptsr.data.manifest import MANIFEST, Manifest, read_manifest
from adaptsr.errors import UserError, first_names, printable, raise_all
from adaptsr.exchange.agreement import Agreement, compare, machine, means_of, spread_of
from adaptsr.exchange.moves import Moves, staging_of
from adaptsr.exchange.packs import WEIGHTS, About, choice_place, manifests_of, named_by_pack, records_of, unpack_pack
from adaptsr.metrics.conventions import whole_scoring
from adaptsr.progress import Progress
from adaptsr.runs.choices import read_choice
from adaptsr.runs.keys import Inputs
from adaptsr.runs.loading import damage
from adaptsr.runs.matrix import Matrix
from adaptsr.runs.origins import ORIGIN, RunOrigin, without_weights
from adaptsr.runs.records import RunRecord, read_record
from adaptsr.runs.run import Run
from adaptsr.runs.superseded import superseded_folder
from adaptsr.scoring.gather import gather
from adaptsr.scoring.table import kept_path, metric_key, read_kept


@dataclass(frozen=True)
class Opened:
    """An unpacked pack: its file, its folder laid out as results, what it says about itself, and its records."""

    archive: Path
    folder: Path
    about: About
    records: dict[Run, RunRecord]


@dataclass
class Known:
    """What the first runs fix for all others: code, images and weights by backbone, test images, choices."""

    code: set[tuple[str, bool | None]] = field(default_factory=set)
    inputs: dict[str, Inputs | None] = field(default_factory=dict)
    manifests: dict[str, Manifest] = field(default_factory=dict)
    keys: dict[tuple[str, str], str] = field(default_factory=dict)


@dataclass(frozen=True)
class Merged:
    """What a merge did. twice: runs that were there already, with whether both agree."""

    added: dict[Run, RunRecord]
    twice: dict[Run, Agreement]
    left_out: int


def merge_packs(matrix: Matrix, archives: Sequence[Path], progress: Progress, *, other_code: bool = False) -> Merged:
    """Merge packs into the matrix's results and gather the scores; a run that is there already stays as it is.

    other_code: accept runs of several versions of the code. Raises `UserError`, before anything is changed, for a pack that
    is torn, and for runs of another protocol, schedule, data, test images or code. If it cannot finish, it puts back what
    it had moved; if it is killed, the next command with this profile does.
    """
    results = matrix.results
    with staging_of(results) as moves, ExitStack() as naming:
        places = [(archive, moves.staging / str(number)) for number, archive in enumerate(archives)]
        for place in places:
            naming.enter_context(named_by_pack(*place))
        packs = [_open(matrix, *place) for place in places]
        known = _known(matrix)
        here = _matching(matrix)
        for pack in packs:
            raise_all(str(pack.archive), list(_problems(matrix, pack, known, other_code)))
        found = {run: (results, record) for run, record in here.items()}
        twice: dict[Run, Agreement] = {}
        for pack in packs:
            for run, record in pack.records.items():
                if run not in found:
                    found[run] = pack.folder, record
                elif run not in twice or twice[run].agrees:
                    twice[run] = _agreement(matrix, run, found[run], (pack.folder, record), packs)
        added = {run: record for run, (folder, record) in found.items() if folder != results}
        with ExitStack() as stack:
            for folder in (run.folder(results) for run in added if run.folder(results).is_dir()):
                stack.enter_context(files.locked(folder.parent, _busy(folder), name=f".{folder.name}.lock"))
            _put(matrix, packs, {run: found[run][0] for run in added}, moves)
    for text in _lines(packs, added, twice):
        progress(printable(text))
    left_out = sum(len(pack.about.runs) - len(pack.records) for pack in packs)
    return Merged(added, twice, left_out)


def _busy(folder: Path) -> Callable[[], None]:
    def refuse() -> None:
        raise UserError(f"{folder}: another process is training this run; wait for it, then merge again")

    return refuse


def _open(matrix: Matrix, archive: Path, folder: Path) -> Opened:
    about = unpack_pack(archive, folder)
    opened = Opened(archive, folder, about, records_of(matrix, folder))
    weights = {run: (run.folder(folder) / WEIGHTS).is_file() for run in opened.records}
    for run, record in opened.records.items():
        origin = RunOrigin(pack=archive.name, by=about.by, weights=weights[run] or record.status == "diverged")
        files.write_json(run.folder(folder) / ORIGIN, origin.model_dump())
    return opened


def _known(matrix: Matrix) -> Known:
    known = Known(manifests=manifests_of(matrix.results, matrix.profile.datasets))
    for test in matrix.profile.data.scored:
        if matrix.manifest(test.dataset).is_file():
            known.manifests[test.dataset] = read_manifest(matrix.manifest(test.dataset))
    for backbone in matrix.profile.backbones:
        if matrix.inputs_are_here(backbone):
            known.inputs[backbone] = matrix.inputs(backbone)
    for run, record in _matching(matrix).items():
        _fix(known, run, record)
    return known


def _matching(matrix: Matrix) -> dict[Run, RunRecord]:
    """Return the records of the results that are of the runs that the profile asks for."""
    matches = matrix.matches()
    return {run: record for run, record in records_of(matrix, matrix.results).items() if matches(run, record)}


def _fix(known: Known, run: Run, record: RunRecord) -> None:
    assert run.backbone is not None
    known.code = known.code or {_code(record)}
    known.inputs.setdefault(run.backbone, record.inputs)


def _code(record: RunRecord) -> tuple[str, bool | None]:
    return record.provenance.code_version, record.provenance.code_dirty


def _problems(matrix: Matrix, pack: Opened, known: Known, other_code: bool) -> Iterator[str]:
    """Yield what keeps a pack from being merged, and note what its runs fix for the packs after it."""
    for dataset, manifest in manifests_of(pack.folder, matrix.profile.datasets).items():
        first = known.manifests.setdefault(dataset, manifest)
        splits = [test.split for test in matrix.profile.data.scored if test.dataset == dataset]
        if any(first.digest(split) != manifest.digest(split) for split in splits):
            yield f"{dataset}: scored on other test images"
    asked = _Asked(matrix, replace(matrix, folder=pack.folder), known.keys)
    for run, record in pack.records.items():
        folder = run.folder(pack.folder)
        if Run(record.backbone, f"{record.baseline}/{record.variant}", record.seed) != run:
            yield f"{run.name}: its record is of another run"
            continue
        _fix(known, run, record)
        if record.variant_key != asked(run):
            yield f"{run.name}: of another protocol, schedule or options than {matrix.source} asks for"
        if record.inputs != known.inputs[str(run.backbone)] or record.is_older:
            yield f"{run.name}: trained from other images or weights"
        if _code(record) not in known.code and not other_code:
            yield f"{run.name}: made by other code ({record.provenance.code_version[:12]}); --other-code accepts it"
        if problem := damage(folder, record):
            yield f"{run.name}: {Path(problem.partition(':')[0]).name} is not what its record names"
    yield from _score_problems(matrix, pack, known)


def _score_problems(matrix: Matrix, pack: Opened, known: Known) -> Iterator[str]:
    scoring = whole_scoring(matrix.profile)
    keys = {metric_key(scoring, column) for column in scoring.metrics}
    for run in matrix.runs:
        record = pack.records.get(run)
        for test in matrix.profile.data.scored:
            path = kept_path(run.folder(pack.folder), test.dataset)
            if not path.is_file():
                continue
            if test.dataset not in known.manifests:
                yield f"{run.name}: scored on {test.dataset}, of which there is no manifest"
                continue
            images = known.manifests[test.dataset].digest(test.split)
            kept = read_kept(path, record.result_key if record else None, images)
            if kept is None or (run.trained and record is None):
                yield f"{run.name}: scores of other weights or images"
            elif not keys & set(kept.rows["metric"]):
                yield f"{run.name}: scored with other metrics or conventions"


@dataclass(frozen=True)
class _Asked:
    """What the profile asks of a run: with the choice that is here, or the first pack's."""

    here: Matrix
    there: Matrix
    keys: dict[tuple[str, str], str]

    def __call__(self, run: Run) -> str | None:
        assert run.backbone is not None
        place = (run.backbone, run.variant)
        for matrix in (self.here, self.there):
            if place not in self.keys:
                try:
                    self.keys[place] = matrix.variant_key(*place)
                except UserError:  # not tuned there
                    continue
        return self.keys.get(place)


def _agreement(
    matrix: Matrix, run: Run, one: tuple[Path, RunRecord], other: tuple[Path, RunRecord], packs: Sequence[Opened]
) -> Agreement:
    datasets = [test.dataset for test in matrix.profile.data.scored]
    folders = [matrix.results, *(pack.folder for pack in packs)]
    siblings: dict[int | None, dict[tuple[str, str], float]] = {}
    for folder in folders:
        for seed in matrix.profile.seeds:
            siblings.setdefault(seed, {}).update(
                means_of(Run(run.backbone, run.variant, seed).folder(folder), datasets)
            )
    means = means_of(run.folder(one[0]), datasets), means_of(run.folder(other[0]), datasets)
    return compare(one[1], other[1], means, spread_of(siblings.values()))


def _put(matrix: Matrix, packs: Sequence[Opened], sources: dict[Run, Path], moves: Moves) -> None:
    """Move runs, scores of what is not trained, manifests and choices to their places and gather; undo it all on failure."""
    results = matrix.results
    for run, source in sources.items():
        folder = run.folder(results)
        if (folder / "record.json").is_file():  # of another key: it is kept, as when it is trained anew
            moves.move(folder, superseded_folder(run, results, read_record(folder / "record.json").key))
        moves.move(run.folder(source), folder)
    for pack in packs:
        for place in _other_files(matrix, pack):
            if not (results / place).exists():
                moves.move(pack.folder / place, results / place)
        for name in _missed_weights(pack, results):
            moves.move(pack.folder / name, results / name)
    gathered = moves.staging / "scores.parquet"
    gather(replace(matrix), gathered, merged=True)  # afresh: optional test sets may have come
    moves.move(gathered, results / "scores.parquet")
    moves.commit()


def _other_files(matrix: Matrix, pack: Opened) -> Iterator[str]:
    for run in matrix.runs:
        if not run.trained:
            for test in matrix.profile.data.scored:
                yield kept_path(Path(run.name), test.dataset).as_posix()
    for test in matrix.profile.data.scored:
        yield f"manifests/{test.dataset}/{MANIFEST}"
    for backbone in matrix.profile.backbones:
        for row in matrix.rows_on(backbone):
            place = choice_place(backbone, row.name)
            made = pack.folder / place
            if (
                matrix.points(row.name)
                and made.is_file()
                and read_choice(made).asked == matrix.asked_of_tuning(backbone, row.name)
            ):
                yield place


def _missed_weights(pack: Opened, results: Path) -> Iterator[str]:
    """Yield the weights, with their origin, of runs that are here without them."""
    for run, record in pack.records.items():
        here = run.folder(results)
        wanted = without_weights(here) and (run.folder(pack.folder) / WEIGHTS).is_file()
        if wanted and read_record(here / "record.json").adaptation_sha256 == record.adaptation_sha256:
            yield from (f"{run.name}/{name}" for name in (WEIGHTS, ORIGIN))


def _lines(packs: Sequence[Opened], added: dict[Run, RunRecord], twice: dict[Run, Agreement]) -> Iterator[str]:
    """Say what was merged, from which machines, and what was run twice."""
    for pack in packs:
        cards: dict[str, int] = {}
        for run, record in pack.records.items():
            if run in added:
                cards[machine(record)] = cards.get(machine(record), 0) + 1
        listed = ", ".join(f"{count} on {card}" for card, count in sorted(cards.items())) or "none"
        by = f" by {pack.about.by}" if pack.about.by else ""
        left_out = set(pack.about.runs) - {run.name for run in pack.records}
        more = f"; not in this profile: {first_names(sorted(left_out))}" if left_out else ""
        yield f"{pack.archive.name}{by}: {len(pack.records)} runs, new {listed}{more}"
    for run, agreement in twice.items():
        yield f"{run.name}: run twice, {agreement.text}"
