"""The official architectures at full size take their official checkpoints' layouts.

The keys and shapes are written down here from the authors' published code, not read off our models.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from adaptsr.backbones.build import build, build_from_file
from adaptsr.config import reading, schema
from tests.factories import refusal

Shapes = dict[str, tuple[int, ...]]
State = dict[str, torch.Tensor]

BUFFERS = ("attn_mask", "relative_position_index")


def conv(name: str, out: int, into: int, kernel: int = 3) -> Shapes:
    return {f"{name}.weight": (out, into, kernel, kernel), f"{name}.bias": (out,)}


def linear(name: str, out: int, into: int) -> Shapes:
    return {f"{name}.weight": (out, into), f"{name}.bias": (out,)}


def norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def edsr_basicsr() -> Shapes:
    """XPixelGroup/BasicSR, basicsr/archs/edsr_arch.py."""
    shapes = conv("conv_first", 64, 3)
    for block in range(16):
        shapes |= conv(f"body.{block}.conv1", 64, 64) | conv(f"body.{block}.conv2", 64, 64)
    shapes |= conv("conv_after_body", 64, 64) | conv("upsample.0", 256, 64) | conv("upsample.2", 256, 64)
    return shapes | conv("conv_last", 3, 64)


def edsr_authors() -> Shapes:
    """sanghyun-son/EDSR-PyTorch, src/model/edsr.py and common.py."""
    shapes = conv("sub_mean", 3, 3, 1) | conv("add_mean", 3, 3, 1) | conv("head.0", 64, 3)
    for block in range(16):
        shapes |= conv(f"body.{block}.body.0", 64, 64) | conv(f"body.{block}.body.2", 64, 64)
    shapes |= conv("body.16", 64, 64) | conv("tail.0.0", 256, 64) | conv("tail.0.2", 256, 64)
    return shapes | conv("tail.1", 3, 64)


def safmn(width: int = 36, blocks: int = 8) -> Shapes:
    """sunny2109/SAFMN, basicsr/archs/safmn_arch.py."""
    shapes = conv("to_feat", width, 3)
    for block in range(blocks):
        name = f"feats.{block}"
        shapes |= norm(f"{name}.norm1", width) | norm(f"{name}.norm2", width)
        for level in range(4):
            shapes |= conv(f"{name}.safm.mfr.{level}", width // 4, 1)
        shapes |= conv(f"{name}.safm.aggr", width, width, 1)
        shapes |= conv(f"{name}.ccm.ccm.0", 2 * width, width) | conv(f"{name}.ccm.ccm.2", width, 2 * width, 1)
    return shapes | conv("to_img.0", 48, width)


def window_block(name: str, width: int, heads: int, window: int, hidden: int, shifted: bool) -> Shapes:
    tokens = window**2
    shapes = norm(f"{name}.norm1", width) | norm(f"{name}.norm2", width)
    shapes[f"{name}.attn.relative_position_bias_table"] = ((2 * window - 1) ** 2, heads)
    shapes[f"{name}.attn.relative_position_index"] = (tokens, tokens)
    shapes |= linear(f"{name}.attn.qkv", 3 * width, width) | linear(f"{name}.attn.proj", width, width)
    shapes |= linear(f"{name}.mlp.fc1", hidden, width) | linear(f"{name}.mlp.fc2", width, hidden)
    if shifted:
        shapes[f"{name}.attn_mask"] = ((64 // window) ** 2, tokens, tokens)
    return shapes


def window_ends() -> Shapes:
    """What SwinIR and DRCT have before and after their layers."""
    shapes = conv("conv_first", 180, 3) | norm("patch_embed.norm", 180) | norm("norm", 180)
    shapes |= conv("conv_after_body", 180, 180) | conv("conv_before_upsample.0", 64, 180)
    return shapes | conv("upsample.0", 256, 64) | conv("upsample.2", 256, 64) | conv("conv_last", 3, 64)


def swinir() -> Shapes:
    """JingyunLiang/SwinIR, models/network_swinir.py; classical SR, medium size, trained on 64x64."""
    shapes = window_ends()
    for layer in range(6):
        for block in range(6):
            name = f"layers.{layer}.residual_group.blocks.{block}"
            shapes |= window_block(name, 180, heads=6, window=8, hidden=360, shifted=block % 2 == 1)
        shapes |= conv(f"layers.{layer}.conv", 180, 180)
    return shapes


def drct() -> Shapes:
    """ming053l/DRCT, drct/archs/DRCT_arch.py; trained on 64x64."""
    shapes = window_ends()
    for layer in range(6):
        for block in range(5):
            width = 180 + 32 * block
            name, hidden = f"layers.{layer}.swin{block + 1}", width * (2 if block < 3 else 1)
            shapes |= window_block(name, width, 6 - width % 6, window=16, hidden=hidden, shifted=block % 2 == 1)
            shapes |= conv(f"layers.{layer}.adjust{block + 1}", 32 if block < 4 else 180, width, 1)
    return shapes


LAYOUTS: dict[str, tuple[str, Callable[[], Shapes]]] = {
    "edsr as basicsr writes it": ("edsr", edsr_basicsr),
    "edsr as its authors write it": ("edsr", edsr_authors),
    "safmn": ("safmn", safmn),
    "swinir": ("swinir", swinir),
    "drct": ("drct", drct),
}
PARAMETERS = {"edsr": 1_517_571, "safmn": 239_520, "swinir": 11_900_199, "drct": 14_139_579}


def prefixed(state: State) -> State:
    return {f"module.{key}": value for key, value in state.items()}


CONTAINERS: dict[str, Callable[[State], object]] = {
    "bare": lambda state: state,
    "params": lambda state: {"params": state},
    "params_ema": lambda state: {"params_ema": state},
    "params_ema beside params": lambda state: {
        "params": {key: torch.zeros_like(value) for key, value in state.items()},
        "params_ema": state,
    },
    "state_dict, in another order": lambda state: {"epoch": 3, "state_dict": dict(reversed(state.items()))},
    "module.": prefixed,
    "module. in params": lambda state: {"params": prefixed(state)},
}


def random_state(shapes: Mapping[str, tuple[int, ...]]) -> State:
    """Small values; the buffers of window attention are zeros, which no model of ours may take over."""
    generator = torch.Generator().manual_seed(0)
    return {
        key: torch.zeros(shape, dtype=torch.int64 if key.endswith("index") else torch.float32)
        if key.endswith(BUFFERS)
        else torch.randn(shape, generator=generator) * 0.02
        for key, shape in shapes.items()
    }


def learned(state: Mapping[str, torch.Tensor]) -> State:
    return {key: value for key, value in state.items() if not key.endswith(BUFFERS)}


@pytest.fixture(scope="module")
def backbones(repository: Path) -> dict[str, schema.Backbone]:
    """The backbones of the paper's profile."""
    return reading.load_profile(repository / "config/paper.yaml").backbones


