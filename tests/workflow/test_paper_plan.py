"""The paper's matrix is planned on a machine that has none of its data, and the plan says what it costs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from adaptsr.config.reading import load_profile
from adaptsr.runs.matrix import Matrix
from tests.workflow.conftest import Workspace

PAPER = "config/paper.yaml"


@pytest.fixture(autouse=True)
def nothing_is_made(workspace: Workspace) -> Iterator[None]:
    yield
    assert not (workspace.root / "results").exists()
    assert {path.name for path in (workspace.root / "resources").iterdir()} == {"demo"}


@pytest.fixture(scope="module")
def matrix(workspace: Workspace) -> Matrix:
    return Matrix.of(load_profile(workspace.root / PAPER), PAPER)


def job_counts(output: str) -> dict[str, int]:
    """The first table of job counts that snakemake prints."""
    table = output.partition("Job stats:")[2].partition("\n\n")[0]
    return {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", table, re.MULTILINE)}


def test_the_whole_dag_is_listed_with_job_counts(workspace: Workspace, matrix: Matrix) -> None:
    done = workspace.snakemake("--configfile", PAPER, "-n")
    assert done.returncode == 0, done.stdout[-2000:]
    counts = job_counts(done.stdout)
    rows = [row for name in matrix.profile.backbones for row in matrix.rows_on(name) if row.trained]
    assert counts["train"] == len(rows) * len(matrix.seed_groups) == 5 * (19 * 3 + 26)
    scored = [row for backbone in matrix.backbones for row in matrix.rows_on(backbone)]
    assert counts["score"] == len(scored) * len(matrix.tests), "one job for each row, backbone and test dataset"
    assert counts["weights"] == 6, "four backbones and two models of Table 1"
    assert counts["dataset"] == 6, "whole DRealSR images wait for their archive"
    for name in ("scores", "table1", "table2", "table3", "table4", "full_images", "significance"):
        assert counts[name] == 1
    assert counts["total"] == sum(count for name, count in counts.items() if name != "total")


@pytest.mark.parametrize("target", ["table1", "table4", "full_images"])
def test_tables_are_targets(workspace: Workspace, target: str) -> None:
    done = workspace.snakemake("--configfile", PAPER, "-n", target)
    assert done.returncode == 0, done.stdout[-2000:]
    counts = job_counts(done.stdout)
    assert counts[target] == 1
    assert "significance" not in counts


def test_an_archive_placed_by_hand_brings_its_dataset_in(workspace: Workspace) -> None:
    archive = workspace.root / "resources/archives/DRealSR_Test_x4.zip"
    archive.parent.mkdir(parents=True)
    archive.touch()
    try:
        done = workspace.snakemake("--configfile", PAPER, "-n")
    finally:
        archive.unlink()
        archive.parent.rmdir()
    assert job_counts(done.stdout)["dataset"] == 7


def test_the_iphone_profile_is_planned_too(workspace: Workspace) -> None:
    done = workspace.snakemake("--configfile", "config/iphone.yaml", "-n")
    assert done.returncode == 0, done.stdout[-2000:]
    assert {name: job_counts(done.stdout)[name] for name in ("train", "weights", "dataset")} == {
        "train": 1,
        "weights": 1,
        "dataset": 1,
    }


def test_the_pilot_asks_for_what_it_needs(workspace: Workspace) -> None:
    done = workspace.snakemake("--configfile", "config/pilot.yaml", "-n")
    assert done.returncode != 0
    said = [line for line in done.stdout.splitlines() if line.startswith("adaptsr: ")]
    assert said == [
        "adaptsr: config/pilot.yaml: the setting 'data' is missing; pass `--config data=...` to snakemake or `--set data=...` to adaptsr"
    ]


def test_the_plan_is_printed_before_anything_starts(workspace: Workspace, matrix: Matrix) -> None:
    done = workspace.adaptsr("estimate", "--profile", PAPER)
    assert done.returncode == 0, done.stderr
    for expected in (
        "415 runs, 0 of them finished",
        "TRAINING",
        "published",
        "Downloads",
        "stablesr-testsets",
        "Disk: ",
    ):
        assert expected in done.stdout
    plan = json.loads(workspace.adaptsr("estimate", "--profile", PAPER, "--json").stdout)
    assert [backbone["name"] for backbone in plan["backbones"]] == list(matrix.profile.backbones)
    assert sum(backbone["runs"] for backbone in plan["backbones"]) == 415


def test_every_profile_says_where_its_keys_are_explained(repository: Path) -> None:
    for path in sorted((repository / "config").glob("*.yaml")):
        assert "config/README.md" in path.read_text(), path
        assert yaml.safe_load(path.read_text())["name"] == path.stem
