"""Backbones: built, loaded from every layout of checkpoint, their sites found, images restored."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pydantic
import pytest
import safetensors.torch
import torch
from torch import nn

from adaptsr.backbones.architectures.names import architectures
from adaptsr.backbones.build import build, build_from_file
from adaptsr.backbones.checkpoints import load_weights, read_checkpoint
from adaptsr.backbones.inference import restore
from adaptsr.backbones.sites import Correction, Site, find_sites, select
from adaptsr.basicsr_compat import basicsr_module
from adaptsr.config.schema import Backbone
from adaptsr.data.degradation import bicubic
from adaptsr.data.fetch import resolve_weights
from adaptsr.data.images import read_image, to_float, to_uint8
from adaptsr.errors import UserError
from adaptsr.metrics.psnr import psnr_y

SWIN = {"upscale": 4, "img_size": 8, "embed_dim": 12, "num_heads": [2], "window_size": 4, "mlp_ratio": 2}
TINY: dict[str, Backbone] = {
    "edsr": Backbone(architecture="edsr", options={"num_feat": 6, "num_block": 2}),
    "safmn": Backbone(architecture="SAFMN", options={"dim": 8, "n_blocks": 2, "upscaling_factor": 4}),
    "swinir": Backbone(architecture="SwinIR", options={**SWIN, "depths": [2], "upsampler": "pixelshuffle"}),
    "drct": Backbone(architecture="DRCT", options={**SWIN, "depths": [6], "gc": 4, "upsampler": "pixelshuffle"}),
}


def fresh(name: str, seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build(TINY[name], 4)


@cache
def tiny(name: str) -> nn.Module:
    return fresh(name)


def image(*size: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def one_line(error: pytest.ExceptionInfo[UserError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


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
            assert f"weights of a model of scale {scale}, that of the profile is 4" in one_line(caught)

    def test_one_for_grey_images(self, tmp_path: Path) -> None:
        grey = {**SWIN, "depths": [2], "upsampler": "pixelshuffledirect", "in_chans": 1}
        torch.save(build(Backbone(architecture="SwinIR", options=grey), 4).state_dict(), tmp_path / "model.pth")
        with pytest.raises(UserError) as caught:
            build(auto(tmp_path / "model.pth"), 4)
        assert "a model from 1 to 1 channels; one for colour images (3 to 3) was expected" in one_line(caught)

    def test_sizes_that_spandrel_does_not_expect(self, tmp_path: Path) -> None:
        source = basicsr_module("archs.rrdbnet_arch").RRDBNet(3, 3, scale=4, num_feat=8, num_block=1, num_grow_ch=4)
        torch.save(source.state_dict(), tmp_path / "model.pth")
        with pytest.raises(UserError) as caught:
            build(auto(tmp_path / "model.pth"), 4)
        assert "spandrel knows the keys of this checkpoint, but not its sizes" in one_line(caught)

    def test_the_title_is_the_name_of_the_file(self) -> None:
        assert auto(Path("somewhere/DCTLSA_X4.pt")).title == "DCTLSA_X4"
        assert Backbone(architecture="auto", weights="x.pth", title="Mine").title == "Mine"

    @pytest.mark.parametrize(
        ("content", "said"), [({}, "needs weights"), ({"weights": "x.pth", "options": {"dim": 8}}, "takes no options")]
    )
    def test_what_it_cannot_do_without(self, content: dict[str, Any], said: str) -> None:
        with pytest.raises(pydantic.ValidationError, match=said):
            Backbone(architecture="auto", **content)


def layouts(state: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    other = {key: torch.zeros_like(value) for key, value in state.items()}
    return {
        "bare": dict(state),
        "params": {"params": dict(state)},
        "params_ema before params": {"params": other, "params_ema": dict(state)},
        "state_dict": {"epoch": 3, "state_dict": dict(state)},
        "data parallel": {"params": {f"module.{key}": value for key, value in state.items()}},
    }


class TestCheckpoints:
    @pytest.mark.parametrize("layout", layouts({}))
    @pytest.mark.parametrize("name", ["safmn", "swinir"])
    def test_layouts(self, tmp_path: Path, name: str, layout: str) -> None:
        """Every usual layout of a .pth, and the order of its keys, loads to the same model."""
        source = fresh(name, seed=1)
        path = tmp_path / "model.pth"
        torch.save(layouts(dict(reversed(source.state_dict().items())))[layout], path)
        loaded = build(TINY[name].model_copy(update={"weights": str(path)}), 4)
        x = torch.rand(1, 3, 8, 8)
        assert torch.equal(loaded(x), source(x))

    def test_safetensors(self, tmp_path: Path) -> None:
        state = {key: value.contiguous() for key, value in fresh("safmn", seed=1).state_dict().items()}
        safetensors.torch.save_file(state, tmp_path / "model.safetensors")
        read = read_checkpoint(tmp_path / "model.safetensors")
        assert all(torch.equal(read[key], value) for key, value in state.items())

    def test_options_are_read_off_the_checkpoint(self, tmp_path: Path) -> None:
        """Without options the constructor's arguments come from keys and shapes."""
        source = fresh("safmn", seed=1)
        torch.save(dict(source.state_dict()), tmp_path / "model.pth")
        loaded = build(Backbone(architecture="SAFMN", weights=str(tmp_path / "model.pth")), 4)
        assert list(loaded.state_dict()) == list(source.state_dict())
        assert torch.equal(loaded(torch.ones(1, 3, 8, 8)), source(torch.ones(1, 3, 8, 8)))

    def test_nothing_but_the_file(self, tmp_path: Path) -> None:
        """A checkpoint alone is enough: EDSR is known by its keys, the rest as spandrel detects it."""
        for name in ("edsr", "safmn"):
            source = fresh(name, seed=1)
            torch.save({"params": dict(source.state_dict())}, tmp_path / "model.pth")
            loaded = build_from_file(tmp_path / "model.pth")
            x = torch.rand(1, 3, 8, 8)
            assert torch.equal(loaded(x), source(x))

    def test_file_of_no_known_architecture(self, tmp_path: Path) -> None:
        torch.save({"layer.weight": torch.zeros(3)}, tmp_path / "model.pth")
        with pytest.raises(UserError) as caught:
            build_from_file(tmp_path / "model.pth")
        assert "model.pth" in one_line(caught)

    def test_another_architecture(self, tmp_path: Path) -> None:
        torch.save(dict(tiny("safmn").state_dict()), tmp_path / "model.pth")
        with pytest.raises(UserError) as caught:
            build(Backbone(architecture="HAT", weights=str(tmp_path / "model.pth")), 4)
        assert "architecture: SAFMN" in one_line(caught)

    def test_edsr_of_its_authors(self) -> None:
        """The keys of the authors' repository mean the same layers as basicsr's; mean shifts are constants."""
        source = fresh("edsr", seed=1)
        rename = [
            (r"^conv_first\.", "head.0."),
            (r"^body\.(\d+)\.conv1\.", r"body.\1.body.0."),
            (r"^body\.(\d+)\.conv2\.", r"body.\1.body.2."),
            (r"^conv_after_body\.", "body.2."),
            (r"^upsample\.", "tail.0."),
            (r"^conv_last\.", "tail.1."),
        ]
        theirs = {}
        for key, value in source.state_dict().items():
            for pattern, replacement in rename:
                key = re.sub(pattern, replacement, key)
            theirs[key] = value
        theirs["sub_mean.weight"] = torch.eye(3)
        path = Path("edsr_authors.pth")
        from adaptsr.backbones.checkpoints import _unwrap

        state = _unwrap(theirs, path)
        assert {key: value.shape for key, value in state.items()} == {
            key: value.shape for key, value in source.state_dict().items()
        }
        assert all(torch.equal(state[key], value) for key, value in source.state_dict().items())

    def test_masks_are_kept_as_built(self) -> None:
        """A checkpoint trained at another size loads; the masks stay those of this size."""
        own = build(TINY["swinir"], 4, lr_size=16)
        masks = {key: value.clone() for key, value in own.state_dict().items() if key.endswith("attn_mask")}
        source = fresh("swinir", seed=1)
        load_weights(own, source.state_dict(), "model.pth")
        for key, value in own.state_dict().items():
            assert torch.equal(value, masks[key] if key in masks else source.state_dict()[key])
        without = {key: value for key, value in source.state_dict().items() if key not in masks}
        load_weights(own, without, "model.pth")

    @pytest.mark.parametrize(
        ("change", "line"),
        [
            ({"conv_last.bias": None}, r"model\.pth: .* lacks 'conv_last.bias' \(1 keys missing, 0 unknown\)"),
            (
                {"extra": torch.zeros(1)},
                r"model\.pth: .* has 'extra', which the architecture lacks \(0 .*, 1 unknown\)",
            ),
            (
                {"conv_last.bias": torch.zeros(4)},
                r"model\.pth: conv_last.bias has shape \(4,\), the backbone has \(3,\)",
            ),
        ],
    )
    def test_keys_that_do_not_match(self, change: Mapping[str, torch.Tensor | None], line: str) -> None:
        """One line that names the key; nothing is loaded."""
        model = fresh("edsr")
        before = {key: value.clone() for key, value in model.state_dict().items()}
        changed = {**fresh("edsr", seed=1).state_dict(), **change}
        with pytest.raises(UserError, match=line) as caught:
            load_weights(model, {key: value for key, value in changed.items() if value is not None}, "model.pth")
        one_line(caught)
        assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())

    @pytest.mark.parametrize("content", [{}, {"params": {}}, [1, 2], {"conv.weight": [0.5]}, torch.zeros(3)])
    def test_no_state_dict(self, tmp_path: Path, content: object) -> None:
        torch.save(content, tmp_path / "model.pth")
        with pytest.raises(UserError) as caught:
            read_checkpoint(tmp_path / "model.pth")
        assert "model.pth: holds no state dict" in one_line(caught)

    @pytest.mark.parametrize("name", ["model.pth", "model.safetensors"])
    def test_refused_files(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_bytes(b"\x80\x02no checkpoint")
        with pytest.raises(UserError) as caught:
            read_checkpoint(tmp_path / name)
        assert f"{name}: refused as a checkpoint" in one_line(caught)

    def test_pickles_run_no_code(self, tmp_path: Path) -> None:
        """A pickle that would call something is refused, not called."""
        torch.save({"params": Path("x")}, tmp_path / "model.pth")
        with pytest.raises(UserError, match="refused as a checkpoint"):
            read_checkpoint(tmp_path / "model.pth")


class TestSites:
    @pytest.mark.parametrize(
        ("name", "kinds", "upsampling", "grouped"),
        [
            ("edsr", {"conv": 9}, ["upsample.0", "upsample.2"], 0),
            ("safmn", {"conv": 16}, ["to_img.0"], 8),
            ("swinir", {"conv": 7, "attention": 4, "mlp": 4}, ["upsample.0", "upsample.2"], 0),
            ("drct", {"conv": 11, "attention": 10, "mlp": 10}, ["upsample.0", "upsample.2"], 0),
        ],
    )
    def test_kinds(self, name: str, kinds: Mapping[str, int], upsampling: list[str], grouped: int) -> None:
        """Every Linear and Conv2d in module order, its kind, and which feed a pixel shuffle or are grouped."""
        sites = find_sites(tiny(name))
        assert Counter(site.kind for site in sites) == kinds
        assert [site.name for site in sites if site.upsampling] == upsampling
        assert sum(site.grouped for site in sites) == grouped
        order = [name for name, _ in tiny(name).named_modules()]
        assert [site.name for site in sites] == sorted((site.name for site in sites), key=order.index)

    def test_default_selection(self) -> None:
        """What feeds a pixel shuffle and what is grouped is left out unless asked for."""
        sites = find_sites(tiny("safmn"))
        assert not any(site.upsampling or site.grouped for site in select(sites))
        assert len(select(sites)) == 16 - 1 - 8
        assert len(select(sites, upsampling=True)) == 16 - 8
        assert select(sites, upsampling=True, grouped=True) == sites
        assert select(sites, ["mlp"]) == []

    def test_unknown_kind(self) -> None:
        with pytest.raises(UserError, match=r"^kinds: 'linear' is no kind of site; there are attention, conv, mlp"):
            select(find_sites(tiny("edsr")), ["linear"])

    def test_properties(self) -> None:
        by_name = {site.name: site for site in find_sites(tiny("swinir"))}
        qkv = by_name["layers.0.residual_group.blocks.1.attn.qkv"]
        assert (qkv.role, qkv.stage, qkv.in_features, qkv.out_features) == ("qkv", "layers.0", 12, 36)
        assert qkv.is_linear
        assert qkv.weights == 432
        up = by_name["upsample.2"]
        assert (up.role, up.stage, up.in_features, up.out_features) == ("upsample", "upsample.2", 64, 256)
        assert by_name["conv_first"].stage == "conv_first"
        depthwise = Site("body.3.mfr", "conv", (9, 1, 3, 3), 9, True, False)
        assert (depthwise.in_features, depthwise.grouped, depthwise.weights) == (9, True, 81)

    @pytest.mark.parametrize(
        ("corrections", "expected"),
        [
            ({"conv_first": "skip"}, {"conv": 6, "attention": 4, "mlp": 4}),
            ({"*.mlp.*": "attention"}, {"conv": 7, "attention": 8}),
            ({"layers.*": "skip", "layers.0.conv": "conv"}, {"conv": 7}),
        ],
    )
    def test_corrections(self, corrections: Mapping[str, Correction], expected: Mapping[str, int]) -> None:
        """A profile's corrections by name or pattern, the later before the earlier."""
        assert Counter(site.kind for site in find_sites(tiny("swinir"), corrections)) == expected

    def test_correction_that_matches_nothing(self) -> None:
        with pytest.raises(UserError) as caught:
            find_sites(tiny("swinir"), {"conv_frist": "skip"})
        assert re.search(r"kinds: no site 'conv_frist'.*conv_first", one_line(caught))

    @pytest.mark.parametrize(
        ("architecture", "attention", "mlp"),
        [
            ("HAT", {"qkv", "proj"}, {"fc1", "fc2"}),
            ("ATD", {"wqkv", "proj"}, {"fc1", "fc2"}),
            ("OmniSR", {"to_qkv", "to_out"}, set()),
        ],
    )
    def test_other_architectures(self, architecture: str, attention: set[str], mlp: set[str]) -> None:
        """Architectures that the paper does not use have their attention and MLP layers recognised too."""
        with torch.random.fork_rng():
            sites = find_sites(build(Backbone(architecture=architecture), 4))
        assert attention <= {site.role for site in sites if site.kind == "attention"}
        assert mlp <= {site.role for site in sites if site.kind == "mlp"}
        assert all(site.kind == "conv" for site in sites if not site.is_linear)


class Doubling(nn.Module):
    """Repeats every pixel twice in both directions and refuses sizes that are no multiples of its window."""

    def __init__(self, window_size: int, gain: float = 1.0) -> None:
        super().__init__()
        self.window_size = window_size
        self.gain = nn.Parameter(torch.tensor(gain))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert x.shape[-2] % self.window_size == x.shape[-1] % self.window_size == 0
        return self.gain * x.repeat_interleave(2, -1).repeat_interleave(2, -2)


class TestRestore:
    def test_levels_are_kept(self) -> None:
        """8-bit levels survive the way through [0, 1] and back, at any size; padding is cut off again."""
        lr = image(9, 14)
        restored = restore(Doubling(4), lr, 2)
        assert restored.dtype == torch.uint8
        assert torch.equal(restored, lr.repeat_interleave(2, -1).repeat_interleave(2, -2))

    def test_clipped_and_rounded(self) -> None:
        """Values outside [0, 1] are clipped, the rest rounded to the nearest level."""
        lr = torch.tensor([[[[1, 100, 200]]] * 3], dtype=torch.uint8).view(1, 3, 1, 3)
        assert restore(Doubling(1, 1.6), lr, 2)[0, 0, 0, ::2].tolist() == [2, 160, 255]
        assert restore(Doubling(1, -1.0), lr, 2).max() == 0

    @pytest.mark.parametrize("name", ["swinir", "drct"])
    def test_sizes_that_are_no_multiples_of_the_window(self, name: str) -> None:
        assert restore(tiny(name), image(9, 13), 4).shape == (1, 3, 36, 52)

    def test_same_as_the_model_where_nothing_is_padded(self) -> None:
        lr = image(8, 8)
        expected = to_uint8(tiny("edsr")(to_float(lr)).detach())
        assert torch.equal(restore(tiny("edsr"), lr, 4), expected)


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
