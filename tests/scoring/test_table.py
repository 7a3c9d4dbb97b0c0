"""Score files are read forward, and what is no score file is refused in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from adaptsr.errors import UserError
from adaptsr.scoring.table import COLUMNS, METADATA, SCHEMA, read_scores, write_scores

PAST = Path(__file__).parent / "past"
"""One score file of each past schema, as the code of its day wrote it."""


def test_a_score_file_of_every_past_schema_is_kept_here() -> None:
    assert {path.stem for path in PAST.glob("scores-*.parquet")} == {f"scores-{number}" for number in range(1, SCHEMA)}


@pytest.mark.parametrize("number", range(1, SCHEMA))
def test_a_score_file_of_a_past_schema_is_read(number: int) -> None:
    rows, fingerprint = read_scores(PAST / f"scores-{number}.parquet")
    assert tuple(rows.columns) == COLUMNS
    assert set(fingerprint.weights) == {"edsr/lora/r1/seed1"}
    assert set(rows["metric"]) == set(fingerprint.metrics) == {"psnr_y", "ssim_y", "lpips", "dists", "gmsd", "nlpd"}
    assert rows.query("metric == 'psnr_y'")["value"].between(15, 40).all()


def changed(path: Path, **about: Any) -> None:
    table = pyarrow.parquet.read_table(path)
    content = json.loads(table.schema.metadata[METADATA]) | about
    pyarrow.parquet.write_table(table.replace_schema_metadata({METADATA: json.dumps(content)}), path)


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({"schema": SCHEMA + 1}, f"a score file of schema {SCHEMA + 1}, this code reads up to {SCHEMA}"),
        ({"schema": "two"}, "not a score file"),
        ({"sha256": "0"}, "changed after it was written"),
        ({"fingerprint": {}}, "does not say what it was made from"),
        ({"fingerprint": None}, "does not say what it was made from"),
    ],
)
def test_what_is_no_score_file_is_one_line(about: dict[str, Any], said: str, tmp_path: Path) -> None:
    rows, fingerprint = read_scores(PAST / "scores-1.parquet")
    path = tmp_path / "scores.parquet"
    write_scores(rows, path, fingerprint)
    assert read_scores(path).rows.equals(rows)
    changed(path, **about)
    with pytest.raises(UserError, match=said):
        read_scores(path)
