"""Give merged weights the keys of the file that the backbone was loaded from."""

from __future__ import annotations

from pathlib import Path

import torch

from adaptsr.backbones.architectures.family import StateDict
from adaptsr.backbones.architectures.from_spandrel import detected
from adaptsr.backbones.architectures.known import class_names, is_rebuilt
from adaptsr.backbones.checkpoints import read_checkpoint


def as_in_file(path: Path, merged: StateDict) -> tuple[dict[str, torch.Tensor], str | None]:
    """Return the network of a file with merged values, and the container that the file has it in, None for a bare one.

    merged: the model's state dict with its class's keys. The result has the file's keys in their order. Masks and constants
    stay the file's: its own network expects their sizes.
    """
    learned = {name for name in merged if not is_rebuilt(name)}
    checkpoint = read_checkpoint(path, lambda state: learned <= class_names(state).keys())
    names = class_names(checkpoint.state)
    if not learned <= names.keys():
        checkpoint = read_checkpoint(path)
        names = _renamed_by_spandrel(checkpoint.state, str(path))
    values = {names[name]: merged[name] for name in learned}
    state = {
        key: values[key] if key in values and values[key].shape == own.shape else own.clone()
        for key, own in checkpoint.state.items()
    }
    return state, checkpoint.container


def _renamed_by_spandrel(state: StateDict, where: str) -> dict[str, str]:
    """Map the key names of spandrel's class to those of a file: numbered tensors in place of the file's show which became which."""
    keys = list(state)
    numbered = {key: torch.full_like(state[key], number) for number, key in enumerate(keys)}
    loaded = detected(numbered, where).model.state_dict()
    return {name: keys[int(value.flatten()[0])] for name, value in loaded.items()}
