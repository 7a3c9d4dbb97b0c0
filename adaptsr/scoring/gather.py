"""Put the scores that all runs of a profile keep into one file. Imports no torch."""

from __future__ import annotations

from pathlib import Path

from adaptsr.data.manifest import read_manifest
from adaptsr.errors import UserError
from adaptsr.metrics.conventions import whole_scoring
from adaptsr.runs.matrix import Matrix
from adaptsr.runs.records import RunRecord
from adaptsr.runs.run import Run
from adaptsr.scoring.sources import checked_record, find_source
from adaptsr.scoring.table import collect_scores, fingerprint_of, sorted_scores, write_scores


def gather(matrix: Matrix, out: Path, *, merged: bool = False) -> None:
    """Put the scores that all runs keep into one file, sorted by all columns.

    A part adds to what there is: runs of the whole matrix that are scored as the profile asks for now are taken too.
    Raises `UserError` for a run of `matrix` itself that is missing, of another key, or not scored so. merged: take what
    there is of all runs, and scores of what is not trained from wherever its weights and images are.
    """
    whole, required = matrix.whole, frozenset(() if merged else matrix.runs)
    matches = whole.matches()
    found: dict[Run, RunRecord | None] = {}
    sources: dict[tuple[Run, str], str | None] = {}
    for run in whole.runs:
        try:
            found[run] = checked_record(whole, run, matches)
            for test in whole.tests:
                if merged and not run.trained:
                    sources[run, test.dataset] = None
                elif (source := find_source(whole, run, found[run], test)) is not None:
                    sources[run, test.dataset] = source
        except UserError:
            if run in required:
                raise
    digests = {test.dataset: read_manifest(whole.manifest(test.dataset)).digest(test.split) for test in whole.tests}
    asked = {key: source for key, source in sources.items() if key[0] in required}
    rows, missing = collect_scores(whole.profile, whole.results, asked, digests)
    if missing:
        raise UserError(f"{missing[0]} ({len(missing)} in all); delete {whole.results}/scores and run snakemake again")
    others = {key: source for key, source in sources.items() if key[0] not in required}
    if others:
        more, _ = collect_scores(whole.profile, whole.results, others, digests)
        rows = sorted_scores([frame for frame in (rows, more) if len(frame)] or [rows])
    tests = {f"{test.dataset}/{test.split}": digests[test.dataset] for test in whole.tests}
    weights = {run.name: r.adaptation_sha256 for run, r in found.items() if r is not None and r.adaptation_sha256}
    write_scores(rows, out, fingerprint_of(whole_scoring(whole.profile), tests, weights))
