"""A row that goes on from another: with its plan and what it trained, in its key, and refused where that makes no sense."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from adaptsr.adaptation.reparametrization import Plan
from adaptsr.backbones.build import build
from adaptsr.data.manifest import manifest_path
from adaptsr.data.prepare import prepare
from adaptsr.errors import UserError
from adaptsr.runs.matrix import Matrix
from adaptsr.runs.records import RunRecord, read_record
from adaptsr.runs.run import Run
from adaptsr.runs.validation import check
from adaptsr.tensors import load_tensors
from adaptsr.training.train_runs import ensure_runs
from tests.factories import matrix_of, pairs_profile, refusal, write_pairs

FIRST, THEN = "lora/first", "lora/then"


def matrix(variants: dict[str, Any] | None = None, **more: Any) -> Matrix:
    own = {"first": {"rank": 2}, "then": {"rank": 2, "start": FIRST, "training": {"lr": 1e-9}}, **(variants or {})}
    content = pairs_profile(
        {"train": "rest", "validation": "first 1", "test": "last 1"},
        training={"iterations": 3, "batch_size": 1, "crop": 32, "lr": 0.01, "validate_every": 3},
        baselines={"lora": {"variants": own}},
        **more,
    )
    content["data"]["validation"]["split"] = "validation"
    content["backbones"]["edsr"]["weights"] = "edsr.pth"
    return matrix_of(content)


@pytest.fixture
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Matrix:
    monkeypatch.chdir(tmp_path)
    write_pairs(Path("pairs"), "abc", (8, 8))
    made = matrix()
    torch.save(build(made.profile.backbones["edsr"], 4, load=False).state_dict(), "edsr.pth")
    prepare("photos", made.profile.datasets["photos"], manifest_path("photos").parent, 4)
    return made


def train(made: Matrix, row: str) -> RunRecord:
    ensure_runs(made, "edsr", row, [1], lambda line: None)
    return read_record(folder(made, row) / "record.json")


def folder(made: Matrix, row: str) -> Path:
    return Run("edsr", row, 1).folder(made.results)


def test_a_run_goes_on_from_what_another_trained(prepared: Matrix) -> None:
    first, then = train(prepared, FIRST), train(prepared, THEN)
    assert Plan.sha256(folder(prepared, THEN)) == Plan.sha256(folder(prepared, FIRST))
    assert then.start_psnr_y == first.validation[-1].psnr_y
    assert first.start_psnr_y != first.validation[-1].psnr_y
    before, after = (load_tensors(folder(prepared, row) / "adaptation.safetensors")[0] for row in (FIRST, THEN))
    for name, tensor in before.items():
        torch.testing.assert_close(after[name], tensor, rtol=0, atol=1e-7)
    assert "It goes on from the run of lora/first with the same seed" in then.plan_notes[-1]
    assert first.plan_notes == []


def test_its_key_holds_the_key_of_the_other() -> None:
    plain = matrix()
    other = matrix({"first": {"rank": 2, "training": {"iterations": 4}}})
    assert plain.variant_key("edsr", THEN) != other.variant_key("edsr", THEN)
    alone = matrix({"then": {"rank": 2, "training": {"lr": 1e-9}}})
    assert plain.variant_key("edsr", THEN) != alone.variant_key("edsr", THEN)
    assert plain.variant_key("edsr", FIRST) == alone.variant_key("edsr", FIRST)


def test_it_waits_for_the_other(prepared: Matrix) -> None:
    with pytest.raises(UserError, match=r"lora/first/seed1/record.json: no such record; the run is missing"):
        train(prepared, THEN)
    train(prepared, FIRST)
    (folder(prepared, FIRST) / "adaptation.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match=r"lora/then goes on from this run, which is diverged, damaged"):
        train(prepared, THEN)


TUNING = {"grid": {"lr": [0.1, 0.2]}, "seeds": [9], "metric": "psnr_y"}


@pytest.mark.parametrize(
    ("variants", "more", "said"),
    [
        ({"first": {"rank": 4}}, {}, "lora/first has other options than lora/then"),
        ({"first": {"rank": 2, "start": THEN}}, {}, "lora/then must start from the backbone"),
        ({"then": {"rank": 2, "start": THEN}}, {}, "lora/then must start from the backbone"),
        ({"then": {"rank": 2, "start": "lora/frist"}}, {}, "no row 'lora/frist' (did you mean 'lora/first'?)"),
        ({}, {"tuning": TUNING}, "a profile with `tuning` cannot have it"),
    ],
)
def test_what_makes_no_sense_is_refused(variants: dict[str, Any], more: dict[str, Any], said: str) -> None:
    message = refusal(lambda: check(matrix(variants, **more), weights=False))
    assert ".start: " in message
    assert said in message
