"""Write, verify and resume from the checkpoints of a run in progress."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from adaptsr import files
from adaptsr.adaptation.reparametrization import (
    adaptation_state,
    load_adaptation,
    trainable_parameters,
)
from adaptsr.errors import UserError
from adaptsr.progress import Progress
from adaptsr.runs import records
from adaptsr.tensors import load_tensors, save_tensors

CHECKPOINTS_KEPT = 2


@dataclass
class History:
    """Losses, validations and seconds so far; part of every checkpoint. pending: losses since the last loss point."""

    losses: list[records.LossPoint] = field(default_factory=list)
    validation: list[records.ValidationPoint] = field(default_factory=list)
    pending: list[float] = field(default_factory=list)
    seconds: float = 0.0
    processor_seconds: float = 0.0

    def dump(self) -> dict[str, Any]:
        return {
            "losses": [point.model_dump() for point in self.losses],
            "validation": [point.model_dump() for point in self.validation],
            "pending": self.pending,
            "seconds": self.seconds,
            "processor_seconds": self.processor_seconds,
        }

    def record_divergence(self, iteration: int, loss: float) -> None:
        """Add the losses since the last point one by one, then the loss that diverged; null where a loss is not finite."""
        first = iteration - len(self.pending)
        for index, value in enumerate([*self.pending, loss]):
            self.losses.append(records.LossPoint(iteration=first + index, loss=value if math.isfinite(value) else None))
        self.pending.clear()

    @staticmethod
    def load(content: Mapping[str, Any]) -> History:
        return History(
            losses=[records.LossPoint(**point) for point in content["losses"]],
            validation=[records.ValidationPoint(**point) for point in content["validation"]],
            pending=list(content["pending"]),
            seconds=content["seconds"],
            processor_seconds=content.get("processor_seconds", 0.0),
        )


@dataclass(frozen=True)
class Checkpoints:
    """The newest checkpoints of a run. Each holds the trained parameters, Adam's state, the history and the run's key."""

    folder: Path
    key: str

    def save(self, iteration: int, model: nn.Module, optimizer: torch.optim.Optimizer, history: History) -> None:
        tensors = {f"model.{name}": tensor for name, tensor in adaptation_state(model).items()}
        for name, parameter in trainable_parameters(model).items():
            tensors.update({f"{key}.{name}": value for key, value in optimizer.state[parameter].items()})
        metadata = {"iteration": iteration, "key": self.key, "history": history.dump()}
        checked = {**metadata, "sha256": _checksum(tensors, metadata)}
        save_tensors(self.folder / f"{iteration:09d}.safetensors", tensors, checked)
        for old in self._newest_first()[CHECKPOINTS_KEPT:]:
            old.unlink()

    def resume(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress = lambda line: None
    ) -> tuple[int, History]:
        """Load the newest undamaged checkpoint of this run; return its iteration and history, or (0, empty) without one.

        Removes damaged checkpoints and those of other runs, which would count among the newest.
        """
        files.remove_torn(self.folder)
        for path in self._newest_first():
            try:
                tensors, metadata = self._read(path)
                load_adaptation(model, _under(tensors, "model"), str(path))
            except UserError as problem:
                progress(f"{problem}; removing it")
                path.unlink()
                continue
            self._load_optimizer(model, optimizer, tensors)
            progress(f"resuming from the checkpoint at iteration {metadata['iteration']}")
            return metadata["iteration"], History.load(metadata["history"])
        return 0, History()

    def clear(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def _read(self, path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Read a checkpoint. Raises `UserError` if it is damaged or of another run."""
        tensors, metadata = load_tensors(path)
        expected = metadata.pop("sha256", None)
        if expected != _checksum(tensors, metadata):
            raise UserError(f"{path}: damaged: the content differs from its checksum")
        if metadata["key"] != self.key:
            raise UserError(f"{path}: a checkpoint of other options, data or schedule")
        return tensors, metadata

    def _newest_first(self) -> list[Path]:
        return sorted(self.folder.glob("[0-9]*.safetensors"), reverse=True)

    def _load_optimizer(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]
    ) -> None:
        state = {}
        for index, (name, parameter) in enumerate(trainable_parameters(model).items()):
            if f"step.{name}" not in tensors:
                continue
            # Adam's fused step walks through memory in order, so moments need the memory layout of their parameter.
            moments = {
                key: torch.empty_like(parameter).copy_(tensors[f"{key}.{name}"]) for key in ("exp_avg", "exp_avg_sq")
            }
            state[index] = {"step": tensors[f"step.{name}"], **moments}
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _checksum(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, Any]) -> str:
    """Hash the content with SHA-256; safetensors itself has no checksum."""
    digest = hashlib.sha256(json.dumps(dict(metadata), sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _under(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(f"{prefix}."): value for name, value in tensors.items() if name.startswith(f"{prefix}.")}
