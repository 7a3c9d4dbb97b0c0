"""Checks of a profile that need more than its schema, done before any job starts; torch-free."""

from __future__ import annotations

from adaptsr import files
from adaptsr.backbones.architectures.names import architectures
from adaptsr.data.catalogue import read_catalogue
from adaptsr.errors import UserError, check_known, listing, suggestion
from adaptsr.metrics.conventions import conventions
from adaptsr.papers import published_tables
from adaptsr.runs.matrix import Matrix, matching


def check(matrix: Matrix, *, weights: bool = True) -> None:
    """Raise `UserError` for the first name in the profile that is unknown.

    `weights=False` accepts weights that are missing on this machine, for commands that load none.
    """
    profile, source = matrix.profile, matrix.source
    _check_architectures(matrix)
    if weights:
        _check_weights(matrix)
    try:
        conventions(profile.scoring)
    except UserError as mistake:
        raise UserError(f"{source}: {mistake}") from None
    published = _published(matrix)
    rows = {row.name for row in matrix.rows}
    for name, table in profile.report.tables.items():
        where = f"{source}: report.tables.{name}"
        if table.published:
            check_known(f"{where}.published", "file", table.published, published)
        for metric in table.metrics or []:
            check_known(f"{where}.metrics", "metric", metric, profile.scoring.metrics)
    for index, comparison in enumerate(profile.report.comparisons):
        where = f"{source}: report.comparisons.{index}"
        check_known(f"{where}.compared_with", "row", comparison.compared_with, rows)
        if not matching(matrix.rows, comparison.rows):
            raise UserError(
                f"{where}.rows: {', '.join(comparison.rows)} match no row of this profile; there are {listing(rows)}"
            )


def _published(matrix: Matrix) -> list[str]:
    if matrix.profile.paper is None:
        return []
    try:
        return list(published_tables(matrix.profile.paper))
    except UserError as mistake:
        raise UserError(f"{matrix.source}: {mistake}") from None


def _check_architectures(matrix: Matrix) -> None:
    known = architectures()
    for name, backbone in matrix.profile.backbones.items():
        check_known(f"{matrix.source}: backbones.{name}", "architecture", backbone.architecture, known)


def _check_weights(matrix: Matrix) -> None:
    profile = matrix.profile
    named = [(f"backbones.{name}", backbone.weights) for name, backbone in profile.backbones.items()]
    named += [(f"external.{name}", model.weights) for name, model in profile.external.items()]
    known = read_catalogue().weights
    for where, weights in named:
        if weights and weights not in known and not files.expanded(weights).is_file():
            raise UserError(
                f"{matrix.source}: {where}.weights: no file {weights!r}; give the path of a checkpoint, "
                f"or a name of config/weights.tsv{suggestion(weights, known)}: {listing(known)}"
            )
