"""Files of scores: one row per image and metric, checked when they are read. Costs no torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from adaptsr import records
from adaptsr.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

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


def write_scores(frame: pd.DataFrame, path: Path, key: str = "") -> None:
    """Write scores atomically, the same bytes for the same scores, with `key` and a checksum of the rows inside."""
    import pyarrow
    import pyarrow.parquet

    about = json.dumps({"key": key, "sha256": _checksum(frame)}, sort_keys=True)
    table = pyarrow.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata({METADATA: about})
    with records.atomic_write(path) as temporary:
        pyarrow.parquet.write_table(table, temporary)


def read_scores(path: Path) -> pd.DataFrame:
    """The rows of a file of scores; `UserError` where it is missing, torn or not as it was written."""
    return _read(path)[0]


def kept_scores(path: Path, key: str) -> pd.DataFrame | None:
    """The rows of a file that was written with `key`; None where there is no file or one of another key.

    `UserError` for a file of this key that is not as it was written.
    """
    if not path.is_file():
        return None
    frame, found = _read(path)
    return frame if found == key else None


def sorted_scores(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """All rows in one frame, sorted by all columns."""
    import pandas as pd

    return typed(pd.concat(frames, ignore_index=True).sort_values(list(COLUMNS), ignore_index=True))


def typed(frame: pd.DataFrame) -> pd.DataFrame:
    """The columns of a file of scores, in their order and types."""
    text = [name for name in COLUMNS if name not in ("seed", "value", "crop_border")]
    kinds = {**dict.fromkeys(text, "string"), "seed": "Int64", "value": "float64", "crop_border": "int64"}
    return frame[list(COLUMNS)].astype(kinds)


def _read(path: Path) -> tuple[pd.DataFrame, str]:
    """The rows and the key they were written with."""
    import pyarrow
    import pyarrow.parquet

    try:
        # Opened here: pyarrow reads every file of a folder, and takes some names for addresses.
        with path.open("rb") as file:
            table = pyarrow.parquet.read_table(file)
        about = json.loads((table.schema.metadata or {})[METADATA])
        frame = typed(table.to_pandas())
        key, expected, found = str(about["key"]), about["sha256"], _checksum(frame)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file of scores") from None
    except (pyarrow.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: no file of scores, or a torn one ({reason}); {_REMAKE}") from None
    if found != expected:
        raise UserError(f"{path}: changed after it was written: its rows differ from their checksum; {_REMAKE}")
    return frame, key


_REMAKE = "delete it to have it made again"


def _checksum(frame: pd.DataFrame) -> str:
    """SHA-256 of the rows in their order, values to the bit."""
    import pandas as pd

    hashes = pd.util.hash_pandas_object(frame, index=False)
    return hashlib.sha256(hashes.to_numpy().tobytes()).hexdigest()
