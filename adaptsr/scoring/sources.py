"""What restores a run's test images, as a fingerprint: scores and pictures are kept under it. Imports no torch."""

from __future__ import annotations

from adaptsr import files
from adaptsr.config import schema
from adaptsr.data.manifest import manifest_path, read_manifest
from adaptsr.errors import UserError
from adaptsr.runs import records
from adaptsr.runs.matrix import Matches, Matrix
from adaptsr.runs.run import Run
from adaptsr.scoring.external import external_folder, images_digest


def digest_of(test: schema.Split) -> str:
    """Return the digest of a test dataset's images."""
    return read_manifest(manifest_path(test.dataset)).digest(test.split)


def checked_record(matrix: Matrix, run: Run, matches: Matches) -> records.RunRecord | None:
    """Read the record of a run; None for what is not trained.

    Raises `UserError` if the record is missing or of another run than the profile asks for.
    """
    if not run.trained:
        return None
    path = run.record_path(matrix.results)
    if not path.is_file():
        raise UserError(
            f"{path}: no such record; the run is missing or not finished; {records.redo(run.folder(matrix.results))}"
        )
    record = records.read_record(path)
    if not matches(run, record):
        raise UserError(records.another_run(path, record))
    return record


def find_source(matrix: Matrix, run: Run, record: records.RunRecord | None, test: schema.ScoredSplit) -> str | None:
    """Fingerprint what restores the images of a run on a test dataset; None if the run diverged.

    record: of `checked_record`. Raises `UserError` for weights that are missing, and for an external model whose folder
    lacks images.
    """
    profile = matrix.profile
    if record is not None:
        return None if record.status == "diverged" else record.result_key
    if run.backbone is not None:
        return _model(profile.backbones[run.backbone])
    name = run.variant.partition("/")[2]
    if weights := profile.external[name].weights:
        return _model(schema.Backbone(architecture=schema.AUTO, weights=weights))
    folder = external_folder(profile, name, test.dataset)
    names = [item.name for item in read_manifest(manifest_path(test.dataset)).splits.get(test.split, [])]
    return files.digest([str(folder), images_digest(folder, names)])


def _model(declared: schema.Backbone) -> str:
    from adaptsr.data.fetch import resolve_weights

    weights = files.file_sha256(resolve_weights(declared.weights)) if declared.weights else None
    stated = declared.model_dump(mode="json", exclude={"title", "weights"}, exclude_defaults=True)
    return files.digest([stated, weights])
