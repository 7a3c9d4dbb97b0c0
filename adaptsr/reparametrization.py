"""(W, b) -> (W', b'): attach a baseline to a frozen backbone, count, save, load and merge it.

Every method of the paper is a reparametrization of frozen layers, carried by `torch.nn.utils.parametrize`: the
backbone's code is never edited, what trains is exactly what has `requires_grad`, and merging writes (W', b') into a plain
state dict of the original architecture.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize

from adaptsr import records
from adaptsr.errors import UserError


@dataclass(frozen=True)
class Plan:
    """All of an adaptation that depends on data or chance: JSON settings (rank map) and tensors (mask indices).

    Attaching from a plan needs neither data nor generators' state.
    """

    settings: dict[str, Any]
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        tensors = folder / "plan.safetensors"
        if self.tensors:
            save_tensors(tensors, self.tensors, {})
        else:
            tensors.unlink(missing_ok=True)
        records.write_json(folder / "plan.json", self.settings)

    @staticmethod
    def load(folder: Path) -> Plan:
        settings = records.read_json(folder / "plan.json", "the plan of a run")
        tensors = folder / "plan.safetensors"
        return Plan(dict(settings), load_tensors(tensors)[0] if tensors.exists() else {})

    @staticmethod
    def sha256(folder: Path) -> str:
        """One checksum of the files of a saved plan."""
        files = (folder / "plan.json", folder / "plan.safetensors")
        return records.digest([records.file_sha256(path) if path.is_file() else None for path in files])


def reparametrize_weight(layer: nn.Module, reparametrization: nn.Module) -> None:
    """Make `layer.weight` read as `reparametrization(weight)`; the original stays, frozen, underneath.

    The reparametrization is moved to the weight's device and precision.
    """
    parametrize.register_parametrization(layer, "weight", reparametrization.to(original_weight(layer)))


def reparametrize_bias(layer: nn.Module, reparametrization: nn.Module) -> None:
    """The same for `layer.bias`; a layer without a bias is left alone, since the architecture has no key for one."""
    if layer.bias is not None:
        parametrize.register_parametrization(layer, "bias", reparametrization.to(original_weight(layer)))


def original_weight(layer: nn.Module) -> torch.Tensor:
    """The frozen weight under whatever is attached to it."""
    parametrized = parametrize.is_parametrized(layer, "weight")
    frozen = layer.parametrizations.weight.original if parametrized else layer.weight  # type: ignore[union-attr]
    assert isinstance(frozen, torch.Tensor)
    return frozen


def freeze(model: nn.Module) -> None:
    model.requires_grad_(False)


def train_statistics(model: nn.Module) -> None:
    """Let batch normalisation update its running statistics in training; they are then saved with the adaptation.

    Without it they stay frozen: an adapter that moves statistics changes parameters it does not count.
    """
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.trains_statistics = True  # type: ignore[assignment]


def training_mode(model: nn.Module) -> None:
    """`model.train()`, except that frozen batch normalisation keeps its statistics."""
    model.train()
    for module in model.modules():
        if isinstance(module, _BatchNorm) and not getattr(module, "trains_statistics", False):
            module.eval()


def trainable_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Trainable parameters by name, once each even where sites share them."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def trainable_count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in trainable_parameters(model).values())


def parameter_count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _trained_statistics(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm) and getattr(module, "trains_statistics", False):
            yield from ((f"{name}.{key}", buffer) for key, buffer in module.named_buffers(recurse=False))


def adaptation_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """What an adaptation consists of: its trainable parameters, and statistics where those are trained."""
    tensors: dict[str, torch.Tensor] = dict(trainable_parameters(model))
    tensors.update(_trained_statistics(model))
    return {name: tensor.detach() for name, tensor in tensors.items()}


def load_adaptation(model: nn.Module, state: Mapping[str, torch.Tensor], source: str) -> None:
    """Copy a saved adaptation into a model to which the same plan is attached."""
    own = adaptation_state(model)
    different = sorted(set(own) ^ set(state))
    if different:
        raise UserError(
            f"{source}: this adaptation does not fit the plan and backbone: {different[0]!r} is on one side only"
        )
    for name, tensor in own.items():
        if tensor.shape != state[name].shape:
            raise UserError(
                f"{source}: {name} has shape {tuple(state[name].shape)}, the attached model has {tuple(tensor.shape)}"
            )
    for name, tensor in own.items():
        tensor.copy_(state[name])


def merged_state(model: nn.Module, keys: list[str]) -> dict[str, torch.Tensor]:
    """The plain state dict of the original architecture: `keys` in their order, each with its effective value."""
    with torch.no_grad():
        return {key: _effective(model, key).detach().clone().contiguous() for key in keys}


def _effective(model: nn.Module, key: str) -> torch.Tensor:
    path, _, name = key.rpartition(".")
    value = getattr(model.get_submodule(path), name)
    assert isinstance(value, torch.Tensor)
    return value


def save_tensors(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, Any]) -> None:
    """Write safetensors atomically and deterministically; `metadata` goes into one key as sorted JSON."""
    contiguous = {name: tensors[name].detach().cpu().contiguous() for name in sorted(tensors)}
    with records.atomic_write(path) as temporary:
        try:
            safetensors.torch.save_file(contiguous, temporary, {"adaptsr": json.dumps(dict(metadata), sort_keys=True)})
        except safetensors.SafetensorError as error:
            raise _system_error(error) from error


def _system_error(error: safetensors.SafetensorError) -> Exception:
    """What the system refused, which safetensors tells in its text only."""
    number = re.search(r"\(os error (\d+)\)", str(error))
    return OSError(int(number[1]), os.strerror(int(number[1]))) if number else error


def load_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Tensors and metadata of a safetensors file; `UserError` names the file when it is torn or not one."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = json.loads((file.metadata() or {}).get("adaptsr", "{}"))
        if not isinstance(metadata, dict):
            raise ValueError("its metadata is no mapping")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path}: not a readable safetensors file ({error})") from None
    return tensors, metadata


def damage(folder: Path, record: records.RunRecord) -> str | None:
    """What of a finished run's files is not what its record names, or None."""
    adaptation = folder / "adaptation.safetensors"
    if record.status == "finished" and (
        not adaptation.is_file() or records.file_sha256(adaptation) != record.adaptation_sha256
    ):
        return f"{adaptation}: not the weights that its record.json names"
    if record.plan_sha256 not in (None, Plan.sha256(folder)):
        return f"{folder / 'plan.json'}: not the plan that its record.json names"
    return None
