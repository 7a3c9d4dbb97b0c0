"""Every way to build a backbone passes the gate, and what the gate found stays with the model."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from adaptsr.adaptation.reparametrization import freeze
from adaptsr.backbones.architectures.from_spandrel import sizes_of, spandrel_class, stated
from adaptsr.backbones.build import build, build_from_file
from adaptsr.backbones.gate import Facts, facts, gate
from adaptsr.backbones.sites import find_sites
from adaptsr.backbones.sizes import Sizes
from adaptsr.basicsr_compat import basicsr_module
from adaptsr.config.schema import Backbone
from baselines import lora
from tests.backbones.helpers import SWIN, TINY, fresh
from tests.factories import refusal

Build = Callable[[Path], nn.Module]

SWINIR: dict[str, Any] = {**SWIN, "depths": [2], "upsampler": "pixelshuffledirect"}
SOURCES: Mapping[str, Callable[[], nn.Module]] = {
    "edsr": lambda: fresh("edsr"),
    "spandrel's own": lambda: basicsr_module("archs.rrdbnet_arch").RRDBNet(3, 3, scale=4, num_feat=8, num_block=1),
    "swinir": lambda: fresh("swinir"),
}
"""Models whose files are detected: by their keys, by spandrel with other keys than its class, by spandrel."""


def named(name: str, scale: int = 4) -> Build:
    return lambda path: build(TINY[name].model_copy(update={"weights": str(path)}), scale)


def found_in_file(path: Path) -> nn.Module:
    return build(Backbone(architecture="auto", weights=str(path)), 4)


def save(state: Mapping[str, torch.Tensor], folder: Path) -> Path:
    torch.save({"params": dict(state)}, folder / "model.pth")
    return folder / "model.pth"


class TestFinite:
    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize(
        ("source", "way"),
        [
            ("edsr", named("edsr")),
            ("swinir", named("swinir")),
            *((source, way) for source in SOURCES for way in (found_in_file, build_from_file)),
        ],
    )
    def test_damaged_weights(self, tmp_path: Path, source: str, way: Build, bad: float) -> None:
        state = SOURCES[source]().state_dict()
        damaged = next(key for key, value in state.items() if value.dim() == 4)
        state[damaged][-1, -1, -1, -1] = bad
        path = save(state, tmp_path)
        message = refusal(lambda: way(path))
        assert message.startswith(f"{path}: '")
        assert message.endswith(" holds values that are not finite; give an undamaged checkpoint")
        assert repr(damaged) in message


class TestScale:
    @pytest.mark.parametrize("source", SOURCES)
    def test_of_a_file(self, tmp_path: Path, source: str) -> None:
        path = save(SOURCES[source]().state_dict(), tmp_path)
        said = f"{path}: the model's scale is 4, but the profile's is 2; give weights and options of scale 2, or set `scale: 4` in a copy of the profile"
        assert refusal(lambda: build(Backbone(architecture="auto", weights=str(path)), 2)) == said

    @pytest.mark.parametrize("name", ["safmn", "swinir", "drct"])
    def test_of_options(self, tmp_path: Path, name: str) -> None:
        """Options that build another scale, with weights and without."""
        said = "the model's scale is 4, but the profile's is 2; "
        path = save(fresh(name).state_dict(), tmp_path)
        assert refusal(lambda: build(TINY[name], 2)).startswith(f"backbone {TINY[name].architecture}: {said}")
        assert refusal(lambda: named(name, 2)(path)).startswith(f"{path}: {said}")

    def test_is_found_without_a_profile(self, tmp_path: Path) -> None:
        for scale in (2, 3, 4):
            model = build(TINY["edsr"], scale)
            assert facts(build_from_file(save(model.state_dict(), tmp_path))).scale == scale


class TestChannels:
    def test_of_options(self) -> None:
        said = refusal(lambda: build(Backbone(architecture="SwinIR", options={**SWINIR, "in_chans": 1}), 4))
        assert said.startswith("backbone SwinIR: fails on a color image (3 channels, 16 x 16): ")
        assert said.endswith("give a model with 3 input and 3 output channels, and options that fit together")

    @pytest.mark.parametrize("way", [found_in_file, build_from_file])
    def test_of_a_file(self, tmp_path: Path, way: Build) -> None:
        grey = save(spandrel_class("SwinIR")(**SWINIR, in_chans=1).state_dict(), tmp_path)
        assert (
            refusal(lambda: way(grey)) == f"{grey}: the model maps 1 channels to 1; give one for color images (3 to 3)"
        )

    @pytest.mark.parametrize("way", [named("edsr"), found_in_file, build_from_file])
    def test_of_a_file_of_edsr(self, tmp_path: Path, way: Build) -> None:
        edsr = basicsr_module("archs.edsr_arch").EDSR
        grey = save(edsr(1, 1, num_feat=6, num_block=2, upscale=4).state_dict(), tmp_path)
        said = "conv_first.weight has shape (6, 1, 3, 3), the backbone has (6, 3, 3, 3)"
        assert said in refusal(lambda: way(grey))


class Drawing(nn.Module):
    """Adds noise to what it restores."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        restored: torch.Tensor = self.conv(x) + torch.rand(1)
        return restored


