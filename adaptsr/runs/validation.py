"""Checks of a profile that need more than its schema, done before any job starts; torch-free."""

from __future__ import annotations

from adaptsr import files
from adaptsr.backbones.architectures.names import architectures
from adaptsr.config import schema
from adaptsr.data.catalogue import read_catalogue
from adaptsr.data.kinds import kind_of
from adaptsr.errors import UserError, check_known, listing, suggestion
from adaptsr.metrics.conventions import conventions
from adaptsr.papers import published_tables
from adaptsr.runs.keys import changed_options
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
    _check_training_data(matrix)
    _check_tuning(matrix)
    _check_starts(matrix)
    crop = profile.training.crop if profile.training else 0
    if crop % 8 and any("gan" in objective.terms for objective in matrix.objectives):
        raise UserError(f"{source}: training.crop: {crop} is not a multiple of 8, which the loss `gan` needs")
    _check_graphs(matrix)
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


def _check_graphs(matrix: Matrix) -> None:
    """Refuse to capture a step that does more on the host than set learning rates."""
    if matrix.profile.training is None or matrix.profile.training.compile != "graphs":
        return
    for row in matrix.variants.values():
        training = matrix.untuned.training(row, next(iter(matrix.profile.backbones)))
        if training.optimizer not in ("adam", "adamw") or "gan" in training.objective.terms:
            found = "the loss `gan`" if "gan" in training.objective.terms else f"the optimizer {training.optimizer}"
            raise UserError(
                f"{matrix.source}: training.compile: graphs cannot capture {found} of {row.row}; use `regions`, or adam or adamw without `gan`"
            )


def _check_training_data(matrix: Matrix) -> None:
    """Refuse rows that train without data to train on and to follow training with."""
    data = matrix.profile.data
    for key, given in (("train", data.train), ("validation", data.validation)):
        if matrix.variants and not given:
            raise UserError(
                f"{matrix.source}: data.{key}: missing, but {next(iter(matrix.variants))} trains; add it, or run only the "
                "unadapted backbones and external models: leave `training` and `baselines` out"
            )


def _check_tuning(matrix: Matrix) -> None:
    """Refuse a grid that no variant takes, and choices by photographs that tests show too."""
    profile = matrix.profile
    if profile.tuning is None:
        if profile.training and profile.training.keep == "best":
            _check_choosing_apart(matrix, "training.keep: best")
        return
    options = {*schema.TrainingChanges.model_fields}.union(*(v.baseline.options for v in matrix.variants.values()))
    tried = {key for row in matrix.variants for point in matrix.points(row) for key in point}
    for key in profile.tuning.grid:
        check_known(f"{matrix.source}: tuning.grid", "option", key, options)
        if key not in tried:
            raise UserError(f"{matrix.source}: tuning.grid.{key}: every variant sets {key!r} itself; leave it out")
    _check_choosing_apart(matrix, "tuning")


def _check_choosing_apart(matrix: Matrix, what: str) -> None:
    profile = matrix.profile
    validation = profile.validation
    seen = _photographs(matrix, validation)
    for test in profile.data.test:
        shared = seen & _photographs(matrix, test)
        if shared:
            raise UserError(
                f"{matrix.source}: {what}: {validation.dataset} ({validation.split}) and the test dataset {test.dataset} show "
                f"the same photographs ({min(shared)}); choose on others: change data.validation, or leave out the test dataset"
            )


def _check_starts(matrix: Matrix) -> None:
    """Refuse a row that goes on from one with other options, from itself, or in a profile that is tuned."""
    for row in matrix.variants:
        if not (start := matrix.start(row)):
            continue
        where = f"{matrix.source}: baselines.{row.replace('/', '.variants.')}.start"
        if matrix.profile.tuning:
            raise UserError(f"{where}: a profile with `tuning` cannot have it: remove one of the two")
        check_known(where, "row", start, set(matrix.variants))
        own, other = matrix.variant(row), matrix.variant(start)
        if start == row or matrix.start(start):
            raise UserError(f"{where}: {start} must start from the backbone")
        if own.baseline != other.baseline or changed_options(own) != changed_options(other):
            raise UserError(f"{where}: {start} has other options than {row}; give both the same")


def _photographs(matrix: Matrix, split: schema.Split) -> frozenset[str]:
    declared = matrix.profile.datasets[split.dataset]
    return kind_of(declared).photographs(declared, split.split) | {f"{split.dataset}/{split.split}"}


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
