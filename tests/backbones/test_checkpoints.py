"""Checkpoints load whatever holds them, and what does not fit is refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch

from adaptsr.backbones.build import build, build_from_file
from adaptsr.backbones.checkpoints import load_weights, read_checkpoint
from adaptsr.config.schema import Backbone
from tests.backbones.helpers import TINY, fresh, tiny
from tests.factories import refusal


def test_safetensors(tmp_path: Path) -> None:
    state = {key: value.contiguous() for key, value in fresh("safmn", seed=1).state_dict().items()}
    safetensors.torch.save_file(state, tmp_path / "model.safetensors")
    read = read_checkpoint(tmp_path / "model.safetensors").state
    assert all(torch.equal(read[key], value) for key, value in state.items())


def test_options_are_read_off_the_checkpoint(tmp_path: Path) -> None:
    """Without options the constructor's arguments come from keys and shapes."""
    source = fresh("safmn", seed=1)
    torch.save(dict(source.state_dict()), tmp_path / "model.pth")
    loaded = build(Backbone(architecture="SAFMN", weights=str(tmp_path / "model.pth")), 4)
    assert list(loaded.state_dict()) == list(source.state_dict())
    assert torch.equal(loaded(torch.ones(1, 3, 8, 8)), source(torch.ones(1, 3, 8, 8)))


def test_file_of_no_known_architecture(tmp_path: Path) -> None:
    torch.save({"layer.weight": torch.zeros(3)}, tmp_path / "model.pth")
    assert "model.pth" in refusal(lambda: build_from_file(tmp_path / "model.pth"))


def test_another_architecture(tmp_path: Path) -> None:
    torch.save(dict(tiny("safmn").state_dict()), tmp_path / "model.pth")
    backbone = Backbone(architecture="HAT", weights=str(tmp_path / "model.pth"))
    assert "architecture: SAFMN" in refusal(lambda: build(backbone, 4))


def test_masks_are_kept_as_built() -> None:
    """A checkpoint trained at another size loads, with its masks or without; the masks stay those of this size."""
    source = fresh("swinir", seed=1).state_dict()
    for given in (source, {key: value for key, value in source.items() if not key.endswith("attn_mask")}):
        own = build(TINY["swinir"], 4, lr_size=16)
        masks = {key: value.clone() for key, value in own.state_dict().items() if key.endswith("attn_mask")}
        assert masks
        load_weights(own, given, "model.pth")
        assert all(torch.equal(value, {**source, **masks}[key]) for key, value in own.state_dict().items())


@pytest.mark.parametrize("key", ["extra", "conv_last.bias"])
def test_nothing_is_loaded_where_something_does_not_fit(key: str) -> None:
    model = fresh("edsr")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    changed = {**fresh("edsr", seed=1).state_dict(), key: torch.zeros(4)}
    message = refusal(lambda: load_weights(model, changed, "model.pth"))
    assert message.startswith("model.pth: ")
    assert key in message
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({}, "no state dict found"),
        ({"params": {}}, "no state dict found"),
        ([1, 2], "no state dict found"),
        ({"conv.weight": [0.5]}, "no state dict found"),
        (torch.zeros(3), "no state dict found"),
        ({"params": Path("x")}, "no state dict found"),
    ],
)
def test_no_state_dict(tmp_path: Path, content: object, said: str) -> None:
    torch.save(content, tmp_path / "model.pth")
    assert f"model.pth: {said}" in refusal(lambda: read_checkpoint(tmp_path / "model.pth"))
