"""Score files are read forward, whole and unchanged, or refused in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest

from adaptsr.scoring.table import COLUMNS, METADATA, SCHEMA, Fingerprint, read_scores, typed, write_scores
from tests.factories import better, change_rows, cut, refusal

PAST = Path(__file__).parent / "past"
"""One score file of each past schema, as the code of its day wrote it."""
ROW: dict[str, Any] = dict.fromkeys(COLUMNS, "x") | {"seed": 1, "value": 27.5, "crop_border": 0}
ROWS = typed(pd.DataFrame([ROW | {"image": str(image), "value": 27.5 + image} for image in range(3)]))
FINGERPRINT = Fingerprint(weights={"a/b/c/seed1": "0" * 64}, tests={"x/test": "1" * 64}, metrics={"psnr_y": "2" * 64})


def test_a_score_file_of_every_past_schema_is_kept_here() -> None:
    assert {path.stem for path in PAST.glob("scores-*.parquet")} == {f"scores-{number}" for number in range(1, SCHEMA)}


@pytest.mark.parametrize("number", range(1, SCHEMA))
def test_a_score_file_of_a_past_schema_is_read(number: int) -> None:
    rows, fingerprint = read_scores(PAST / f"scores-{number}.parquet")
    assert tuple(rows.columns) == COLUMNS
    assert set(fingerprint.weights) == {"edsr/lora/r1/seed1"}
    assert set(rows["metric"]) == set(fingerprint.metrics) == {"psnr_y", "ssim_y", "lpips", "dists", "gmsd", "nlpd"}
    assert rows.query("metric == 'psnr_y'")["value"].between(15, 40).all()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "scores.parquet"
    write_scores(ROWS, path, FINGERPRINT)
    return path


def test_what_is_written_is_read(path: Path) -> None:
    assert read_scores(path).rows.equals(ROWS)
    assert read_scores(path).fingerprint == FINGERPRINT
    path.unlink()
    assert f"{path}: no such score file" in refusal(lambda: read_scores(path))


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({"schema": SCHEMA + 1}, f"a score file of schema {SCHEMA + 1}, this code reads up to {SCHEMA}"),
        ({"schema": "two"}, "not a score file"),
        ({"sha256": "0"}, "changed after it was written"),
        ({"fingerprint": {}}, "does not say what it was made from"),
        ({"fingerprint": None}, "does not say what it was made from"),
        ({"fingerprint": {"weights": [1], "evil": 2}}, "does not say what it was made from"),
    ],
)
def test_what_a_file_says_of_itself_is_checked(path: Path, about: dict[str, Any], said: str) -> None:
    table = pyarrow.parquet.read_table(path)
    content = json.loads(table.schema.metadata[METADATA]) | about
    pyarrow.parquet.write_table(table.replace_schema_metadata({METADATA: json.dumps(content)}), path)
    assert said in refusal(lambda: read_scores(path))


CHANGES: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "a value": better,
    "a row less": lambda rows: rows.iloc[1:],
    "a row twice": lambda rows: pd.concat([rows, rows.iloc[:1]]),
    "another seed": lambda rows: rows.assign(seed=rows["seed"].replace(1, 3)),
    "another order": lambda rows: rows.iloc[::-1],
}


@pytest.mark.parametrize("case", CHANGES)
def test_changed_rows_are_noticed(path: Path, case: str) -> None:
    change_rows(path, CHANGES[case])
    assert f"{path}: changed after it was written" in refusal(lambda: read_scores(path))


def test_other_files_are_refused(path: Path) -> None:
    whole = path.read_bytes()
    pd.read_parquet(path).to_parquet(path)
    for content in (path.read_bytes(), cut(whole, 0.5), b""):
        path.write_bytes(content)
        assert f"{path}: not a score file" in refusal(lambda: read_scores(path))


def table(**values: Any) -> pyarrow.Table:
    return pyarrow.table({name: [value] for name, value in (ROW | values).items()})


HANDED_OVER: dict[str, tuple[pyarrow.Table, bytes]] = {
    "metadata nested deeply": (table(), b"[" * 100_000),
    "metadata that is a list": (table(), b"[]"),
    "metadata of bytes": (table(), b"\xff\xfe"),
    "a seed of many digits": (table(seed=Decimal("1e30")), b"{}"),
    "a value of words": (table(value="high"), b"{}"),
    "a column less": (table().drop_columns(["value"]), b"{}"),
    "a list in a column": (table(image=["a", "b"]), b"{}"),
}


@pytest.mark.parametrize("case", HANDED_OVER)
def test_files_that_a_colleague_hands_over(tmp_path: Path, case: str) -> None:
    content, metadata = HANDED_OVER[case]
    path = tmp_path / "scores.parquet"
    pyarrow.parquet.write_table(content.replace_schema_metadata({METADATA: metadata}), path)
    assert str(path) in refusal(lambda: read_scores(path))
