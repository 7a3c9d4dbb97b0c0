"""Records are read forward: those of past code load, and those of later code are left alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adaptsr.errors import UserError
from adaptsr.runs.keys import Inputs
from adaptsr.runs.records import SCHEMA, RecordTooNew, RunRecord, another_run, read_record

PAST = Path(__file__).parent / "past"
"""One record of each past schema, as the code of its day wrote it."""


@pytest.fixture
def record() -> RunRecord:
    past = read_record(PAST / "record-1.json")
    inputs = Inputs(weights="0" * 64, train=("1" * 64,), validation="2" * 64)
    return past.model_copy(update={"schema_number": SCHEMA, "inputs": inputs, "variant_key": "3" * 64})


def test_a_record_of_every_past_schema_is_kept_here() -> None:
    assert {path.stem for path in PAST.glob("record-*.json")} == {f"record-{number}" for number in range(1, SCHEMA)}


@pytest.mark.parametrize("number", range(1, SCHEMA))
def test_a_record_of_a_past_schema_is_read(number: int) -> None:
    path = PAST / f"record-{number}.json"
    record, written = read_record(path), json.loads(path.read_text())
    assert (record.backbone, record.baseline, record.variant, record.seed) == ("edsr", "lora", "r1", 1)
    assert record.adaptation_sha256 == written["adaptation_sha256"]
    assert [point.psnr_y for point in record.validation] == [point["psnr_y"] for point in written["validation"]]
    assert record.is_older
    assert "a run of older code, whose keys cannot be compared" in another_run(path, record)


def test_a_record_comes_back_as_it_was_written(record: RunRecord, tmp_path: Path) -> None:
    record.write(tmp_path / "record.json")
    again = read_record(tmp_path / "record.json")
    assert again == record
    assert (again.key, again.result_key, again.is_older) == (record.key, record.result_key, False)
    assert json.loads((tmp_path / "record.json").read_text())["schema"] == SCHEMA


def test_a_field_that_a_record_lacks_takes_its_default(record: RunRecord, tmp_path: Path) -> None:
    """As a field does that code of a later day adds: the run stays finished, under its key."""
    record.write(tmp_path / "record.json")
    content = json.loads((tmp_path / "record.json").read_text())
    for name in ("diverged_at", "plan_sha256"):
        del content[name]
    (tmp_path / "record.json").write_text(json.dumps(content))
    again = read_record(tmp_path / "record.json")
    assert again.plan_sha256 is None
    assert again.key == record.key


def test_a_record_of_later_code_is_refused_in_one_line(record: RunRecord, tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    record.write(path)
    content = json.loads(path.read_text()) | {"schema": SCHEMA + 1, "a_new_field": {}}
    path.write_text(json.dumps(content))
    with pytest.raises(RecordTooNew, match=f"a record of schema {SCHEMA + 1}, this code reads up to {SCHEMA}; update"):
        read_record(path)


@pytest.mark.parametrize("content", ["", "[1]", "{", '{"schema": "two"}', '{"schema": 2}', "null", "[" * 100_000])
def test_what_is_no_record_is_one_line(content: str, tmp_path: Path) -> None:
    path = tmp_path / "lora" / "r1" / "seed1" / "record.json"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    with pytest.raises(UserError, match=r"record\.json: not a run record: .*delete .*r1/runs\.\*\.json") as refused:
        read_record(path)
    assert "\n" not in str(refused.value)
