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


def read_checkpoint(path: Path) -> dict[str, torch.Tensor]:
    """Tensors of a checkpoint (.safetensors, or a pickle read with `weights_only`), in the layout of our architectures.

    Understands `params`, `params_ema`, `state_dict` and bare layouts, the `module.` prefix and authors' own key names.
    Nothing in the file is executed, and no more is made of it than it holds; `UserError` says what was refused.
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
            f"{path}: refused as a checkpoint: its tensors claim {claimed} bytes, far more than the file holds"
        )
    return state


def _most_bytes(path: Path) -> int:
    """What tensors of a checkpoint may claim: some share their bytes, but not many. `ValueError` for a bomb."""
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
            f"{path}: holds no state dict; a mapping of names to tensors was expected, bare or under 'params' or 'params_ema'"
        )
    state = {str(key): value for key, value in content.items()}
    if all(key.startswith("module.") for key in state):
        state = {key.removeprefix("module."): value for key, value in state.items()}
    return dict(translated(state))


def load_weights(model: nn.Module, state: StateDict, source: str) -> None:
    """Load a state dict whose keys must be the model's; buffers that depend on the size trained on are kept as built."""
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
