"""On a real Slurm, jobs that are killed by their time limit and preempted end with the bytes of an undisturbed run."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cluster import slurm
from tests.factories import copy_project, tiny_profile
from tests.workflow.conftest import Workspace

pytestmark = pytest.mark.slow

HELD = '''"""A held method (Test, 2026): trains every bias, a step a second while there is a file `hold-<variant>`."""

import time
from pathlib import Path

import torch

from adaptsr.adaptation.reparametrization import Plan
from adaptsr.backbones.sites import select

TITLE = "Held ({name})"
TRAINS = "biases"
OPTIONS = {"name": "killed"}
VARIANTS = {"killed": {}, "preempted": {"name": "preempted"}}
ROWS = ["killed", "preempted"]
PROTOCOL = 1


def plan(backbone, sites, options, calibration, seed):
    return Plan({"sites": [site.name for site in select(sites) if site.bias], "name": options["name"]})


def attach(model, plan):
    def hold(_module, _inputs):
        if torch.is_grad_enabled() and Path(f"hold-{plan.settings['name']}").exists():
            time.sleep(1)

    for name in plan.settings["sites"]:
        model.get_submodule(name).bias.requires_grad_(True)
    model.register_forward_pre_hook(hold)
'''
STEPS = 200
"""More than the seconds of two time limits: Slurm enforces one of a minute every half minute."""
LIMIT_SECONDS = 1080
ON_SLURM = (
    *("--workflow-profile", "profiles/slurm", "--default-resources", "slurm_partition=cpu"),
    *("--set-resources", "train:runtime=1"),
    *("--slurm-no-account", "--slurm-status-command", "squeue"),  # this Slurm has no accounting
    *("--slurm-init-seconds-before-status-checks", "3", "--latency-wait", "10"),
)


def prepared(root: Path) -> Workspace:
    root.mkdir()
    copy_project(root)
    (root / "baselines/held.py").write_text(HELD)
    content = tiny_profile(rows={"lora": ["r1"]}, iterations=STEPS, validate_every=STEPS)
    content["baselines"]["held"] = {}
    content["seeds"] = [1]
    content["paper"] = None
    workspace = Workspace(root)
    workspace.write_profile(content)
    return workspace


def log_of(workspace: Workspace) -> Path:
    return workspace.root / "snakemake.log"


@contextmanager
def started(workspace: Workspace, *words: str) -> Iterator[subprocess.Popen[str]]:
    """Yield a snakemake, which ends with the block."""
    with log_of(workspace).open("w") as log:
        process = workspace.start(*words, output=log)
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def check_finished(workspace: Workspace, process: subprocess.Popen[str]) -> None:
    assert process.wait(timeout=600) == 0, said(workspace)


def said(workspace: Workspace) -> str:
    return log_of(workspace).read_text()[-6000:]


def results(workspace: Workspace) -> dict[str, bytes]:
    folder = workspace.root / "results/demo"
    paths = [*folder.glob("*/*/*/seed*/adaptation.safetensors"), folder / "scores.parquet"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_killed_and_preempted_jobs_leave_the_bytes_of_undisturbed_ones(tmp_path: Path) -> None:
    if reason := slurm.why_not():
        pytest.skip(reason)
    alone, on_slurm = prepared(tmp_path / "alone"), prepared(tmp_path / "on_slurm")
    holds = {name: on_slurm.root / f"hold-{name}" for name in ("killed", "preempted")}
    for hold in holds.values():
        hold.touch()
    numbers: dict[str, set[str]] = {name: set() for name in holds}
    plan = on_slurm.root / "results/demo/safmn/held/preempted/seed1/plan.json"
    with (
        slurm.started(tmp_path / "slurm", cores=5) as cluster,
        started(on_slurm, "all", *ON_SLURM) as process,
        started(alone, "--cores", "1", "all") as other,
    ):
        deadline = time.monotonic() + LIMIT_SECONDS
        while process.poll() is None:
            assert time.monotonic() < deadline, f"not done in {LIMIT_SECONDS} s:\n{said(on_slurm)}"
            for name in holds:
                numbers[name] |= cluster.running(f"_{name}_")
            if holds["preempted"].exists():
                if cluster.ended("FAILED", "PREEMPTED"):
                    holds["preempted"].unlink()
                elif plan.exists():
                    cluster.preempt()
            if len(numbers["killed"] & cluster.ended("TIMEOUT")) >= 2:
                holds["killed"].unlink(missing_ok=True)
            cluster.release_requeued()
            time.sleep(2)
        check_finished(alone, other)
        check_finished(on_slurm, process)
        assert len(numbers["killed"] & cluster.ended("TIMEOUT")) >= 2
        # A job that ends itself within the grace time has failed, and one that does not is requeued.
        assert cluster.ended("FAILED", "PREEMPTED")
    assert results(on_slurm) == results(alone)
    assert len(results(alone)) == 4
