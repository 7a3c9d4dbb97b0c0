"""Put the scores that all runs of a profile keep into one file. Imports no torch."""

from __future__ import annotations

from pathlib import Path

from adaptsr.errors import UserError
from adaptsr.runs.matrix import Matrix
from adaptsr.scoring.sources import checked_record, digest_of, find_source
from adaptsr.scoring.table import collect_scores, fingerprint_of, write_scores


def gather(matrix: Matrix, out: Path) -> None:
    """Put the scores that all runs keep into one file, sorted by all columns.

    Raises `UserError` for a run that is missing, of another key, or not scored as the profile asks for now.
    """
    matches = matrix.matches()
    found = {run: checked_record(matrix, run, matches) for run in matrix.runs}
    sources = {
        (run, test.dataset): source
        for run, record in found.items()
        for test in matrix.tests
        if (source := find_source(matrix, run, record, test)) is not None
    }
    digests = {test.dataset: digest_of(test) for test in matrix.tests}
    rows, missing = collect_scores(matrix.profile, matrix.results, sources, digests)
    if missing:
        raise UserError(f"{missing[0]} ({len(missing)} in all); delete {matrix.results}/scores and run snakemake again")
    tests = {f"{test.dataset}/{test.split}": digests[test.dataset] for test in matrix.tests}
    weights = {run.name: r.adaptation_sha256 for run, r in found.items() if r is not None and r.adaptation_sha256}
    write_scores(rows, out, fingerprint_of(matrix.profile.scoring, tests, weights))
