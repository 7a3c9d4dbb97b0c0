"""A folder in which commands run on a small matrix, in forked processes that can be killed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from adaptsr.runs.records import RunRecord, read_record
from tests.factories import REPOSITORY, Json, tiny_profile, tree
from tests.reliability import processes
from tests.reliability.processes import Done, Sabotage, Started
from tests.workflow.conftest import workspace

__all__ = ["workspace"]

BACKBONE = "safmn"
VOLATILE = {"wall_seconds", "processor_seconds", "peak_memory_bytes", "resumed_from", "provenance"}
"""What of a record may differ between two runs that are the same."""

SCORES = "results/demo/scores.parquet"
LIST = f"results/demo/scores/{BACKBONE}.json"
TABLE = "reports/demo/table2.csv"
PREPARE = ("data", "prepare", "degraded")
SCORE_RUNS = ("score-runs", "--backbone", BACKBONE, "--out", LIST)
GATHER = ("gather", "--out", SCORES)
REPORT = ("report", "table2")
ESTIMATE = ("estimate", "--profile", "config/demo.yaml", "--json")


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

    def narrow(self, *variants: str) -> None:
        """One backbone, and of LoRA and rank-aware LoRA only these variants."""
        content = self.profile()
        content["backbones"] = {BACKBONE: content["backbones"][BACKBONE]}
        for name in ("full_finetuning", "lora", "rank_aware"):
            chosen = [variant.partition("/")[2] for variant in variants if variant.startswith(f"{name}/")]
            content["baselines"][name]["rows"] = chosen
        content["report"]["tables"] = {"table2": {"title": "Table", "rows": ["unadapted", "*/*"]}}
        self.write_profile(content)

    def start(self, *words: str, sabotage: Sabotage | None = None) -> Started:
        return processes.start(self.root, *words, sabotage=sabotage)

    def run(self, *words: str, sabotage: Sabotage | None = None) -> Done:
        return processes.run(self.root, *words, sabotage=sabotage)

    def succeed(self, *words: str, sabotage: Sabotage | None = None) -> Done:
        return processes.succeed(self.root, *words, sabotage=sabotage)

    def run_folder(self, row: str, seed: int, backbone: str = BACKBONE) -> Path:
        return self.root / "results/demo" / backbone / row / f"seed{seed}"

    def record(self, row: str, seed: int, backbone: str = BACKBONE) -> RunRecord:
        return read_record(self.run_folder(row, seed, backbone) / "record.json")

    def result(self, row: str, seed: int, backbone: str = BACKBONE) -> tuple[bytes, Json]:
        """The weights of a finished run and what its record says of them."""
        weights = self.run_folder(row, seed, backbone) / "adaptation.safetensors"
        return weights.read_bytes(), comparable(self.record(row, seed, backbone))

    def checkpoints(self, row: str, seed: int, backbone: str = BACKBONE) -> list[int]:
        """Iterations of the checkpoints that are there, in order."""
        folder = self.run_folder(row, seed, backbone) / "checkpoints"
        return sorted(int(path.stem) for path in folder.glob("[0-9]*.safetensors"))

    def files(self) -> set[str]:
        return {name for name in tree(self.root) if not name.startswith("command-")}

    def copy(self, name: str, beside: Path | None = None) -> Place:
        """Copy the folder; without `beside`, next to itself."""
        root = (beside or self.root.parent) / name
        shutil.copytree(self.root, root, ignore=shutil.ignore_patterns("command-*.log"))
        return Place(root)


def train_words(row: str, *seeds: int, backbone: str = BACKBONE) -> list[str]:
    return ["train", "--backbone", backbone, "--variant", row, "--seeds", *map(str, seeds)]


def jobs(root: Path) -> list[psutil.Process]:
    """The processes of our commands that work in a folder, those of a Snakemake that is gone included."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        try:
            words = process.info["cmdline"] or []
            if any(Path(word).name == "adaptsr" for word in words[:2]) and Path(process.cwd()) == root:
                found.append(process)
        except psutil.Error:
            continue
    return found


def comparable(record: RunRecord) -> Json:
    """A record without what may differ between two runs that are the same."""
    content: Json = json.loads(record.model_dump_json(exclude=VOLATILE))
    for point in content["validation"]:
        del point["seconds"]
    return content


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The folder that the others are copies of."""
    place = Place(tmp_path_factory.mktemp("prepared"))
    shutil.copytree(REPOSITORY / "resources/demo", place.root / "resources/demo")
    rows = {"full_finetuning": ["all"], "lora": ["r1", "r2"], "rank_aware": ["gradient"]}
    place.write_profile(
        tiny_profile(("safmn", "swinir"), rows, iterations=6, validate_every=3, checkpoint_iterations=2)
    )
    place.succeed(*PREPARE)
    return place


@pytest.fixture
def place(prepared: Place, tmp_path: Path) -> Place:
    return prepared.copy("place", tmp_path)
