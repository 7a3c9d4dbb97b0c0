"""Pretraining leaves a backbone with its record, or nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from adaptsr.data.manifest import manifest_path
from adaptsr.data.prepare import prepare
from adaptsr.errors import UserError
from adaptsr.runs.matrix import Matrix
from adaptsr.training.pretraining import pretrain
from tests.factories import matrix_of, pairs_profile, write_pairs


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_pairs(Path("pairs"), ["a", "b", "c"])


def pretraining(**changes: object) -> Matrix:
    content = pairs_profile({"train": "first 1", "validation": "last 1", "test": "1 first of each name of rest"})
    content["data"]["validation"] = {"dataset": "photos", "split": "validation"}
    content["pretraining"] = {"dataset": "photos", "training": {**content["training"], **changes}}
    matrix = matrix_of(content)
    prepare("photos", matrix.profile.datasets["photos"], manifest_path("photos").parent, 4)
    return matrix


def test_a_backbone_comes_with_its_record() -> None:
    pretrain(pretraining(), "edsr", Path("edsr.safetensors"), lambda line: None)
    assert Path("edsr.safetensors").is_file()
    assert Path("edsr.json").is_file()


def test_weights_that_diverged_are_not_written() -> None:
    with pytest.raises(UserError, match=r"edsr: diverged at iteration 1; lower pretraining\.training\.lr"):
        pretrain(pretraining(diverged_above=1e-9), "edsr", Path("edsr.safetensors"), lambda line: None)
    assert not Path("edsr.safetensors").exists()
    assert not Path("edsr.json").exists()
