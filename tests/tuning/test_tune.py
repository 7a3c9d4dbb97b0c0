"""Tuning trains, scores and chooses on the validation split, and repeats only what has changed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from adaptsr.backbones.build import build
from adaptsr.config import schema
from adaptsr.data.manifest import manifest_path
from adaptsr.data.prepare import prepare
from adaptsr.errors import UserError
from adaptsr.runs.matrix import Matrix
from adaptsr.tuning.tune import choice_here, tune
from tests.factories import Json, baselines, matrix_of, pairs_profile, write_pairs

ROW = "lora/r1"


def content(**tuning: object) -> Json:
    made = pairs_profile(
        {"train": "first 2", "validation": "last 2", "test": "none"},
        tuning={"grid": {"lr": [1e-4, 1e-2]}, "seeds": [101, 102], "metric": "psnr_y", **tuning},
        baselines=baselines({"lora": ["r1"]}),
    )
    made["backbones"]["edsr"]["weights"] = "small.pth"
    made["data"]["validation"] = {"dataset": "photos", "split": "validation"}
    made["datasets"]["tests"] = made["datasets"]["photos"] | {
        "lr": "tests/lr",
        "hr": "tests/hr",
        "split": {"test": "all"},
    }
    made["data"]["test"] = [{"dataset": "tests"}]
    return made


def prepared(made: Json) -> Matrix:
    matrix = matrix_of(made)
    for name, declared in matrix.profile.datasets.items():
        assert isinstance(declared, schema.Pairs)
        prepare(name, declared, manifest_path(name).parent, 4)
    return matrix


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_pairs(Path("pairs"), ["a", "b", "c", "d"])
    write_pairs(Path("tests"), ["e"])
    torch.manual_seed(0)
    small = schema.Backbone(architecture="edsr", options={"num_feat": 4, "num_block": 1})
    torch.save(build(small, 4).state_dict(), "small.pth")


def records() -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in Path("results").rglob("record.json")}


def test_the_best_point_on_the_validation_split_is_chosen_and_nothing_is_done_twice() -> None:
    matrix = prepared(content())
    chosen = tune(matrix, "edsr", ROW, lambda line: None)
    runs = records()
    folders = {str(path.parent) for path in runs}
    assert folders == {
        f"results/small/tuning/lr={lr}/edsr/{ROW}/seed{seed}" for lr in ("0.0001", "0.01") for seed in (101, 102)
    }
    means = {tried.point["lr"]: tried.mean for tried in chosen.tried}
    assert chosen.options == {"lr": max(means, key=lambda lr: means[lr] or 0)}
    for tried in chosen.tried:
        for seed, value in tried.values.items():
            record = json.loads(
                Path(f"results/small/tuning/lr={tried.point['lr']}/edsr/{ROW}/seed{seed}/record.json").read_text()
            )
            assert value == pytest.approx(record["validation"][-1]["psnr_y"], abs=1e-4), (
                "PSNR-Y on the validation images"
            )
            assert record["config"]["training"]["lr"] == tried.point["lr"]
    assert tune(matrix, "edsr", ROW, lambda line: None) == chosen
    assert records() == runs
    path = Path("choice.json")
    assert choice_here(matrix, "edsr", ROW, path) is None
    chosen.write(path)
    assert choice_here(matrix, "edsr", ROW, path) == chosen
    other = chosen.model_copy(update={"inputs": chosen.inputs.model_copy(update={"validation": "0" * 64})})
    other.write(path)
    assert choice_here(matrix, "edsr", ROW, path) is None, "chosen on other images"
    wider = tune(prepared(content(grid={"lr": [1e-4, 1e-2, 1e-1]})), "edsr", ROW, lambda line: None)
    assert {path for path in records() if path not in runs} == {path for path in records() if "lr=0.1/" in str(path)}
    assert wider.tried[:2] == chosen.tried
    assert wider.asked != chosen.asked


def test_another_metric_chooses_by_its_own_scores_alone() -> None:
    """Those of the metric before lie in the same files."""

    def content_of(metric: str) -> Json:
        made = content(metric=metric)
        made["scoring"]["metrics"]["ssim_y"] = {"name": "ssim", "title": "SSIM-Y"}
        return made

    before = tune(prepared(content_of("psnr_y")), "edsr", ROW, lambda line: None)
    after = tune(prepared(content_of("ssim_y")), "edsr", ROW, lambda line: None)
    values = [value for tried in after.tried for value in tried.values.values()]
    assert all(value is not None and -1 <= value <= 1 for value in values), "SSIM, not a mean with PSNR in it"
    assert [tried.values for tried in tune(prepared(content_of("psnr_y")), "edsr", ROW, lambda line: None).tried] == [
        tried.values for tried in before.tried
    ]


def test_a_point_that_diverges_is_never_chosen() -> None:
    made = content(grid={"lr": [1e-4, 1e-2], "decay": [0.5, 0.9]}, seeds=[101])
    made["training"]["diverged_above"] = 1e-9
    chosen = tune(prepared(made), "edsr", ROW, lambda line: None)
    assert chosen.options == {}
    assert [list(tried.values.values()) for tried in chosen.tried] == [[None]] * 4


def test_a_test_image_in_the_validation_split_is_refused_before_anything_is_trained() -> None:
    for side in ("lr", "hr"):
        Path(f"tests/{side}/e.png").write_bytes(Path(f"pairs/{side}/d.png").read_bytes())
    with pytest.raises(UserError, match=r"HR d of photos \(validation\) is the test image e of tests"):
        tune(prepared(content()), "edsr", ROW, lambda line: None)
    assert records() == {}


def test_a_profile_without_tuning_is_told_so() -> None:
    made = content()
    del made["tuning"]
    with pytest.raises(UserError, match=r"small\.yaml: tuning: nothing to tune for lora/r1"):
        tune(prepared(made), "edsr", ROW, lambda line: None)
