"""Tuning in the workflow: choices reach runs, and each is repeated only where it must be; tests follow each other."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.workflow.conftest import Workspace

pytestmark = pytest.mark.slow

CHOICES = "results/demo/tuning/choices/safmn"
TUNING: dict[str, Any] = {
    "grid": {"lr": [1.0e-3, 1.0e-2]},
    "seeds": [101],
    "metric": "psnr_y",
    "choices": "made-before",
}

WIDER = {"lr": [*TUNING["grid"]["lr"], 10.0]}


def train(workspace: Workspace, **tuning: object) -> str:
    workspace.write_profile(workspace.profile() | {"tuning": TUNING | tuning})
    runs = [f"results/demo/safmn/{row}/runs.1-2.json" for row in ("full_finetuning/all", "lora/r1")]
    done = workspace.snakemake("--cores", "2", *runs)
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


def tuning_runs(workspace: Workspace) -> dict[str, int]:
    folder = workspace.root / "results/demo/tuning"
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("record.json")}


def choice(workspace: Workspace, row: str) -> tuple[Path, Any]:
    path = workspace.root / CHOICES / f"{row}.json"
    return path, json.loads(path.read_text())


def test_variants_are_tuned_before_they_are_trained(workspace: Workspace) -> None:
    train(workspace)
    assert len(tuning_runs(workspace)) == 4
    for row in ("full_finetuning/all", "lora/r1"):
        chosen = choice(workspace, row)[1]["options"]["lr"]
        record = json.loads((workspace.root / f"results/demo/safmn/{row}/seed1/record.json").read_text())
        assert record["config"]["training"]["lr"] == chosen
    assert "Nothing to be done" in train(workspace)


def test_another_grid_repeats_the_tuning_and_no_run_whose_choice_stays(workspace: Workspace) -> None:
    runs, tried = workspace.trained_at(), tuning_runs(workspace)
    train(workspace, grid=WIDER)
    assert workspace.trained_at() == runs
    new = set(tuning_runs(workspace)) - set(tried)
    assert {path.partition("/")[0] for path in new} == {"lr=10.0"}
    assert {path: when for path, when in tuning_runs(workspace).items() if path not in new} == tried


def test_a_choice_that_came_without_its_tuning_runs_is_not_made_again(workspace: Workspace) -> None:
    """As from a pack: the choices are there, and snakemake, which did not make them, asks for them again."""
    runs = workspace.trained_at()
    for folder in (workspace.root / "results/demo/tuning").glob("lr=*"):
        shutil.rmtree(folder)
    done = workspace.snakemake("--cores", "2", "--forcerun", "tune", "--", f"{CHOICES}/lora/r1.json")
    assert done.returncode == 0, done.stdout[-4000:]
    assert "Tuning lora/r1" in done.stdout
    assert tuning_runs(workspace) == {}
    assert workspace.trained_at() == runs


def test_another_choice_makes_its_runs_stale_and_no_others(workspace: Workspace) -> None:
    path, content = choice(workspace, "lora/r1")
    runs = workspace.trained_at()
    other = {"lr": 1.0e-2 if content["options"]["lr"] == 1.0e-3 else 1.0e-3}
    path.write_text(json.dumps(content | {"options": other}))
    train(workspace, grid=WIDER)
    after = workspace.trained_at()
    assert {run for run in after if after[run] != runs[run]} == {"safmn/lora/r1/seed1", "safmn/lora/r1/seed2"}


def test_choices_made_before_are_used_and_only_what_they_lack_is_tuned(workspace: Workspace) -> None:
    done = workspace.snakemake("--cores", "1", "demo_tuning")
    assert done.returncode == 0, done.stdout[-4000:]
    kept = workspace.root / "made-before/safmn"
    assert sorted(str(path.relative_to(kept)) for path in kept.rglob("*.json")) == [
        "full_finetuning/all.json",
        "lora/r1.json",
    ]
    (kept / "lora/r1.json").unlink()
    (workspace.root / "results").rename(workspace.root / "results-first")
    train(workspace, grid=WIDER)
    assert {path.split("/")[2] for path in tuning_runs(workspace)} == {"lora"}


def test_a_validation_split_with_test_photographs_is_refused_before_anything_starts(workspace: Workspace) -> None:
    content = workspace.profile()
    content["data"]["validation"] = {"dataset": "degraded", "split": "test"}
    workspace.write_profile(content)
    done = workspace.snakemake("-n", "all")
    assert done.returncode != 0
    assert (
        "adaptsr: config/demo.yaml: tuning: degraded (test) and the test dataset degraded show the same photographs"
        in done.stdout
    )
