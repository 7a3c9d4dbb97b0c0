"""Merged weights carry the keys of the file that was given, and load where its own network loads it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from adaptsr.backbones.build import build_from_file
from adaptsr.backbones.file_keys import as_in_file
from adaptsr.basicsr_compat import basicsr_module
from tests.backbones.helpers import fresh
from tests.backbones.test_trial import by_authors

State = dict[str, Any]


def rrdb() -> State:
    """Real-ESRGAN's naming."""
    torch.manual_seed(0)
    return dict(basicsr_module("archs.rrdbnet_arch").RRDBNet(3, 3, scale=4, num_feat=8, num_block=2).state_dict())


def bsrgan() -> State:
    """The naming of BSRGAN and of the first ESRGAN code for PyTorch."""
    names = {
        "conv_body": "trunk_conv",
        "body.": "RRDB_trunk.",
        ".rdb": ".RDB",
        "conv_up": "upconv",
        "conv_hr": "HRconv",
    }
    state = {}
    for key, value in rrdb().items():
        for old, new in names.items():
            key = key.replace(old, new)
        state[key] = value
    return state


def with_masks_of_another_size() -> State:
    state = dict(fresh("swinir", seed=1).state_dict())
    mask = next(key for key in state if key.endswith("attn_mask"))
    return {**state, mask: torch.zeros(64, *state[mask].shape[1:])}


def edsr() -> State:
    torch.manual_seed(0)
    model = basicsr_module("archs.edsr_arch").EDSR(3, 3, num_feat=8, num_block=4, upscale=4)
    return by_authors(dict(model.state_dict()))


NETWORKS: dict[str, Callable[[], State]] = {
    "EDSR as its authors write it": edsr,
    "RRDBNet, new names": rrdb,
    "RRDBNet, older names": bsrgan,
    "SwinIR with masks of another size": with_masks_of_another_size,
    "SAFMN": lambda: dict(fresh("safmn").state_dict()),
}
CONTAINERS: dict[str, tuple[Callable[[State], Any], str | None]] = {
    "bare": (dict, None),
    "params_ema": (
        lambda state: {"params_ema": state, "params": {key: 0 * value for key, value in state.items()}},
        "params_ema",
    ),
    "behind a prefix": (
        lambda state: {"state_dict": {f"module.{key}": value for key, value in state.items()}},
        "state_dict",
    ),
}


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("network", NETWORKS)
def test_the_keys_of_the_given_file(tmp_path: Path, network: str, container: str) -> None:
    """Each learned tensor comes out under its own key: here all are moved by one, and constants and masks stay."""
    given = NETWORKS[network]()
    contain, expected = CONTAINERS[container]
    path = tmp_path / "model.pth"
    torch.save(contain(given), path)
    merged = {key: value + 1 for key, value in build_from_file(path).state_dict().items()}
    state, found = as_in_file(path, merged)
    assert found == expected
    assert list(state) == list(given)
    kept = ("sub_mean.", "add_mean.", "attn_mask", "relative_position_index")
    for key, value in given.items():
        moved = 0 if any(part in key for part in kept) else 1
        assert torch.equal(state[key], value + moved), key


def test_a_pickle_of_a_safetensors_file_is_as_basicsr_writes_it(tmp_path: Path) -> None:
    model = fresh("safmn")
    safetensors.torch.save_file(
        {key: value.contiguous() for key, value in model.state_dict().items()}, tmp_path / "model.safetensors"
    )
    assert as_in_file(tmp_path / "model.safetensors", model.state_dict())[1] == "params"