def damaged_buffer() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
    vars(model[1])["_buffers"]["running_var"][1] = math.nan
    return model


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (damaged_buffer(), "'1.running_var' holds values that are not finite"),
        (
            nn.Sequential(nn.Conv2d(3, 3, 1), nn.Upsample(scale_factor=1.5)),
            "turns 16 x 16 pixels into 24 x 24; give a model with a whole-number scale",
        ),
        (nn.Conv2d(3, 2, 1), "the model maps 3 channels to 2; give one for color images"),
        (nn.Sequential(nn.Conv2d(3, 3, 1), nn.Flatten()), "the output is not an image"),
        (Drawing(), "restores one image in two ways: it draws random numbers"),
    ],
    ids=["a damaged buffer", "half a scale", "two channels", "no image", "random numbers"],
)
def test_what_else_the_gate_refuses(model: nn.Module, said: str) -> None:
    assert refusal(lambda: gate(model, "it", Sizes())).startswith(f"it: {said}")
    with pytest.raises(TypeError, match="has not passed"):
        facts(model)


class TestFacts:
    @pytest.mark.parametrize(
        ("architecture", "options", "expected"),
        [
            ("edsr", TINY["edsr"].options, Sizes()),
            ("SAFMN", TINY["safmn"].options, Sizes(multiple_of=8)),
            ("SwinIR", SWINIR, Sizes(minimum=16)),
            ("DRCT", TINY["drct"].options, Sizes(multiple_of=16)),
            ("OmniSR", {}, Sizes(minimum=16)),
            ("CRAFT", {}, Sizes(minimum=16, multiple_of=16)),
        ],
    )
    def test_sizes(self, tmp_path: Path, architecture: str, options: dict[str, Any], expected: Sizes) -> None:
        """Those that spandrel states; the same from options and from a file."""
        with torch.random.fork_rng():
            model = build(Backbone(architecture=architecture, options=options), 4)
        assert facts(model) == Facts(4, expected)
        path = save(model.state_dict(), tmp_path)
        assert facts(build_from_file(path)) == facts(found_in_file(path)) == Facts(4, expected)

    def test_sizes_of_what_spandrel_cannot_read_back(self) -> None:
        """Then nothing is known but the windows that a model names."""
        model = nn.Conv2d(3, 3, 1)
        assert stated("HAT", model) is None
        assert sizes_of(None, model) == Sizes()
        for window in (6, (6, 6)):
            vars(model)["window_size"] = window
            assert sizes_of(None, model) == Sizes(multiple_of=6)

    def test_stay_with_copies_and_adaptations(self) -> None:
        model = copy.deepcopy(fresh("swinir"))
        expected = facts(model)
        freeze(model)
        options = {**lora.OPTIONS, "rank": 1}
        lora.attach(model, lora.plan(model, find_sites(model), options, lambda index: pytest.fail(str(index)), 1))
        assert facts(copy.deepcopy(model).to("cpu").double().train()) == expected
        assert not any("facts" in key for key in model.state_dict())

    def test_random_numbers_and_gradients_are_as_before(self) -> None:
        """The gate draws nothing from torch's generator and leaves no tensor that training could not use."""

        class Noisy(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.conv = nn.Conv2d(3, 3, 1)
                self.kept = torch.zeros(1)

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                self.kept = self.kept + 0 * torch.rand(1)
                output: torch.Tensor = self.conv(x) * (1 + self.kept)
                return output

        before = torch.get_rng_state()
        model = Noisy()
        state = torch.get_rng_state()
        assert not torch.equal(before, state)
        gate(model, "it", Sizes(), 1)
        assert torch.equal(torch.get_rng_state(), state)
        model(torch.ones(1, 3, 4, 4)).sum().backward()


def test_the_smallest_image_is_found() -> None:
    """Reflection needs more pixels than it adds, whatever sizes are stated."""
    model = nn.Sequential(nn.ReflectionPad2d(5), nn.Conv2d(3, 3, 11))
    assert facts(gate(model, "it", Sizes())).sizes == Sizes(minimum=8)


class Volumetric(nn.Module):
    """Enlarges by `scale` after a convolution with 5-D weights, for which torch has no channels-last layout."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.conv = nn.Conv3d(1, 1, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.interpolate(self.conv(x[:, None])[:, 0], scale_factor=float(self.scale))


def test_a_model_with_5d_weights_is_checked_like_any_other() -> None:
    assert facts(gate(Volumetric(4), "a model", Sizes(), 4)).scale == 4
    assert "scale" in refusal(lambda: gate(Volumetric(2), "a model", Sizes(), 4))
