"""(W, b) -> (W', b'): attach a baseline to a frozen backbone, count it, and save and load what it trains.

Every method of the paper is a reparametrization of frozen layers, carried by `torch.nn.utils.parametrize`: the
backbone's code is never edited, what trains is exactly what has `requires_grad`, and merging writes (W', b') into a plain
state dict of the original architecture.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize

from adaptsr import files
from adaptsr.errors import UserError
from adaptsr.tensors import load_tensors, save_tensors


@dataclass(frozen=True)
class Plan:
    """The part of an adaptation that depends on data or chance: JSON settings (rank map) and tensors (mask indices).

    Attaching a plan needs no data and no generator state. The setting `notes` is for readers of the row.
    """

    settings: dict[str, Any]
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)

    @property
    def notes(self) -> list[str]:
        """What holds for this row on this backbone and its numbers do not show; footnotes of tables."""
        return list(self.settings.get("notes", []))

    def save(self, folder: Path) -> None:
        tensors = folder / "plan.safetensors"
        if self.tensors:
            save_tensors(tensors, self.tensors, {})
        else:
            tensors.unlink(missing_ok=True)
        files.write_json(folder / "plan.json", self.settings)

    @staticmethod
    def load(folder: Path) -> Plan:
        settings = files.read_json(folder / "plan.json", "the plan of a run")
        tensors = folder / "plan.safetensors"
        return Plan(dict(settings), load_tensors(tensors)[0] if tensors.exists() else {})

    @staticmethod
    def sha256(folder: Path) -> str:
        """Return one checksum over the files of a saved plan."""
        paths = (folder / "plan.json", folder / "plan.safetensors")
        return files.digest([files.file_sha256(path) if path.is_file() else None for path in paths])


def sharing_notes(groups: Mapping[str, str], what: str) -> list[str]:
    """Note that a method shares nothing on a backbone if every site is alone in its group, by site in `groups`."""
    if len(set(groups.values())) < len(groups):
        return []
    return [f"no {what} is shared on this backbone: each of its {len(groups)} sites is alone in its group"]


def reparametrize_weight(layer: nn.Module, reparametrization: nn.Module) -> None:
    """Make `layer.weight` read as `reparametrization(weight)`; the original stays, frozen, underneath.

    The reparametrization is moved to the weight's device and precision.
    """
    parametrize.register_parametrization(layer, "weight", reparametrization.to(original_weight(layer)))


def reparametrize_bias(layer: nn.Module, reparametrization: nn.Module) -> None:
    """Do the same for `layer.bias`; skip a layer without one, because the architecture has no key for it."""
    if layer.bias is not None:
        parametrize.register_parametrization(layer, "bias", reparametrization.to(original_weight(layer)))


def original_weight(layer: nn.Module) -> torch.Tensor:
    """Return the frozen weight under any attached reparametrization."""
    parametrized = parametrize.is_parametrized(layer, "weight")
    frozen = layer.parametrizations.weight.original if parametrized else layer.weight  # type: ignore[union-attr]
    assert isinstance(frozen, torch.Tensor)
    return frozen


def freeze(model: nn.Module) -> None:
    model.requires_grad_(False)


def train_statistics(model: nn.Module) -> None:
    """Let batch normalisation update its running statistics in training and save them with the adaptation.

    By default they stay frozen: an adapter that moves statistics would change numbers that it does not count.
    """
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.trains_statistics = True  # type: ignore[assignment]


def training_mode(model: nn.Module) -> None:
    """Call `model.train()`, but keep the statistics of frozen batch normalisation."""
    model.train()
    for module in model.modules():
        if isinstance(module, _BatchNorm) and not getattr(module, "trains_statistics", False):
            module.eval()


def trainable_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the trainable parameters by name; parameters that sites share appear once."""
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
    """Return an adaptation's tensors: its trainable parameters, and batch statistics if they train."""
    tensors: dict[str, torch.Tensor] = dict(trainable_parameters(model))
    tensors.update(_trained_statistics(model))
    return {name: tensor.detach() for name, tensor in tensors.items()}


def load_adaptation(model: nn.Module, state: Mapping[str, torch.Tensor], source: str) -> None:
    """Copy a saved adaptation into a model with the same plan attached. Raises `UserError` if names or shapes differ."""
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
    """Return a plain state dict of the original architecture: `keys` in their order, with their effective values."""
    with torch.no_grad():
        return {key: _effective(model, key).detach().clone().contiguous() for key in keys}


def _effective(model: nn.Module, key: str) -> torch.Tensor:
    path, _, name = key.rpartition(".")
    value = getattr(model.get_submodule(path), name)
    assert isinstance(value, torch.Tensor)
    return value
