"""Load what a user restores with: a checkpoint file, or the folder of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from adaptsr import files
from adaptsr.adaptation.baseline_files import FOLDER
from adaptsr.backbones.build import build_from_file
from adaptsr.backbones.gate import facts
from adaptsr.data.fetch import resolve_weights
from adaptsr.errors import UserError
from adaptsr.runs.loading import load_run, sound_record


@dataclass(frozen=True)
class Restorer:
    """A model in eval mode, its name for people and a digest that no other model has."""

    model: nn.Module
    name: str
    digest: str

    @property
    def scale(self) -> int:
        return facts(self.model).scale


def load_restorer(path: Path, folders: Sequence[Path] = (FOLDER,)) -> Restorer:
    """Load a checkpoint file or a run's adapted backbone. Raises `UserError` if it is neither.

    folders: where the baseline files are.
    """
    if not path.is_dir():
        file = resolve_weights(str(path))
        return Restorer(build_from_file(file), file.name, files.file_sha256(file))
    if not (path / "record.json").is_file():
        raise UserError(f"{path}: no run in this folder; give a checkpoint file, or a folder that holds a record.json")
    record = sound_record(path)
    return Restorer(
        load_run(path, folders), f"{record.baseline}/{record.variant} on {record.backbone}", record.result_key
    )
