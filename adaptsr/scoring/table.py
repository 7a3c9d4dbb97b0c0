"""Score files: one row per image and metric, checked when they are read. Imports no torch.

Each run keeps its scores of a test dataset in `scores/<dataset>.parquet` of its folder, its metrics named by their keys,
so that a renamed column costs nothing and a new metric only itself. `scores.parquet` of a profile is put together from
these, its metrics named as the profile names them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pydantic

from adaptsr import files
from adaptsr.errors import UserError, one_line
from adaptsr.metrics.conventions import scoring_of
from adaptsr.runs.run import Run

if TYPE_CHECKING:
    import pandas as pd

    from adaptsr.config import schema

SCHEMA = 2
"""Raised when a column or a field changes its meaning. Schema 1 had no number."""
COLUMNS = (
    "profile",
    "backbone",
    "baseline",
    "variant",
    "seed",
    "dataset",
    "image",
    "metric",
    "value",
    "reason",
    "color_space",
    "crop_border",
)
KEPT_COLUMNS = ("image", "metric", "value", "reason", "color_space", "crop_border")
"""Columns of what a run keeps; `metric` is the metric's key."""
METADATA = b"adaptsr"
REMAKE = "delete it to have it made again"
REVISIONS: tuple[str, ...] = ()
"""Changes of this code that changed values of metrics: each entry makes all scores stale."""


def metric_key(scoring: schema.Scoring, column: str) -> str:
    """Hash what determines a metric's values: its name and options and the crop border, not our names for it."""
    metric = scoring.metrics[column]
    return files.digest([{"name": metric.name, "options": metric.options}, scoring.crop_border, *REVISIONS])


class Fingerprint(pydantic.BaseModel):
    """Fingerprints of the inputs of a profile's score file, stored in it and checked on reading.

    weights: a run's name to the SHA-256 of its weights. tests: `<dataset>/<split>` to the digest of its images.
    metrics: column to `metric_key`.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    weights: dict[str, str]
    tests: dict[str, str]
    metrics: dict[str, str]

    def difference(self, now: Fingerprint) -> str | None:
        """Name the first test dataset or metric whose fingerprint differs; ignore those that only one side has."""
        for name, digest in self.tests.items():
            if now.tests.get(name, digest) != digest:
                return f"with other images of {name}"
        for name, digest in self.metrics.items():
            if now.metrics.get(name, digest) != digest:
                return f"with other conventions of {name}"
        return None


def fingerprint_of(scoring: schema.Scoring, tests: Mapping[str, str], weights: Mapping[str, str]) -> Fingerprint:
    """Return the fingerprint of scores with these metrics; `tests` and `weights` as in `Fingerprint`."""
    metrics = {column: metric_key(scoring, column) for column in scoring.metrics}
    return Fingerprint(weights=dict(weights), tests=dict(tests), metrics=metrics)


class Scores(NamedTuple):
    """A profile's score file: its rows and what they were made from."""

    rows: pd.DataFrame
    fingerprint: Fingerprint


class KeptScores(NamedTuple):
    """Scores of one run on one test dataset.

    restored: what restored the images (`RunRecord.result_key` of a run). images: digest of the test images.
    unmeasured: keys of metrics whose network weights were missing.
    """

    rows: pd.DataFrame
    restored: str
    images: str
    unmeasured: frozenset[str]


def write_scores(frame: pd.DataFrame, path: Path, fingerprint: Fingerprint) -> None:
    """Write a profile's scores atomically; the same scores give the same bytes."""
    _write(frame, path, {"fingerprint": fingerprint.model_dump()})


def read_scores(path: Path) -> Scores:
    """Read a profile's scores, of this or an older schema. Raises `UserError` if missing, torn or changed."""
    rows, about = _read(path, typed)
    try:
        return Scores(rows, Fingerprint.model_validate(about.get("fingerprint", about.get("basis"))))
    except (KeyError, pydantic.ValidationError):
        raise UserError(f"{path}: not a score file: it does not say what it was made from; {REMAKE}") from None


def kept_path(run_folder: Path, dataset: str) -> Path:
    """Return where a run keeps its scores of a test dataset."""
    return run_folder / "scores" / f"{dataset}.parquet"


def write_kept(path: Path, scores: KeptScores) -> None:
    """Write a run's scores atomically, sorted by image and metric."""
    about = {"restored": scores.restored, "images": scores.images, "unmeasured": sorted(scores.unmeasured)}
    _write(scores.rows.sort_values(["image", "metric"], ignore_index=True), path, about)


def read_kept(path: Path, restored: str | None, images: str | None) -> KeptScores | None:
    """Read a run's scores; None if there are none or they are of other weights or images.

    restored, images: None accepts any. Raises `UserError` for a file that is torn or changed.
    """
    if not path.is_file():
        return None
    rows, about = _read(path, kept_typed)
    try:
        kept = KeptScores(rows, str(about["restored"]), str(about["images"]), frozenset(about["unmeasured"]))
    except (KeyError, TypeError):
        raise UserError(f"{path}: not a score file: it does not say what it was made from; {REMAKE}") from None
    return kept if restored in (None, kept.restored) and images in (None, kept.images) else None


