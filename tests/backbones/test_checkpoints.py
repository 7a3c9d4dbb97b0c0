"""Every usual layout of a checkpoint loads, and what does not fit is refused in one line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from adaptsr.backbones.build import build, build_from_file
from adaptsr.backbones.checkpoints import load_weights, read_checkpoint
from adaptsr.config.schema import Backbone
from adaptsr.errors import UserError
from tests.backbones.helpers import TINY, fresh, one_line, tiny


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
        assert "model.pth: no state dict found" in one_line(caught)

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
