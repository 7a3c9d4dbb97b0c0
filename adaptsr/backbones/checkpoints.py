"""Read checkpoint files safely and load them into a model."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from adaptsr.backbones.architectures.family import StateDict
from adaptsr.backbones.architectures.known import is_rebuilt, translated
from adaptsr.errors import UserError

MOST_TIMES_ITS_SIZE = 4
SMALLEST_LIMIT_BYTES = 1 << 20
"""A checkpoint's tensors may claim this many bytes more than `MOST_TIMES_ITS_SIZE` times its file size."""


def read_checkpoint(path: Path) -> dict[str, torch.Tensor]:
    """Read a checkpoint's tensors (.safetensors, or a pickle with `weights_only`), with the keys of our architectures.

    Understands `params`, `params_ema`, `state_dict` and bare layouts, the `module.` prefix and the authors' own keys.
    Executes nothing in the file. Raises `UserError` if it is unreadable or claims far more bytes than it holds.
    """
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        most = _most_bytes(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{path}: refused as a checkpoint: {reason}; give plain tensors (.safetensors, or a .pth that torch.load(weights_only=True) takes)"
        ) from None
    state = _unwrap(content, path)
    claimed = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    if claimed > most:
        raise UserError(
            f"{path}: refused as a checkpoint: its tensors claim {claimed} bytes, far more than the file holds; give an undamaged one"
        )
    return state


def _most_bytes(path: Path) -> int:
    """Return how many bytes a checkpoint's tensors may claim; a few may share bytes. Raises `ValueError` for a zip bomb."""
    size = path.stat().st_size
    most = MOST_TIMES_ITS_SIZE * size + SMALLEST_LIMIT_BYTES
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > most:
            raise ValueError(f"it unpacks to {unpacked} bytes, far more than its {size}")
    return most


def _unwrap(content: Any, path: Path) -> dict[str, torch.Tensor]:
    for key in ("params_ema", "params", "state_dict", "model_state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    if (
        not isinstance(content, dict)
        or not content
        or not all(isinstance(value, torch.Tensor) for value in content.values())
    ):
        raise UserError(
            f"{path}: no state dict found; expected a mapping of names to tensors, bare or under 'params' or 'params_ema'"
        )
    state = {str(key): value for key, value in content.items()}
    if all(key.startswith("module.") for key in state):
        state = {key.removeprefix("module."): value for key, value in state.items()}
    return dict(translated(state))


def load_weights(model: nn.Module, state: StateDict, source: str) -> None:
    """Load a state dict into a model, but keep the model's own buffers that depend on the training size.

    Raises `UserError` naming `source` and the first key that is missing, unknown or of another shape.
    """
    own = model.state_dict()
    learned = [key for key in own if not is_rebuilt(key)]
    missing = sorted(set(learned) - set(state))
    unknown = sorted(key for key in state if key not in own and not is_rebuilt(key))
    if missing or unknown:
        what = f"lacks {missing[0]!r}" if missing else f"has {unknown[0]!r}, which the architecture lacks"
        raise UserError(
            f"{source}: this checkpoint does not fit the backbone: it {what} ({len(missing)} keys missing, {len(unknown)} unknown)"
        )
    for key in learned:
        if own[key].shape != state[key].shape:
            raise UserError(
                f"{source}: {key} has shape {tuple(state[key].shape)}, the backbone has {tuple(own[key].shape)}"
            )
    model.load_state_dict({key: own[key] if is_rebuilt(key) else state[key] for key in own})
