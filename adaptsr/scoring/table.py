"""Files of scores: one row per image and metric, checked when they are read. Costs no torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pydantic

from adaptsr import files
from adaptsr.config import schema
from adaptsr.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from adaptsr.data.manifest import Manifest, SplitName

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
METADATA = b"adaptsr"
REMAKE = "delete it to have it made again"


class Basis(pydantic.BaseModel):
    """What scores were made of; it stands in their file, so that whoever reads it can tell whether that is still there.

    weights: the run's name to the SHA-256 of its weights. tests: `<dataset>/<split>` to the digest of
    the images. metrics: each of them to the digest of its conventions.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    weights: dict[str, str]
    tests: dict[str, str]
    metrics: dict[str, str]

    @staticmethod
    def of(scoring: schema.Scoring, tests: Iterable[tuple[Manifest, SplitName]]) -> Basis:
        """Of no run yet."""
        digests = {f"{manifest.dataset}/{split}": manifest.digest(split) for manifest, split in tests}
        metrics = {
            name: files.digest([metric.model_dump(mode="json", exclude={"title"}), scoring.crop_border])
            for name, metric in scoring.metrics.items()
        }
        return Basis(weights={}, tests=digests, metrics=metrics)

    def of_runs(self, weights: Mapping[str, str]) -> Basis:
        return self.model_copy(update={"weights": dict(weights)})

    def difference(self, now: Basis) -> str | None:
        """The first test dataset or metric that was another when the scores were made; what is only in one is none."""
        for name, digest in self.tests.items():
            if now.tests.get(name, digest) != digest:
                return f"with other images of {name}"
        for name, digest in self.metrics.items():
            if now.metrics.get(name, digest) != digest:
                return f"with other conventions of {name}"
        return None


def write_scores(frame: pd.DataFrame, path: Path, basis: Basis, key: str = "") -> None:
    """Write scores atomically, the same bytes for the same scores; `basis`, `key` and a checksum of the rows inside."""
    import pyarrow
    import pyarrow.parquet

    about = json.dumps({"key": key, "sha256": _checksum(frame), "basis": basis.model_dump()}, sort_keys=True)
    table = pyarrow.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata({METADATA: about})
    with files.atomic_write(path) as temporary:
        pyarrow.parquet.write_table(table, temporary)


class Scores(NamedTuple):
    """What a file of scores holds: its rows, what they were made of, and the key they were written with."""

    rows: pd.DataFrame
    basis: Basis
    key: str


def read_scores(path: Path) -> Scores:
    """The content of a file of scores; `UserError` where it is missing, torn or not as it was written."""
    import pyarrow
    import pyarrow.parquet

    try:
        # Opened here: pyarrow reads every file of a folder, and takes some names for addresses.
        with path.open("rb") as file:
            table = pyarrow.parquet.read_table(file)
        about = json.loads((table.schema.metadata or {})[METADATA])
        scores = Scores(typed(table.to_pandas()), Basis.model_validate(about["basis"]), str(about["key"]))
        expected, found = about["sha256"], _checksum(scores.rows)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file of scores") from None
    except (pyarrow.ArrowException, OSError, ValueError, KeyError, TypeError, ArithmeticError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: no file of scores, or a torn one ({reason}); {REMAKE}") from None
    if found != expected:
        raise UserError(f"{path}: changed after it was written: its rows differ from their checksum; {REMAKE}")
    return scores


def kept_scores(path: Path, key: str) -> pd.DataFrame | None:
    """The rows of a file that was written with `key`; None where there is no file or one of another key.

    `UserError` for a file that is not as it was written.
    """
    if not path.is_file():
        return None
    scores = read_scores(path)
    return scores.rows if scores.key == key else None


def sorted_scores(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """All rows in one frame, sorted by all columns."""
    import pandas as pd

    return typed(pd.concat(frames, ignore_index=True).sort_values(list(COLUMNS), ignore_index=True))


def typed(frame: pd.DataFrame) -> pd.DataFrame:
    """The columns of a file of scores, in their order and types."""
    text = [name for name in COLUMNS if name not in ("seed", "value", "crop_border")]
    kinds = {**dict.fromkeys(text, "string"), "seed": "Int64", "value": "float64", "crop_border": "int64"}
    return frame[list(COLUMNS)].astype(kinds)


def _checksum(frame: pd.DataFrame) -> str:
    """SHA-256 of the rows in their order, values to the bit."""
    import pandas as pd

    hashes = pd.util.hash_pandas_object(frame, index=False)
    return hashlib.sha256(hashes.to_numpy().tobytes()).hexdigest()
