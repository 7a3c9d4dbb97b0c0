"""A small copy of the project in which the whole workflow runs in seconds."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pytest
import yaml

from tests.factories import copy_project, profile_content, tiny_profile

SNAKEMAKE = Path(sys.executable).with_name("snakemake")
ADAPTSR = Path(sys.executable).with_name("adaptsr")


@dataclass(frozen=True)
class Workspace:
    """A folder with the project's files and a tiny profile as its default."""

    root: Path

    @property
    def environment(self) -> dict[str, str]:
        search = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        # PYTHONPATH puts this copy of the package, and so its baselines/, before the installed one.
        return {**os.environ, "PATH": search, "PYTHONPATH": str(self.root), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}

    def start(self, *words: str, output: int | IO[str] = subprocess.PIPE) -> subprocess.Popen[str]:
        """Start snakemake; give `output` a file where nothing reads while it runs, as a full pipe would stop it."""
        return subprocess.Popen(
            [str(SNAKEMAKE), *words],
            cwd=self.root,
            env=self.environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def snakemake(self, *words: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*words)
        output, _ = process.communicate(timeout=900)
        return subprocess.CompletedProcess(words, process.returncode, output)

    def adaptsr(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(ADAPTSR), *words], cwd=self.root, env=self.environment, capture_output=True, text=True, timeout=600
        )

    def profile(self) -> dict[str, Any]:
        content: dict[str, Any] = yaml.safe_load((self.root / "config/demo.yaml").read_text())
        return content

    def write_profile(self, content: Mapping[str, Any]) -> None:
        (self.root / "config/demo.yaml").write_text(yaml.safe_dump(dict(content), sort_keys=False))

    def trained_at(self) -> dict[str, int]:
        """When each run's record was written, by its folder under results/demo/."""
        folder = self.root / "results/demo"
        return {
            str(path.parent.relative_to(folder)): path.stat().st_mtime_ns
            for path in folder.glob("*/*/*/seed*/record.json")
        }


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """One backbone, two variants, two seeds; LPIPS has no weights here, so that its column is missing with the reason."""
    made = Workspace(tmp_path_factory.mktemp("workspace"))
    copy_project(made.root)
    content = tiny_profile()
    content["scoring"]["metrics"]["lpips"] = profile_content()["scoring"]["metrics"]["lpips"]
    content["report"]["comparisons"] = [
        {"title": "Against full fine-tuning", "rows": ["*/*"], "compared_with": "full_finetuning/all"}
    ]
    made.write_profile(content)
    return made
