"""Options that no file shows are found by trial or taken from the profile; a start far below bicubic is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

from adaptsr.backbones.build import build, build_from_file
from adaptsr.backbones.gate import facts
from adaptsr.backbones.trial import check_start, discs
from adaptsr.config.schema import Backbone
from adaptsr.data.degradation import bicubic
from adaptsr.data.images import to_float, to_uint8
from adaptsr.data.store import PairSet
from tests.backbones.helpers import fresh
from tests.factories import refusal

State = dict[str, torch.Tensor]

IMAGE = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def demo(repository: Path) -> Callable[[str], State]:
    """The demo's small trained weights."""
    return lambda name: safetensors.torch.load_file(repository / f"resources/demo/{name}.safetensors")


def scaled(state: State, factors: Mapping[str, float]) -> State:
    """Scale the tensors whose key ends as given."""
    by_key = {key: factor for key in state for end, factor in factors.items() if key.endswith(end)}
    return {key: value * by_key.get(key, 1) for key, value in state.items()}


def by_authors(state: State) -> State:
    """An EDSR of four blocks as its authors' code writes it, with mean-shift layers for levels in [0, 1]."""
    renamed = {}
    for key, value in state.items():
        new = (
            key.replace("conv_first.", "head.0.")
            .replace("conv_after_body.", "body.4.")
            .replace("conv_last.", "tail.1.")
        )
        new = new.replace(".conv1.", ".body.0.").replace(".conv2.", ".body.2.").replace("upsample.", "tail.0.")
        renamed[new] = value
    mean = torch.tensor([0.4488, 0.4371, 0.4040])
    shifts = {"sub_mean": -mean, "add_mean": mean}
    for name, bias in shifts.items():
        renamed |= {f"{name}.weight": torch.eye(3).reshape(3, 3, 1, 1), f"{name}.bias": bias}
    return renamed


RANGE_1 = {"conv_first.weight": 255.0, "conv_last.weight": 1 / 255, "conv_last.bias": 1 / 255}
SWIN_255 = {"conv_first.weight": 1 / 255, "upsample.0.weight": 255.0, "upsample.0.bias": 255.0}
STORED: dict[str, tuple[str, Callable[[State], State], str]] = {
    "as it is": ("edsr", dict, "takes res_scale 1, img_range 255.0, rgb_mean (0.4488, 0.4371, 0.404), which"),
    "res_scale 0.1": (
        "edsr",
        lambda state: scaled(state, {"conv2.weight": 10, "conv2.bias": 10}),
        "takes res_scale 0.1,",
    ),
    "img_range 1": ("edsr", lambda state: scaled(state, RANGE_1), "takes res_scale 1,"),
    "img_range 1, shown by its authors' layers": (
        "edsr",
        lambda state: by_authors(scaled(state, RANGE_1)),
        "does not show res_scale; takes res_scale 1,",
    ),
    "SwinIR as it is": ("swinir", dict, "takes img_range 1.0,"),
    "SwinIR for levels up to 255": ("swinir", lambda state: scaled(state, SWIN_255), "takes img_range 255.0,"),
}
"""The demo's weights stored as the same function with other options, and what is found. The range matters little to ReLUs."""


@pytest.mark.parametrize("case", STORED)
def test_the_options_are_found(tmp_path: Path, demo: Callable[[str], State], case: str) -> None:
    name, change, said = STORED[case]
    path = tmp_path / "model.pth"
    torch.save({"params": change(demo(name))}, path)
    model = build(Backbone(architecture="auto", weights=str(path)), 4)
    torch.save({"params": demo(name)}, tmp_path / "original.pth")
    with torch.no_grad():
        torch.testing.assert_close(
            model(IMAGE), build_from_file(tmp_path / "original.pth")(IMAGE), atol=1 / 255, rtol=0
        )
    (note,) = facts(model).notes
    assert note.startswith(f"{path}: does not show ")
    assert said in note


@pytest.mark.parametrize(
    ("options", "notes"),
    [
        ({"res_scale": 0.1}, 1),
        ({"res_scale": 0.1, "img_range": 255.0, "rgb_mean": (0.4488, 0.4371, 0.4040)}, 0),
    ],
)
@pytest.mark.parametrize("architecture", ["auto", "edsr"])
def test_declared_options_are_not_tried(
    tmp_path: Path, demo: Callable[[str], State], architecture: str, options: dict[str, Any], notes: int
) -> None:
    torch.save(demo("edsr"), tmp_path / "model.pth")
    model = build(Backbone(architecture=architecture, weights=str(tmp_path / "model.pth"), options=options), 4)
    assert len(facts(model).notes) == notes
    assert {module.res_scale for module in model.modules() if hasattr(module, "res_scale")} == {0.1}


def test_random_weights_tell_nothing(tmp_path: Path) -> None:
    torch.save(fresh("edsr", seed=1).state_dict(), tmp_path / "model.pth")
    (note,) = facts(build_from_file(tmp_path / "model.pth")).notes
    assert "no usual value restores a test picture" in note
    assert "state these options in the profile" in note


def test_options_that_the_architecture_lacks(tmp_path: Path, demo: Callable[[str], State]) -> None:
    torch.save(demo("safmn"), tmp_path / "model.pth")
    declared = Backbone(architecture="auto", weights=str(tmp_path / "model.pth"), options={"res_scale": 0.1})
    assert "these options do not fit the architecture: " in refusal(lambda: build(declared, 4))


@pytest.fixture(scope="module")
def pairs() -> PairSet:
    hr = [to_uint8(discs(seed))[0] for seed in range(10)]
    lr = [to_uint8(bicubic(to_float(image[None]), 4))[0] for image in hr]
    names = [str(index) for index in range(10)]
    return PairSet("camera", 4, names, names, lr, hr)


def exchanged(state: State) -> State:
    """Give blue for red."""
    order = torch.arange(48).reshape(3, 16).flip(0).flatten()
    return {key: value[order] if key.startswith("to_img.0.") else value for key, value in state.items()}


SPOILT: dict[str, tuple[Callable[[State], State], str]] = {
    "random weights": (lambda state: dict(fresh_like(state)), "value range or weights (raw beside averaged ones)"),
    "colors exchanged": (exchanged, "it gives blue for red, so its channel order is BGR"),
}


def fresh_like(state: State) -> State:
    draw = torch.Generator().manual_seed(0)
    return {key: 0.1 * torch.randn(value.shape, generator=draw) for key, value in state.items()}


def loaded(state: State, folder: Path) -> nn.Module:
    torch.save(state, folder / "model.pth")
    return build_from_file(folder / "model.pth")


@pytest.mark.parametrize("case", SPOILT)
def test_a_start_far_below_bicubic_is_refused(
    tmp_path: Path, demo: Callable[[str], State], pairs: PairSet, case: str
) -> None:
    sound = check_start(loaded(demo("safmn"), tmp_path), pairs, "it", 3.0)
    assert sound.pairs == 8
    assert sound.restored > sound.bicubic - 3
    spoil, said = SPOILT[case]
    spoilt = loaded(spoil(demo("safmn")), tmp_path)
    message = refusal(lambda: check_start(spoilt, pairs, "backbone given", 3.0))
    assert message.startswith("backbone given: restores 8 validation pairs at ")
    assert said in message
    assert "backbones.<name>.below_bicubic" in message
    assert check_start(spoilt, pairs, "it", 100.0).bicubic == sound.bicubic
