"""The network of a file is found in its container and behind its prefix, averaged weights first, and this is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from adaptsr.backbones.build import build, build_from_file
from adaptsr.backbones.checkpoints import read_checkpoint
from adaptsr.backbones.gate import facts
from tests.backbones.helpers import TINY, fresh
from tests.factories import refusal

State = dict[str, Any]

GIVEN: State = dict(fresh("safmn", seed=1).state_dict())
RAW: State = dict(fresh("safmn", seed=2).state_dict())
EDSR: State = dict(fresh("edsr", seed=1).state_dict())
OTHER: State = {"features.0.weight": torch.ones(8, 3, 3, 3), "classifier.weight": torch.ones(1, 8)}
ADAM = {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 1e-3}]}


def behind(prefix: str, state: State = GIVEN) -> State:
    return {prefix + key: value for key, value in state.items()}


FOUND: dict[str, tuple[Callable[[], Any], str]] = {
    "an entry of any name": (lambda: {"net_g": GIVEN}, ""),
    "entries in entries": (lambda: {"model": {"state_dict": GIVEN}}, ""),
    "one prefix": (lambda: behind("module."), "weights in 'module', without the prefix 'module.'"),
    "a compiled one": (lambda: {"params": behind("_orig_mod.")}, ""),
    "a compiled part": (lambda: {k.replace("feats.", "feats._orig_mod."): v for k, v in GIVEN.items()}, ""),
    "prefixes before prefixes": (
        lambda: {"state_dict": behind("module._orig_mod.net_g."), "epoch": 3},
        "'state_dict.module.net_g', without the prefix 'module.net_g.' of their keys; leaves out 'epoch'",
    ),
    "Lightning": (
        lambda: {"state_dict": behind("model.") | behind("loss.vgg.", OTHER), "optimizer_states": [ADAM]},
        "weights in 'state_dict.model', without the prefix 'model.' of their keys; leaves out 'optimizer_states', 'loss'",
    ),
    "a prefix of any name": (lambda: behind("upscaler."), "without the prefix 'upscaler.'"),
    "generator and discriminator": (
        lambda: {"g": GIVEN, "d": OTHER, "optimizer": ADAM},
        "weights in 'g'; leaves out 'd', 'optimizer'",
    ),
    "both in one": (
        lambda: {"state_dict": behind("generator.") | behind("discriminator.", OTHER)},
        "without the prefix 'generator.' of their keys; leaves out 'discriminator'",
    ),
    "a sequence": (lambda: behind("0."), "without the prefix '0.'"),
    "BasicSR's averages": (
        lambda: {"params": RAW, "params_ema": GIVEN},
        "averaged (EMA) weights in 'params_ema', not the raw ones in 'params'",
    ),
    "averages after": (lambda: {"model": RAW, "ema": GIVEN}, "weights in 'ema', not the raw ones in 'model'"),
    "averages by prefix": (
        lambda: {"state_dict": behind("generator.", RAW) | behind("generator_ema.")},
        "averaged (EMA) weights in 'state_dict.generator_ema', not the raw ones in 'state_dict.generator'",
    ),
    "averages of two packages": (
        lambda: behind("online_model.", RAW) | behind("ema_model.") | {"step": torch.tensor(3)},
        "averaged (EMA) weights in 'ema_model', not the raw ones in 'online_model'",
    ),
    "torch's AveragedModel": (
        lambda: {"n_averaged": torch.tensor(7)} | behind("module."),
        "averaged (EMA) weights in 'module', without the prefix 'module.'",
    ),
    "torch's AveragedModel beside raw": (
        lambda: {"net": RAW, "swa": {"n_averaged": torch.tensor(7)} | behind("module.")},
        "averaged (EMA) weights in 'swa.module', not the raw ones in 'net'",
    ),
    "no averages yet": (lambda: {"model": GIVEN, "ema": None, "ema_decay": 0.999}, "weights in 'model'"),
    "averages of the discriminator": (lambda: {"net_g": GIVEN, "net_d_ema": OTHER}, "leaves out 'net_d_ema'"),
    "the same twice": (lambda: {"model": GIVEN, "state_dict": dict(GIVEN)}, "weights in 'model'"),
    "numbers among tensors": (lambda: {**GIVEN, "epoch": 3}, "weights in the file itself; leaves out 'epoch'"),
}


@pytest.mark.parametrize("case", FOUND)
def test_the_network_is_found_and_said(tmp_path: Path, case: str) -> None:
    """By the detection of architectures, and with the architecture and options declared."""
    make, said = FOUND[case]
    path = tmp_path / "model.pth"
    torch.save(make(), path)
    declared = TINY["safmn"].model_copy(update={"weights": str(path)})
    for model in (build_from_file(path), build(declared, 4)):
        state = model.state_dict()
        assert state.keys() == GIVEN.keys()
        assert all(torch.equal(state[key], value) for key, value in GIVEN.items())
        notes = facts(model).notes
        assert len(notes) == bool(said)
        assert all(note.startswith(f"{path}: takes the ") and said in note for note in notes)


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "two of one kind": (lambda: {"teacher": RAW, "student": GIVEN}, "several networks that fit: 'teacher', 'student'"),
    "two averages": (lambda: {"ema_1": RAW, "ema_2": GIVEN}, "several networks that fit: 'ema_1', 'ema_2'"),
    "averages as a list": (
        lambda: {"model": RAW, "ema": {"decay": 0.9, "shadow_params": list(GIVEN.values())}},
        "averaged (EMA) weights under 'ema' in an unknown form",
    ),
    "averages in a callback": (
        lambda: {"state_dict": RAW, "callbacks": {"EMA": {"weights": list(GIVEN.values())}}},
        "averaged (EMA) weights under 'callbacks' in an unknown form",
    ),
    "none at all": (lambda: {"epoch": 3, "optimizer": {"lr": 1e-3}}, "no state dict found"),
    "a tensor of no dimensions": (
        lambda: {**EDSR, "conv_first.weight": torch.tensor(1.0)},
        "no known architecture has",
    ),
    "a tensor of no width": (
        lambda: {**EDSR, "conv_first.weight": torch.ones(0, 3, 3, 3)},
        "no known architecture has",
    ),
    "sizes that cannot be": (lambda: {**GIVEN, "to_feat.weight": torch.tensor(1.0)}, "but cannot read its sizes"),
    "none that is known": (lambda: {"state_dict": OTHER}, "no known architecture has this checkpoint's keys"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_left_to_the_user(tmp_path: Path, case: str) -> None:
    make, said = REFUSED[case]
    path = tmp_path / "model.pth"
    torch.save(make(), path)
    message = refusal(lambda: build_from_file(path))
    assert message.startswith(f"{path}: ")
    assert said in message


def test_a_mapping_that_holds_itself(tmp_path: Path) -> None:
    content: State = {"model": GIVEN}
    content["again"] = content
    content["list"] = [content]
    torch.save(content, tmp_path / "model.pth")
    assert read_checkpoint(tmp_path / "model.pth").state.keys() == GIVEN.keys()
