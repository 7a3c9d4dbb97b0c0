"""Backbones are built from a profile's entry or from a file."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pydantic
import pytest
import torch
from torch import nn

from adaptsr.backbones.architectures.from_spandrel import spandrel_class
from adaptsr.backbones.architectures.names import architectures
from adaptsr.backbones.build import build, build_from_file
from adaptsr.backbones.inference import restore
from adaptsr.backbones.sites import find_sites
from adaptsr.basicsr_compat import basicsr_module
from adaptsr.config.schema import Backbone
from adaptsr.data.degradation import bicubic
from adaptsr.data.fetch import resolve_weights
from adaptsr.data.images import read_image, to_float, to_uint8
from adaptsr.errors import UserError
from adaptsr.metrics.psnr import psnr_y
from tests.backbones.helpers import SWIN, TINY, fresh, one_line, tiny


class TestBuild:
    @pytest.mark.parametrize("name", TINY)
    def test_evaluates_and_upscales(self, name: str) -> None:
        """In eval mode, and four times the size out."""
        model = tiny(name)
        assert not any(module.training for module in model.modules())
        assert model(torch.rand(1, 3, 8, 8)).shape == (1, 3, 32, 32)

    def test_size_of_training_crops(self) -> None:
        """`lr_size` is the side that attention masks are precomputed for; it replaces the profile's own."""
        mask = "layers.0.residual_group.blocks.1.attn_mask"
        assert build(TINY["swinir"], 4).state_dict()[mask].shape == (4, 16, 16)
        assert build(TINY["swinir"], 4, lr_size=16).state_dict()[mask].shape == (16, 16, 16)

    def test_unknown_architecture(self) -> None:
        with pytest.raises(UserError) as caught:
            build(Backbone(architecture="SwimIR"), 4)
        assert re.search(r"architecture 'SwimIR' is unknown.*SwinIR.*there are edsr, ", one_line(caught))

    def test_options_that_do_not_fit(self) -> None:
        with pytest.raises(UserError) as caught:
            build(Backbone(architecture="SAFMN", options={"dim": 8, "blocks": 2}), 4)
        assert re.search(r"backbone SAFMN: these options do not fit the architecture: .*'blocks'", one_line(caught))

    def test_missing_weights_file(self, tmp_path: Path) -> None:
        with pytest.raises(UserError) as caught:
            build(Backbone(architecture="edsr", weights=str(tmp_path / "none.pth")), 4)
        assert "none.pth" in one_line(caught)

    def test_home_is_expanded(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        (tmp_path / "weights.pth").touch()
        assert resolve_weights("~/weights.pth") == tmp_path / "weights.pth"

    def test_architectures(self) -> None:
        """The paper's four are there, and whatever else spandrel knows."""
        assert {"edsr", "SAFMN", "SwinIR", "DRCT", "DCTLSA", "HAT"} <= set(architectures())


def auto(path: Path) -> Backbone:
    return Backbone(architecture="auto", weights=str(path))


class TestFoundInItsFile:
    """Architecture `auto`: a backbone is what its weights file holds."""

    @pytest.mark.parametrize("name", TINY)
    def test_every_architecture(self, tmp_path: Path, name: str) -> None:
        source = fresh(name, seed=1)
        torch.save({"params": source.state_dict()}, tmp_path / "model.pth")
        x = torch.rand(1, 3, 8, 8)
        assert torch.equal(build(auto(tmp_path / "model.pth"), 4)(x), source(x))

    def test_layouts_that_spandrel_renames(self, tmp_path: Path) -> None:
        """Real-ESRGAN's checkpoints have basicsr's keys, spandrel's class older ones."""
        torch.manual_seed(0)
        source = basicsr_module("archs.rrdbnet_arch").RRDBNet(3, 3, scale=4, num_feat=8, num_block=1).eval()
        torch.save({"params_ema": source.state_dict()}, tmp_path / "model.pth")
        x = torch.rand(1, 3, 8, 8)
        for model in (build(auto(tmp_path / "model.pth"), 4), build_from_file(tmp_path / "model.pth")):
            assert torch.allclose(model(x), source(x), atol=1e-6)
            assert len(find_sites(model)) == 21

    def test_size_of_training_crops(self, tmp_path: Path) -> None:
        """Attention masks are those of the crops, and the weights are the file's."""
        source = fresh("swinir", seed=1)
        torch.save(source.state_dict(), tmp_path / "model.pth")
        model = build(auto(tmp_path / "model.pth"), 4, lr_size=16)
        assert model.state_dict()["layers.0.residual_group.blocks.1.attn_mask"].shape == (16, 16, 16)
        x = torch.rand(1, 3, 16, 16)
        assert torch.allclose(model(x), source(x), atol=1e-6)

    def test_another_scale(self, tmp_path: Path) -> None:
        options = {"num_feat": 6, "num_block": 2}
        for scale in (2, 3):
            torch.save(
                build(Backbone(architecture="edsr", options=options), scale).state_dict(), tmp_path / "model.pth"
            )
            with pytest.raises(UserError) as caught:
                build(auto(tmp_path / "model.pth"), 4)
            assert f"the model's scale is {scale}, but the profile's is 4; give weights" in one_line(caught)

    def test_one_for_grey_images(self, tmp_path: Path) -> None:
        grey = {**SWIN, "depths": [2], "upsampler": "pixelshuffledirect", "in_chans": 1}
        torch.save(spandrel_class("SwinIR")(**grey).state_dict(), tmp_path / "model.pth")
        with pytest.raises(UserError) as caught:
            build(auto(tmp_path / "model.pth"), 4)
        assert "the model maps 1 channels to 1; give one for color images (3 to 3)" in one_line(caught)

    def test_sizes_that_spandrel_does_not_expect(self, tmp_path: Path) -> None:
        source = basicsr_module("archs.rrdbnet_arch").RRDBNet(3, 3, scale=4, num_feat=8, num_block=1, num_grow_ch=4)
        torch.save(source.state_dict(), tmp_path / "model.pth")
        with pytest.raises(UserError) as caught:
            build(auto(tmp_path / "model.pth"), 4)
        assert "spandrel recognises this checkpoint's keys but cannot read its sizes" in one_line(caught)

    def test_the_title_is_the_name_of_the_file(self) -> None:
        assert auto(Path("somewhere/DCTLSA_X4.pt")).title == "DCTLSA_X4"
        assert Backbone(architecture="auto", weights="x.pth", title="Mine").title == "Mine"

    @pytest.mark.parametrize(
        ("content", "said"), [({}, "needs weights"), ({"weights": "x.pth", "options": {"dim": 8}}, "takes no options")]
    )
    def test_what_it_cannot_do_without(self, content: dict[str, Any], said: str) -> None:
        with pytest.raises(pydantic.ValidationError, match=said):
            Backbone(architecture="auto", **content)


class TestRealWeights:
    """A trained x4 backbone from its published checkpoint."""

    @pytest.fixture
    def model(self, assets: Path) -> nn.Module:
        return build(Backbone(architecture="DCTLSA", weights=str(assets / "weights" / "DCTLSA_X4.pt")), 4)

    def test_loads_without_options(self, model: nn.Module) -> None:
        assert sum(parameter.numel() for parameter in model.parameters()) == 885_328
        kinds = Counter(site.kind for site in find_sites(model) if not site.upsampling and not site.grouped)
        assert kinds == {"conv": 56, "attention": 48, "mlp": 48}

    @pytest.mark.slow
    def test_scores_what_it_is_known_for(self, model: nn.Module, assets: Path) -> None:
        """Set5 x4 with MATLAB-like bicubic LR: 32.52 dB PSNR-Y at crop 4."""
        values = []
        for path in sorted((assets / "hr" / "Set5").glob("*.png")):
            hr = read_image(path)[None]
            hr = hr[..., : hr.shape[-2] // 4 * 4, : hr.shape[-1] // 4 * 4]
            lr = to_uint8(bicubic(to_float(hr), 4))
            values.append(float(psnr_y(restore(model, lr, 4), hr, 4)))
        assert sum(values) / len(values) == pytest.approx(32.52, abs=0.01)
