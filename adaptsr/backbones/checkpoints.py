"""Read checkpoint files safely and load them into a model."""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from torch import nn

from adaptsr.backbones.architectures.family import StateDict
from adaptsr.backbones.architectures.known import is_rebuilt, recognises
from adaptsr.backbones.networks import DEEPEST, Fits, find_network
from adaptsr.backbones.recognition import recognised
from adaptsr.errors import UserError

MOST_TIMES_ITS_SIZE = 4
SMALLEST_LIMIT_BYTES = 1 << 20
"""A checkpoint's tensors may claim this many bytes more than `MOST_TIMES_ITS_SIZE` times its file size."""

PICKLED = "params"
"""The entry that a pickle of our own has its tensors under, as BasicSR's."""

_PLAIN = "save its tensors alone, torch.save(model.state_dict(), ...), and give that file"
_REFUSED_GLOBAL = re.compile(r"GLOBAL (\S+) (?:was not an allowed|whose module)")
_MAPPINGS = re.compile(
    r"collections\.defaultdict|easydict\.EasyDict|addict\.addict\.Dict|yacs\.config\.CfgNode|box\.box\.Box"
    r"|(pytorch_lightning|lightning|lightning_fabric)\.[\w.]+\.AttributeDict"
)
_HARMLESS = re.compile(
    r"argparse\.Namespace|types\.SimpleNamespace|functools\.partial|(pathlib|datetime|numpy|omegaconf|typing)\.[\w.]+"
    r"|(pytorch_lightning|lightning|lightning_fabric|mmengine|mmcv)\.[\w.]+"
    r"|torch\.optim\.[\w.]+|torch\.nn\.modules\.(activation|loss|normalization)\.\w+"
    r"|(builtins\.)?(int|float|bool|str|bytes|list|tuple|dict|slice|range|frozenset|object)"
)
"""Classes that settings beside weights are often made of. None is imported or called: an empty stand-in takes its place."""


class _Mapping:
    """Stands for a class of mappings."""

    def __new__(cls, *_: object, **__: object) -> Any:
        return OrderedDict()


class _Inert:
    """Stands for any other class; takes any arguments and state and does nothing with them."""

    def __init__(self, *_: object, **__: object) -> None: ...

    def __new__(cls, *_: object, **__: object) -> _Inert:
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None: ...


class Checkpoint(NamedTuple):
    """The network that a file holds."""

    state: dict[str, torch.Tensor]
    """Its tensors under the file's own key names, without a wrapper's prefix, in the file's order."""
    container: str | None
    """The entry that a pickle has them under, None for a bare state dict."""
    notes: tuple[str, ...]
    """What reading decided, one line each."""


def read_checkpoint(path: Path, fits: Fits = recognises) -> Checkpoint:
    """Read the network of a checkpoint (safetensors, or a pickle with `weights_only`) with float weights as float32.

    fits: tells whether a state dict is that of the network looked for. Executes nothing in the file. Raises `UserError` if
    it is unreadable, holds no such network or claims far more bytes than it has.
    """
    plain = recognised(path) == "safetensors"
    content = _load_safetensors(path) if plain else _load_torch(path)
    network, notes = find_network(content, fits, str(path))
    kinds = sorted({str(value.dtype).removeprefix("torch.") for value in network.state.values() if _to_convert(value)})
    if kinds:
        notes.append(f"holds {', '.join(kinds)} weights, which are read as float32")
    state = {name: _plain(path, name, value) for name, value in network.state.items()}
    container = PICKLED if plain else network.containers[0] if len(network.containers) == 1 else None
    return Checkpoint(state, container, tuple(f"{path}: {note}" for note in notes))


def _to_convert(value: torch.Tensor) -> bool:
    return value.is_floating_point() and value.dtype != torch.float32


def _plain(path: Path, name: str, value: torch.Tensor) -> torch.Tensor:
    """Return a tensor that a model can take, as float32 if it is a float. Raises `UserError` if none can."""
    odd = value.is_quantized or value.layout != torch.strided or value.is_meta or value.is_complex()
    if odd or (name.endswith(("weight", "bias")) and not value.is_floating_point()):
        raise UserError(f"{path}: {name!r} is quantized, sparse, complex or has no values; give float weights")
    plain = value.detach().float() if _to_convert(value) else value.detach()
    if plain.is_floating_point() and not is_rebuilt(name) and not bool(plain.isfinite().all()):
        raise UserError(f"{path}: {name!r} holds values that are not finite; give an undamaged checkpoint")
    return plain


def _load_safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except Exception as error:
        raise UserError(f"{path}: a safetensors file that is damaged or cut short; fetch it again") from error


def _load_torch(path: Path) -> Any:
    try:
        most = _most_bytes(path)
        content = _unpickled(path)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{path}: {_explained(error)}") from error
    claimed = sum(value.numel() * value.element_size() for value in _tensors(content))
    if claimed > most:
        raise UserError(
            f"{path}: refused as a checkpoint: its tensors claim {claimed} bytes, far more than the file holds; give an undamaged one"
        )
    return content


def _unpickled(path: Path) -> Any:
    """Load with `weights_only`; harmless classes get stand-ins, as torch names them one by one."""
    stand_ins: dict[str, type] = {}
    while True:
        try:
            with (
                warnings.catch_warnings(),
                torch.serialization.safe_globals([(it, name) for name, it in stand_ins.items()]),
            ):
                warnings.simplefilter("ignore")
                return torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            found = _REFUSED_GLOBAL.search(str(error))
            name = found[1] if found else ""
            full = name if "." in name else f"builtins.{name}"
            if full in stand_ins or not (_MAPPINGS.fullmatch(name) or _HARMLESS.fullmatch(name)):
                raise
            stand_ins[full] = _Mapping if _MAPPINGS.fullmatch(name) else _Inert


def _explained(error: Exception) -> str:
    """Say what is wrong with a file that torch.save seems to have written, and what to do."""
    text = str(error)
    if found := _REFUSED_GLOBAL.search(text):
        return (
            f"refused as a checkpoint: needs the code of {found[1][:100]!r}, which is never run from a file; {_PLAIN}"
        )
    if "unpacks to" in text:
        return f"refused as a checkpoint: {text}; give an undamaged one"
    if "Unsupported operand" in text:
        return "written with a pickle protocol that is not read safely; save it again with torch.save's own protocol"
    if "magic number" in text:
        return f"a Python pickle that torch.save did not write; {_PLAIN}"
    if isinstance(error, pickle.UnpicklingError):
        return f"refused as a checkpoint: holds more than tensors and plain values; {_PLAIN}"
    return "a PyTorch checkpoint that is damaged or cut short; fetch it again"


def _tensors(content: Any, depth: int = DEEPEST) -> list[torch.Tensor]:
    if isinstance(content, torch.Tensor):
        return [content]
    values = content.values() if isinstance(content, dict) and depth >= 0 else ()
    return [tensor for value in values for tensor in _tensors(value, depth - 1)]


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


def load_weights(model: nn.Module, state: StateDict, source: str) -> None:
    """Load a state dict into a model, but keep the model's own buffers that depend on the training size, such as masks.

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
    buffers = dict(model.named_buffers())
    other_size = {key for key in learned if own[key].shape != state[key].shape}
    for key in learned:
        if key in other_size and key not in buffers:
            raise UserError(
                f"{source}: {key} has shape {tuple(state[key].shape)}, the backbone has {tuple(own[key].shape)}"
            )
    model.load_state_dict({key: own[key] if is_rebuilt(key) or key in other_size else state[key] for key in own})