def collect_scores(
    profile: schema.Profile,
    results: Path,
    sources: Mapping[tuple[Run, str], str | None],
    images: Mapping[str, str],
    *,
    partial: bool = False,
) -> tuple[pd.DataFrame, list[str]]:
    """Put together what the runs keep, sorted by all columns, and list what is missing.

    sources: runs and test datasets to `KeptScores.restored`, None for any. images: each test dataset to the digest of
    its images. partial: take a run that lacks some of the metrics.
    """
    import pandas as pd

    columns_on = cache(lambda dataset: _columns(scoring_of(profile, dataset)))
    frames, missing = [], []
    for (run, dataset), source in sources.items():
        path, columns = kept_path(run.folder(results), dataset), columns_on(dataset)
        try:
            kept = read_kept(path, source, images[dataset])
        except UserError as torn:
            missing.append(str(torn).partition(";")[0])
            continue
        if kept is None or not (partial or set(columns) <= set(kept.rows["metric"])):
            missing.append(f"{path}: no scores with the present weights, images and metrics")
        else:
            frames.append(_named(kept.rows, columns).assign(**_identity(profile.name, run), dataset=dataset))
    return (sorted_scores(frames) if frames else typed(pd.DataFrame(columns=list(COLUMNS)))), missing


def _columns(scoring: schema.Scoring) -> dict[str, list[str]]:
    """Return the columns of each metric by its key."""
    columns: dict[str, list[str]] = {}
    for column in scoring.metrics:
        columns.setdefault(metric_key(scoring, column), []).append(column)
    return columns


def _identity(profile: str, run: Run) -> dict[str, Any]:
    baseline, _, variant = run.variant.partition("/")
    return {
        "profile": profile,
        "backbone": run.backbone or "",
        "baseline": baseline,
        "variant": variant,
        "seed": run.seed,
    }


def _named(rows: pd.DataFrame, columns: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """The rows of these metrics under the profile's names for them; a metric may have several."""
    names = rows["metric"].map(columns)
    return rows.assign(metric=names)[names.notna()].explode("metric", ignore_index=True)


def sorted_scores(frames: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """All rows in one frame, sorted by all columns."""
    import pandas as pd

    typed_frames = [typed(frame) for frame in frames]
    return typed(pd.concat(typed_frames, ignore_index=True).sort_values(list(COLUMNS), ignore_index=True))


def typed(frame: pd.DataFrame) -> pd.DataFrame:
    """The columns of a profile's score file, in their order and types."""
    text = [name for name in COLUMNS if name not in ("seed", "value", "crop_border")]
    kinds = {**dict.fromkeys(text, "string"), "seed": "Int64", "value": "float64", "crop_border": "int64"}
    return frame[list(COLUMNS)].astype(kinds)


def kept_typed(frame: pd.DataFrame) -> pd.DataFrame:
    """The columns of what a run keeps, in their order and types."""
    kinds = dict.fromkeys(KEPT_COLUMNS, "string") | {"value": "float64", "crop_border": "int64"}
    return frame[list(KEPT_COLUMNS)].astype(kinds)


def _write(frame: pd.DataFrame, path: Path, about: Mapping[str, Any]) -> None:
    import pyarrow
    import pyarrow.parquet

    metadata = json.dumps({"schema": SCHEMA, "sha256": _checksum(frame), **about}, sort_keys=True)
    table = pyarrow.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata({METADATA: metadata})
    with files.atomic_write(path) as temporary:
        pyarrow.parquet.write_table(table, temporary)


def _read(path: Path, types: Any) -> tuple[pd.DataFrame, dict[str, Any]]:
    import pyarrow
    import pyarrow.parquet

    try:
        # Opened here: pyarrow reads every file of a folder, and takes some names for addresses.
        with path.open("rb") as file:
            table = pyarrow.parquet.read_table(file)
        about = json.loads((table.schema.metadata or {})[METADATA])
        number = about.get("schema", 1)
        if number > SCHEMA:
            raise UserError(
                f"{path}: a score file of schema {number}, this code reads up to {SCHEMA}; update adaptsr or {REMAKE}"
            )
        rows = types(table.to_pandas())
        expected, found = about["sha256"], _checksum(rows)
    except FileNotFoundError:
        raise UserError(f"{path}: no such score file") from None
    except (
        pyarrow.ArrowException,
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        ArithmeticError,
        RecursionError,
    ) as error:
        reason = one_line(error)
        raise UserError(f"{path}: not a score file, or a torn one ({reason}); {REMAKE}") from None
    if found != expected:
        raise UserError(f"{path}: changed after it was written: its rows differ from their checksum; {REMAKE}")
    return rows, about


def _checksum(frame: pd.DataFrame) -> str:
    """SHA-256 of the rows in their order, values to the bit."""
    import pandas as pd

    hashes = pd.util.hash_pandas_object(frame, index=False)
    return hashlib.sha256(hashes.to_numpy().tobytes()).hexdigest()
