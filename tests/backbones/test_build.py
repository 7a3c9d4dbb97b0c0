"""Backbones are built from a profile's entry or from a file."""

from __future__ import annotations

import re
from pathlib import Path

import pydantic
import pytest
import safetensors.torch
import torch

from adaptsr.backbones.build import build, build_from_file
from adaptsr.backbones.inference import restore
from adaptsr.backbones.sites import find_sites
from adaptsr.basicsr_compat import basicsr_module
from adaptsr.config.schema import Backbone
from adaptsr.data.degradation import bicubic
from adaptsr.data.fetch import resolve_weights
from adaptsr.data.images import read_image, to_float, to_uint8
from adaptsr.metrics.psnr import psnr_y
from tests.backbones.helpers import TINY, fresh
from tests.factories import refusal


class TestBuild:
    @pytest.mark.parametrize(
        ("backbone", "said"),
        [
            (Backbone(architecture="SwimIR"), r"architecture 'SwimIR' is unknown.*SwinIR.*there are edsr, "),
            (
                Backbone(architecture="SAFMN", options={"dim": 8, "blocks": 2}),
                r"backbone SAFMN: these options do not fit the architecture: .*'blocks'",
            ),
            (Backbone(architecture="edsr", weights="somewhere/none.pth"), r"none\.pth"),
        ],
    )
    def test_mistakes(self, backbone: Backbone, said: str) -> None:
        assert re.search(said, refusal(lambda: build(backbone, 4)))

    def test_home_is_expanded(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        (tmp_path / "weights.pth").touch()
        assert resolve_weights("~/weights.pth") == tmp_path / "weights.pth"


def auto(path: Path) -> Backbone:
    return Backbone(architecture="auto", weights=str(path))


class TestFoundInItsFile:
    """Architecture `auto`: a backbone is what its weights file holds."""

    @pytest.mark.parametrize("name", TINY)
    def test_every_architecture(self, tmp_path: Path, name: str) -> None:
        source = fresh(name, seed=1)
        torch.save({"params": source.state_dict()}, tmp_path / "model.pth")
        x = torch.rand(1, 3, 8, 8)
        for model in (build(auto(tmp_path / "model.pth"), 4), build_from_file(tmp_path / "model.pth")):
            assert torch.equal(model(x), source(x))

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

    def test_sizes_that_spandrel_does_not_expect(self, tmp_path: Path) -> None:
        source = basicsr_module("archs.rrdbnet_arch").RRDBNet(3, 3, scale=4, num_feat=8, num_block=1, num_grow_ch=4)
        torch.save(source.state_dict(), tmp_path / "model.pth")
        said = "spandrel recognises this checkpoint's keys but cannot read its sizes"
        assert said in refusal(lambda: build(auto(tmp_path / "model.pth"), 4))

    @pytest.mark.parametrize("change", ["missing", "unknown"])
    def test_a_key_too_few_or_too_many_is_named(self, repository: Path, tmp_path: Path, change: str) -> None:
        state = safetensors.torch.load_file(repository / "resources/demo/safmn.safetensors")
        name = "feats.0.norm1.bias"
        if change == "missing":
            del state[name]
        else:
            name = "to_feat.extra"
            state[name] = torch.zeros(1)
        torch.save(state, tmp_path / "model.pth")
        said = refusal(lambda: build_from_file(tmp_path / "model.pth"))
        assert "not a whole checkpoint of the architecture that its keys name" in said
        assert name in said
        assert "architecture` and `options" not in said

    def test_the_title_is_the_name_of_the_file(self) -> None:
        assert auto(Path("somewhere/DCTLSA_X4.pt")).title == "DCTLSA_X4"
        assert Backbone(architecture="auto", weights="x.pth", title="Mine").title == "Mine"

    def test_what_it_cannot_do_without(self) -> None:
        with pytest.raises(pydantic.ValidationError, match="needs weights"):
            Backbone(architecture="auto")


@pytest.mark.slow
def test_a_published_checkpoint_scores_what_it_is_known_for(assets: Path) -> None:
    """DCTLSA on Set5 x4 with MATLAB-like bicubic LR: 32.52 dB PSNR-Y at crop 4."""
    model = build(Backbone(architecture="DCTLSA", weights=str(assets / "weights" / "DCTLSA_X4.pt")), 4)
    values = []
    for path in sorted((assets / "hr" / "Set5").glob("*.png")):
        hr = read_image(path)[None]
        hr = hr[..., : hr.shape[-2] // 4 * 4, : hr.shape[-1] // 4 * 4]
        lr = to_uint8(bicubic(to_float(hr), 4))
        values.append(float(psnr_y(restore(model, lr), hr, 4)))
    assert sum(values) / len(values) == pytest.approx(32.52, abs=0.01)
