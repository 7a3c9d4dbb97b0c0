"""Write, verify and resume from the checkpoints of a run in progress."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from adaptsr import files
from adaptsr.adaptation.reparametrization import adaptation_state, load_adaptation
from adaptsr.errors import UserError
from adaptsr.progress import Progress
from adaptsr.runs import records
from adaptsr.tensors import load_tensors, save_tensors

CHECKPOINTS_KEPT = 2
MODEL = "model."
"""Prefix of the trained parameters in a checkpoint."""


WINDOW = 50
"""How many losses the means have that tell divergence."""
TIMES = 10.0
"""A run diverges if its mean loss grows by this factor."""


@dataclass
class History:
    """Losses, validations and seconds so far; part of every checkpoint.

    pending: losses since the last loss point. first, recent: the first and the last `WINDOW` losses.
    """

    losses: list[records.LossPoint] = field(default_factory=list)
    validation: list[records.ValidationPoint] = field(default_factory=list)
    pending: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    recent: list[float] = field(default_factory=list)
    seconds: float = 0.0
    processor_seconds: float = 0.0

    def dump(self) -> dict[str, Any]:
        return {
            "losses": [point.model_dump() for point in self.losses],
            "validation": [point.model_dump() for point in self.validation],
            "pending": self.pending,
            "first": self.first,
            "recent": self.recent,
            "seconds": self.seconds,
            "processor_seconds": self.processor_seconds,
        }

    def diverges(self, loss: float) -> bool:
        """Add a loss; tell whether it is not finite, or the mean of the last ones is too far above that of the first."""
        if len(self.first) < WINDOW:
            self.first.append(loss)
        self.recent = [*self.recent, loss][-WINDOW:]
        grown = len(self.recent) == WINDOW and math.fsum(self.recent) > TIMES * math.fsum(self.first)
        return not math.isfinite(loss) or grown

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
            first=list(content.get("first", [])),
            recent=list(content.get("recent", [])),
            seconds=content["seconds"],
            processor_seconds=content.get("processor_seconds", 0.0),
        )


class Stateful(Protocol):
    """What steps need besides the model: the state of optimizers, averages, other networks."""

    def state(self) -> dict[str, torch.Tensor]: ...

    def load_state(self, tensors: Mapping[str, torch.Tensor]) -> None: ...


@dataclass(frozen=True)
class Checkpoints:
    """The newest checkpoints of a run. Each holds the trained parameters, the trainer's state, the history and the run's key.

    plan: checksum of the plan that the parameters belong to (`Plan.sha256`), if there is one.
    """

    folder: Path
    key: str
    plan: str | None = None

    def save(self, iteration: int, model: nn.Module, trainer: Stateful, history: History) -> None:
        tensors = {f"{MODEL}{name}": tensor for name, tensor in adaptation_state(model).items()} | trainer.state()
        metadata = {"iteration": iteration, "key": self.key, "plan": self.plan, "history": history.dump()}
        checked = {**metadata, "sha256": _checksum(tensors, metadata)}
        save_tensors(self.folder / f"{iteration:09d}.safetensors", tensors, checked)
        for old in self._newest_first()[CHECKPOINTS_KEPT:]:
            old.unlink()

    def resume(
        self, model: nn.Module, trainer: Stateful, progress: Progress = lambda line: None
    ) -> tuple[int, History]:
        """Load the newest undamaged checkpoint of this run; return its iteration and history, or (0, empty) without one.

        Removes damaged checkpoints and those of other runs, which would count among the newest.
        """
        files.remove_torn(self.folder)
        for path in self._newest_first():
            try:
                tensors, metadata = self._read(path)
                own = {name: tensor for name, tensor in tensors.items() if name.startswith(MODEL)}
                load_adaptation(model, {name.removeprefix(MODEL): value for name, value in own.items()}, str(path))
            except UserError as problem:
                progress(f"{problem}; removing it")
                path.unlink()
                continue
            trainer.load_state({name: tensor for name, tensor in tensors.items() if name not in own})
            progress(f"resuming from the checkpoint at iteration {metadata['iteration']}")
            return metadata["iteration"], History.load(metadata["history"])
        return 0, History()

    def belong_to(self, plan: str) -> bool:
        """Tell whether the newest undamaged checkpoint of this run was made with a plan, given its checksum."""
        for path in self._newest_first():
            try:
                _, metadata = self._read(path)
            except UserError:
                continue
            return metadata.get("plan") == plan
        return False

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
        if self.plan and metadata.get("plan") not in (None, self.plan):
            raise UserError(f"{path}: a checkpoint of another plan, such as other ranks")
        return tensors, metadata

    def _newest_first(self) -> list[Path]:
        return sorted(self.folder.glob("[0-9]*.safetensors"), reverse=True)


def _checksum(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, Any]) -> str:
    """Hash the content with SHA-256; safetensors itself has no checksum."""
    digest = hashlib.sha256(json.dumps(dict(metadata), sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