def save(backbone: schema.Backbone, content: object, folder: Path) -> schema.Backbone:
    path = folder / "official.pth"
    torch.save(content, path)
    return backbone.model_copy(update={"weights": str(path)})


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("name", LAYOUTS)
def test_an_official_checkpoint_loads(
    tmp_path: Path, backbones: Mapping[str, schema.Backbone], name: str, container: str
) -> None:
    architecture, layout = LAYOUTS[name]
    state = random_state(layout())
    model = build(save(backbones[architecture], CONTAINERS[container](state), tmp_path), 4)
    assert sum(value.numel() for value in model.parameters()) == PARAMETERS[architecture]
    assert not model.training
    loaded, given = learned(model.state_dict()), learned(state)
    if name == "edsr as its authors write it":
        given = {key: value for key, value in given.items() if not key.startswith(("sub_mean", "add_mean"))}
        assert sorted(value.double().sum().item() for value in loaded.values()) == pytest.approx(
            sorted(v.double().sum().item() for v in given.values()), rel=1e-12
        )
    else:
        assert loaded.keys() == given.keys()
        assert all(torch.equal(loaded[key], given[key]) for key in given)


def test_edsr_of_its_authors_restores_as_their_code_does(
    tmp_path: Path, backbones: Mapping[str, schema.Backbone]
) -> None:
    """Their forward pass, written out: images in [0, 255], the mean subtracted by a layer of its own."""
    state = random_state(edsr_authors())
    mean = 255 * torch.tensor([0.4488, 0.4371, 0.4040])
    for name, sign in (("sub_mean", -1), ("add_mean", 1)):
        state[f"{name}.weight"] = torch.eye(3).reshape(3, 3, 1, 1)
        state[f"{name}.bias"] = sign * mean

    def layer(name: str, x: torch.Tensor) -> torch.Tensor:
        weight = state[f"{name}.weight"]
        return functional.conv2d(x, weight, state[f"{name}.bias"], padding=weight.shape[-1] // 2)

    image = torch.rand(1, 3, 12, 10, generator=torch.Generator().manual_seed(1))
    head = body = layer("head.0", layer("sub_mean", image * 255))
    for block in range(16):
        body = body + layer(f"body.{block}.body.2", functional.relu(layer(f"body.{block}.body.0", body)))
    body = layer("body.16", body) + head
    for step in ("tail.0.0", "tail.0.2"):
        body = functional.pixel_shuffle(layer(step, body), 2)
    expected = layer("add_mean", layer("tail.1", body)) / 255

    model = build(save(backbones["edsr"], state, tmp_path), 4)
    with torch.inference_mode():
        torch.testing.assert_close(model(image), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("name", "window"), [("swinir", 8), ("drct", 16)])
def test_masks_and_indices_are_those_of_the_crops_trained_on(
    tmp_path: Path, backbones: Mapping[str, schema.Backbone], name: str, window: int
) -> None:
    model = build(save(backbones[name], {"params": random_state(LAYOUTS[name][1]())}, tmp_path), 4, lr_size=32)
    masks = [value for key, value in model.state_dict().items() if key.endswith("attn_mask")]
    indices = [value for key, value in model.state_dict().items() if key.endswith("relative_position_index")]
    assert {tuple(mask.shape) for mask in masks} == {((32 // window) ** 2, window**2, window**2)}
    assert all(mask.any() for mask in masks)
    assert {int(index.max()) for index in indices} == {(2 * window - 1) ** 2 - 1}


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("change", ["missing", "unknown", "shape"])
def test_what_does_not_fit_is_one_line_with_the_key(
    tmp_path: Path, backbones: Mapping[str, schema.Backbone], name: str, change: str
) -> None:
    architecture, layout = LAYOUTS[name]
    shapes = layout()
    last = next(key for key in reversed(shapes) if key.endswith(".bias"))
    ours = "conv_last.bias" if last == "tail.1.bias" else last
    if change == "missing":
        del shapes[last]
        said = f"it lacks {ours!r} (1 keys missing, 0 unknown)"
    elif change == "unknown":
        shapes["extra.weight"] = (1,)
        said = "it has 'extra.weight', which the architecture lacks (0 keys missing, 1 unknown)"
    else:
        said = f"{ours} has shape (7,), the backbone has {shapes[last]}".replace("[", "(").replace("]", ")")
        shapes[last] = (7,)
    backbone = save(backbones[architecture], {"params": random_state(shapes)}, tmp_path)
    message = refusal(lambda: build(backbone, 4))
    assert said in message
    assert message.startswith(str(tmp_path / "official.pth"))


def test_real_safmn_l_needs_nothing_but_its_file(tmp_path: Path) -> None:
    """The large model for photographs of Table 1: 5.6 M parameters, its size read off the checkpoint."""
    state = random_state(safmn(128, 16))
    torch.save({"params": state, "params_ema": state}, tmp_path / "official.pth")
    model = build_from_file(tmp_path / "official.pth")
    assert sum(value.numel() for value in model.parameters()) == 5_600_816
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
