"""A backbone and its variants are tried before they train: what works is remembered, what does not is refused with its reason."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from adaptsr.adaptation.baseline_files import FOLDER
from adaptsr.backbones.build import build, build_from_file
from adaptsr.backbones.gate import facts, gate
from adaptsr.backbones.sites import dead_sites, find_sites
from adaptsr.backbones.sizes import Sizes
from adaptsr.backbones.trial import discs
from adaptsr.config import schema
from adaptsr.config.mistakes import validate
from adaptsr.data.degradation import bicubic
from adaptsr.data.images import to_float, to_uint8
from adaptsr.data.manifest import manifest_path
from adaptsr.data.prepare import prepare
from adaptsr.data.store import PairSet
from adaptsr.runs.loading import write_merged
from adaptsr.runs.matrix import Matrix
from adaptsr.runs.run import Run
from adaptsr.scoring.score_runs import score_block
from adaptsr.training import acceptance, train_runs
from adaptsr.training.acceptance import Accepted, accept, as_text
from tests.factories import pairs_profile, refusal, write_pairs

CPU = torch.device("cpu")


class Overwriting(nn.Module):
    """Computes the convolution of eval mode from those of training, as re-parametrized models do, and changes features in place."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(3, 8, 1)
        self.narrow = nn.Conv2d(8, 3, 1)
        self.joined = nn.Conv2d(3, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            return self.narrow(self.wide(x)) + x
        weight = self.narrow.weight[:, :, 0, 0] @ self.wide.weight[:, :, 0, 0]
        self.joined.weight.data = weight.detach()[:, :, None, None]
        self.joined.bias.data = (self.narrow.weight[:, :, 0, 0] @ self.wide.bias + self.narrow.bias).detach()  # type: ignore[union-attr]
        out = self.joined(x)
        out[:, :1] = out[:, :1] * 1
        output: torch.Tensor = out + x
        return output


class Pooling(nn.Module):
    """Normalises over the batch what it pools from each image."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.weigh = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.conv(x) * self.weigh(x)
        return output


class TwoOutputs(nn.Conv2d):
    def forward(self, x: torch.Tensor) -> Any:
        restored = super().forward(x)
        return [restored, restored] if self.training else restored


BROKEN = '''
"""Broken (nobody, nowhere): trains what cannot be merged, or is not used."""

import torch
from torch import nn

from adaptsr.adaptation.reparametrization import Plan

OPTIONS = {"unused": False}
VARIANTS = {"unmerged": {}, "unused": {"unused": True}}
ROWS = ["unmerged", "unused"]
PROTOCOL = 1


class Shifted(nn.Module):
    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.ones(()))

    def forward(self, module, inputs, output):
        return output + self.shift


def plan(backbone, sites, options, calibration, seed):
    return Plan({"unused": options["unused"]})


def attach(model, plan):
    model.shifted = Shifted()
    if not plan.settings["unused"]:
        model.register_forward_hook(model.shifted)
'''


def matrix_of(
    crop: int = 32,
    batch_size: int = 2,
    scale: int = 1,
    weights: str | None = None,
    folders: Sequence[Path] = (FOLDER,),
    **declared: Any,
) -> Matrix:
    content = pairs_profile(
        {"train": "rest", "test": "last 1"},
        scale=scale,
        seeds=[1],
        training={"iterations": 2, "batch_size": batch_size, "crop": crop, "lr": 0.01, "validate_every": 2},
    )
    content["data"]["validation"]["split"] = "train"
    if weights:
        content["backbones"] = {"given": {"architecture": "auto", "weights": weights, **declared}}
    return Matrix.of(validate(content, Path("small.yaml")), "small.yaml", folders)


def accepted(model: nn.Module, row: str, matrix: Matrix) -> Accepted:
    gated = gate(model, "it", Sizes())
    return accept(matrix, "it", gated, find_sites(gated), [row], CPU)


@pytest.mark.parametrize(
    "row", ["full_finetuning/all", "lora/r4", "rank_aware/gradient", "rank_aware/activation", "shira/paper"]
)
def test_weights_that_eval_mode_overwrites(row: str) -> None:
    """They are no sites and do not train; the merged file holds what they become."""
    model = Overwriting()
    found = accepted(model, row, matrix_of())
    assert found.dead_sites == dead_sites(model) == ["joined"]
    assert found.sites == {"conv": 2}
    if row == "full_finetuning/all":
        assert found.trainable[row] == sum(p.numel() for p in [*model.wide.parameters(), *model.narrow.parameters()])
    assert "unused by its forward: joined" in as_text(found)


@pytest.mark.parametrize(
    ("make", "row", "options", "said"),
    [
        (
            lambda: nn.Sequential(nn.ReflectionPad2d(9), nn.Conv2d(3, 3, 19)),
            "lora/r4",
            {"crop": 8},
            "fails on LR crops of 8 x 8 pixels (training.crop / scale): RuntimeError: ",
        ),
        (Pooling, "full_finetuning/all", {"batch_size": 1}, "set training.batch_size to 2 or more"),
        (lambda: TwoOutputs(3, 3, 1), "lora/r4", {}, "cannot be trained: its forward fails in training mode"),
        (lambda: nn.Conv2d(3, 3, 1), "broken/unmerged", {}, "the merged model restores an image differently, by up to"),
        (lambda: nn.Conv2d(3, 3, 1), "broken/unused", {}, "broken/unused: no gradient reaches shifted.shift;"),
        (lambda: nn.Conv2d(3, 3, 1), "difffit/gamma", {}, "difffit: no site of this backbone ends a residual branch"),
    ],
    ids=["a crop too small", "statistics of one value", "two outputs", "not merged", "unused", "no branch"],
)
def test_refused(tmp_path: Path, make: Callable[[], nn.Module], row: str, options: dict[str, Any], said: str) -> None:
    (tmp_path / "broken.py").write_text(BROKEN)
    assert said in refusal(lambda: accepted(make(), row, matrix_of(folders=[FOLDER, tmp_path], **options)))


def test_a_crop_too_small_is_told_the_one_that_works() -> None:
    model = nn.Sequential(nn.ReflectionPad2d(9), nn.Conv2d(3, 3, 19))
    assert refusal(lambda: accepted(model, "lora/r4", matrix_of(crop=8))).endswith("; set training.crop to 16 or more")


def test_statistics_of_one_value_matter_only_where_they_train() -> None:
    assert accepted(Pooling(), "lora/r4", matrix_of(batch_size=1)).trainable["lora/r4"] > 0


def small_file(scale: int, path: Path) -> str:
    torch.manual_seed(scale)
    options = {"dim": 8, "n_blocks": 1, "upscaling_factor": scale}
    torch.save(build(schema.Backbone(architecture="SAFMN", options=options), scale).state_dict(), path)
    return str(path)


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_other_scales_from_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scale: int) -> None:
    """Accepted, remembered, trained without a second look, scored, merged and read back."""
    monkeypatch.chdir(tmp_path)
    write_pairs(Path("pairs"), ["a", "b", "c"], (16, 16), scale)
    matrix = matrix_of(crop=16 * scale, scale=scale, weights=small_file(scale, tmp_path / "given.pth"))
    prepare("photos", matrix.profile.datasets["photos"], manifest_path("photos").parent, scale)
    model = build(matrix.profile.backbones["given"], scale)
    rows = [row for row in matrix.rows if row.name == "rank_aware/gradient"]
    found = accept(matrix, "given", model, find_sites(model), [rows[0].name], CPU)
    assert found.scale == facts(model).scale == scale
    acceptance.write(matrix, found, acceptance.path_of(matrix, "given"))
    monkeypatch.setattr(train_runs, "accept", lambda *_: pytest.fail("looked twice"))
    train_runs.ensure_runs(matrix, "given", rows[0].name, [1], lambda _: None)
    score_block(matrix, "given", matrix.tests, rows, Path("scores.json"), lambda _: None)
    run = Run("given", rows[0].name, 1).folder(matrix.results)
    write_merged(run, Path("merged.pth"))
    assert facts(build_from_file(Path("merged.pth"))).scale == scale


def test_what_is_remembered_belongs_to_its_weights_and_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    matrix = matrix_of(weights=small_file(1, tmp_path / "given.pth"))
    assert not acceptance.remembered(matrix, "given", "lora/r4")
    model = build(matrix.profile.backbones["given"], 1)
    path = acceptance.path_of(matrix, "given")
    acceptance.write(matrix, accept(matrix, "given", model, find_sites(model), ["lora/r4"], CPU), path)
    assert acceptance.remembered(matrix, "given", "lora/r4")
    assert not acceptance.remembered(matrix, "given", "lora/r8")
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "rows": {"lora/r4": "other options"}}))
    assert not acceptance.remembered(matrix, "given", "lora/r4")
    path.write_text(json.dumps(content))
    torch.save(copy.deepcopy(model).requires_grad_(False).double().state_dict(), tmp_path / "given.pth")
    assert not acceptance.remembered(matrix, "given", "lora/r4")


def test_weights_that_restore_far_below_bicubic(tmp_path: Path) -> None:
    """They are refused before a step, unless the profile allows it; random weights that nobody declares are not compared."""
    weights = small_file(4, tmp_path / "given.pth")
    matrix = matrix_of(scale=4, weights=weights)
    model = build(matrix.profile.backbones["given"], 4)
    hr = [to_uint8(discs(seed))[0] for seed in range(2)]
    lr = [to_uint8(bicubic(to_float(image[None]), 4))[0] for image in hr]
    pairs = PairSet("photos", 4, ["a", "b"], ["a", "b"], lr, hr)
    checked = model, find_sites(model), ["lora/r4"], CPU, pairs
    said = refusal(lambda: accept(matrix, "given", *checked))
    assert said.startswith("small.yaml: backbone given: restores 2 validation pairs at ")
    assert accept(matrix, "given", *checked[:-1]).start is None
    warnings: list[str] = []
    assert accept(matrix, "given", *checked, say=warnings.append).start is None
    assert warnings == [f"warning: {said}"]
    allowed = matrix_of(scale=4, weights=weights, below_bicubic=100)
    found = accept(allowed, "given", *checked)
    assert found.start is not None
    assert found.start["below_bicubic"] == 100
    assert "validation pairs: " in as_text(found)
    assert accept(matrix_of(scale=4), "edsr", *checked).start is None
