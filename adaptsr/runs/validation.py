"""Checks of a profile that need more than its schema, done before any job starts; torch-free."""

from __future__ import annotations

from adaptsr import files
from adaptsr.backbones.architectures.names import architectures
from adaptsr.data.catalogue import read_catalogue
from adaptsr.errors import UserError, listing, suggestion
from adaptsr.metrics.conventions import conventions
from adaptsr.papers import published_tables
from adaptsr.runs.matrix import Matrix, matching


def check(matrix: Matrix) -> None:
    """`UserError` for the first name in the profile that nothing answers to."""
    profile, source = matrix.profile, matrix.source
    _check_architectures(matrix)
    _check_weights(matrix)
    try:
        conventions(profile.scoring)
    except UserError as mistake:
        raise UserError(f"{source}: {mistake}") from None
    published = _published(matrix)
    rows = {row.name for row in matrix.rows}
    for name, table in profile.report.tables.items():
        if table.published and table.published not in published:
            raise UserError(
                f"{source}: report.tables.{name}.published: no file {table.published!r}{suggestion(table.published, published)}; there are {listing(published)}"
            )
        for metric in table.metrics or []:
            if metric not in profile.scoring.metrics:
                known = list(profile.scoring.metrics)
                raise UserError(
                    f"{source}: report.tables.{name}.metrics: no metric {metric!r}{suggestion(metric, known)}; there are {listing(known)}"
                )
    for index, comparison in enumerate(profile.report.comparisons):
        where = f"{source}: report.comparisons.{index}"
        if comparison.reference not in rows:
            raise UserError(
                f"{where}.reference: no row {comparison.reference!r} in this profile{suggestion(comparison.reference, rows)}; there are {listing(rows)}"
            )
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
        if backbone.architecture not in known:
            wrong = backbone.architecture
            raise UserError(
                f"{matrix.source}: backbones.{name}.architecture: {wrong!r} is unknown{suggestion(wrong, known)}; there are {', '.join(known)}"
            )


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
