"""A small project, another folder in which its user works, and a method kept there."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from adaptsr.cli import main
from adaptsr.project import VARIABLE
from tests.factories import tiny_profile

BASELINES = ["--baselines", "methods"]
"""The words that add the folder of `METHOD`."""
RUN = "results/demo/safmn/gains/all/seed1"
METHOD = '''
"""Gains (nobody, nowhere): scales the weight of every site."""

import torch
from torch import nn

from adaptsr.adaptation.reparametrization import Plan, reparametrize_weight
from adaptsr.backbones.sites import select

TITLE = "Gains"
TRAINS = "one number per site"
OPTIONS = {"budget": "lora/r8"}
VARIANTS = {"all": {}}
ROWS = ["all"]
PROTOCOL = 1


class Gain(nn.Module):
    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, weight):
        return self.gain * weight


def plan(backbone, sites, options, calibration, seed):
    return Plan({"sites": [site.name for site in select(sites)], "budget": options["budget"]})


def attach(model, plan):
    for name in plan.settings["sites"]:
        reparametrize_weight(model.get_submodule(name), Gain())
'''.lstrip()


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    """Make a project with a small profile and its data."""
    root = tmp_path_factory.mktemp("prepared")
    (root / "config").mkdir()
    (root / "Snakefile").touch()
    shutil.copytree(repository / "resources/demo", root / "resources/demo")
    content = tiny_profile(rows={"full_finetuning": ["all"], "lora": ["r1", "r2"], "rank_aware": ["gradient"]})
    (root / "config/demo.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        assert main(["data", "prepare", "degraded"]) == 0
    return root


@pytest.fixture(scope="session")
def finished(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Train and score one run of the method, as the only row of a project, from the folder that has the method.

    Returns the project and that folder.
    """
    root, folder = tmp_path_factory.mktemp("finished") / "project", tmp_path_factory.mktemp("author")
    shutil.copytree(prepared, root)
    path = root / "config/demo.yaml"
    content = yaml.safe_load(path.read_text())
    content["seeds"] = [1]
    content["baselines"] = {name: {"rows": []} for name in content["baselines"]}
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    (folder / "methods").mkdir()
    (folder / "methods/gains.py").write_text(METHOD)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, str(root))
        patch.chdir(folder)
        words = ["--backbone", "safmn", "--variant", "gains/all", "--out", "runs.json", *BASELINES]
        assert main(["train", *words]) == 0
        assert main(["score-runs", "--backbone", "safmn", "--out", "scored.json", *BASELINES]) == 0
        assert main(["gather", "--out", str(root / "results/demo/scores.parquet"), *BASELINES]) == 0
    return root, folder


@pytest.fixture
def author(finished: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Enter a copy of the method's folder; returns copies of the finished project and of the folder."""
    root, folder = tmp_path / "project", tmp_path / "author"
    shutil.copytree(finished[0], root)
    shutil.copytree(finished[1], folder)
    monkeypatch.setenv(VARIABLE, str(root))
    monkeypatch.chdir(folder)
    return root, folder


@pytest.fixture
def project(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of the prepared project, the root of commands that start outside any project."""
    root = tmp_path / "project"
    shutil.copytree(prepared, root)
    monkeypatch.setenv(VARIABLE, str(root))
    return root


@pytest.fixture
def elsewhere(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Enter a folder outside the project."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def methods(elsewhere: Path) -> Path:
    """Keep a method in `methods/` of that folder."""
    folder = elsewhere / "methods"
    folder.mkdir()
    (folder / "gains.py").write_text(METHOD)
    return folder


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
