"""A folder in which commands run on a small matrix, in forked processes that can be killed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from adaptsr.runs.records import RunRecord, read_record
from tests.reliability import processes
from tests.reliability.processes import Done, Sabotage, Started
from tests.workflow.conftest import workspace

__all__ = ["workspace"]

BACKBONE = "safmn"
VOLATILE = {"wall_seconds", "peak_memory_bytes", "resumed_from", "provenance"}
"""What of a record may differ between two runs that are the same."""

Json = dict[str, Any]


@dataclass(frozen=True)
class Place:
    """A working folder with a profile, the demo's weights and a prepared dataset."""

    root: Path

    def profile(self) -> Json:
        content: Json = yaml.safe_load((self.root / "config/demo.yaml").read_text())
        return content

    def write_profile(self, content: Mapping[str, Any]) -> None:
        (self.root / "config").mkdir(exist_ok=True)
        (self.root / "config/demo.yaml").write_text(yaml.safe_dump(dict(content), sort_keys=False))

    def change_training(self, **values: object) -> None:
        content = self.profile()
        content["training"].update(values)
        self.write_profile(content)

    def start(self, *words: str, sabotage: Sabotage | None = None) -> Started:
        return processes.start(self.root, *words, sabotage=sabotage)

    def run(self, *words: str, sabotage: Sabotage | None = None) -> Done:
        return processes.run(self.root, *words, sabotage=sabotage)

    def succeed(self, *words: str) -> Done:
        return processes.succeed(self.root, *words)

    def run_folder(self, row: str, seed: int, backbone: str = BACKBONE) -> Path:
        return self.root / "results/demo" / backbone / row / f"seed{seed}"

    def record(self, row: str, seed: int, backbone: str = BACKBONE) -> RunRecord:
        return read_record(self.run_folder(row, seed, backbone) / "record.json")

    def adaptation(self, row: str, seed: int, backbone: str = BACKBONE) -> bytes:
        return (self.run_folder(row, seed, backbone) / "adaptation.safetensors").read_bytes()

    def checkpoints(self, row: str, seed: int, backbone: str = BACKBONE) -> list[int]:
        """Iterations of the checkpoints that are there, in order."""
        folder = self.run_folder(row, seed, backbone) / "checkpoints"
        return sorted(int(path.stem) for path in folder.glob("[0-9]*.safetensors"))

    def files(self) -> set[str]:
        return {str(path.relative_to(self.root)) for path in self.root.rglob("*") if path.is_file()}

    def copy(self, root: Path) -> Place:
        shutil.copytree(self.root, root, ignore=shutil.ignore_patterns("command-*.log"))
        return Place(root)


def train_words(row: str, *seeds: int, backbone: str = BACKBONE) -> list[str]:
    return ["train", "--backbone", backbone, "--variant", row, "--seeds", *map(str, seeds)]


def comparable(record: RunRecord) -> Json:
    """A record without what may differ between two runs that are the same."""
    content: Json = json.loads(record.model_dump_json(exclude=VOLATILE))
    for point in content["validation"]:
        del point["seconds"]
    return content


def small(content: Json) -> Json:
    """The demo's profile with two backbones, two seeds, few iterations and images of 64 pixels."""
    content["datasets"] = {"degraded": content["datasets"]["degraded"]}
    content["datasets"]["degraded"].update(patch=64, patches_per_scene={"train": 2, "validation": 1, "test": 1})
    content["seeds"] = [1, 2]
    content["backbones"] = {name: content["backbones"][name] for name in ("safmn", "swinir")}
    content["training"].update(iterations=6, batch_size=2, crop=32, validate_every=3, checkpoint_iterations=2)
    rows = {"full_finetuning": ["all"], "lora": ["r1", "r2"], "rank_aware": ["gradient"]}
    names = [path.stem for path in (Path(__file__).resolve().parents[2] / "baselines").glob("*.py")]
    kept = {name: content["baselines"].get(name, {}) for name in names}
    content["baselines"] = {name: {**changes, "rows": rows.get(name, [])} for name, changes in kept.items()}
    content["scoring"]["metrics"] = {name: content["scoring"]["metrics"][name] for name in ("psnr_y", "ssim_y")}
    content["report"]["pictures"] = []
    content["report"]["comparisons"] = []
    content.pop("pretraining")
    return content


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Place:
    """The folder that the others are copies of."""
    place = Place(tmp_path_factory.mktemp("prepared"))
    shutil.copytree(repository / "resources/demo", place.root / "resources/demo")
    place.write_profile(small(yaml.safe_load((repository / "config/demo.yaml").read_text())))
    place.succeed("data", "prepare", "degraded")
    return place


@pytest.fixture
def place(prepared: Place, tmp_path: Path) -> Place:
    return prepared.copy(tmp_path / "place")
