"""Snakemake killed, called twice at once, or locked by a dead one: results are never corrupt, one call does the rest."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.reliability import processes
from tests.reliability.conftest import GATHER, PREPARE, SCORE_RUNS, SCORES, jobs, train_words
from tests.reliability.processes import wait_until
from tests.workflow.conftest import Workspace

UNLOCK = [sys.executable, "workflow/unlock_stale.py"]


def unlock(workspace: Workspace) -> subprocess.CompletedProcess[str]:
    """What `make all` does before it calls snakemake."""
    return subprocess.run(UNLOCK, cwd=workspace.root, env=workspace.environment, capture_output=True, text=True)


def training(root: Path) -> list[psutil.Process]:
    """The training processes of a workspace."""
    return [process for process in jobs(root) if "train" in process.cmdline()]


def has_a_checkpoint(root: Path) -> bool:
    return any((root / "results/demo").glob("*/*/*/seed*/checkpoints/[0-9]*.safetensors"))


def prepare(workspace: Workspace) -> dict[str, bytes]:
    """Write the profile; what it gives undisturbed, by the commands that the workflow calls."""
    content = workspace.profile()
    content["training"].update(iterations=60, validate_every=30, checkpoint_iterations=5)
    content["scoring"]["metrics"] = {"psnr_y": content["scoring"]["metrics"]["psnr_y"]}
    workspace.write_profile(content)
    training = (train_words("full_finetuning/all", 1, 2), train_words("lora/r1", 1, 2))
    for words in (PREPARE, *training, SCORE_RUNS, GATHER):
        processes.succeed(workspace.root, *words)
    found = contents(workspace.root)
    assert len(found) == 5
    shutil.rmtree(workspace.root / "results/demo")
    return found


def contents(root: Path) -> dict[str, bytes]:
    """What has to be the same to the byte: scores and weights."""
    return {**contents_of_runs(root), SCORES: (root / SCORES).read_bytes()}


def contents_of_runs(root: Path) -> dict[str, bytes]:
    paths = (root / "results/demo").glob("*/*/*/seed*/adaptation.safetensors")
    return {str(path.relative_to(root)): path.read_bytes() for path in paths}


@pytest.mark.slow
def test_killed_snakemakes_and_two_at_once_end_as_one_that_was_not_disturbed(workspace: Workspace) -> None:
    """Training is killed, then Snakemake alone, then its whole group, then it is called twice at once."""
    root = workspace.root
    everything = ("--cores", "2", SCORES)
    undisturbed = prepare(workspace)

    first = workspace.start(*everything)
    wait_until(lambda: has_a_checkpoint(root))
    killed = training(root)[0]
    killed.kill()
    wait_until(lambda: not killed.is_running())
    # `retries` starts it again within the same call; it is killed once more, now alone, and its jobs live on.
    wait_until(lambda: has_a_checkpoint(root) and bool(training(root)))
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    assert training(root), "its jobs live on, and the next call finds them at work"

    removed = unlock(workspace)
    assert removed.returncode == 0
    assert "A snakemake that was killed has left its lock on this folder" in removed.stderr
    second = workspace.start(*everything)
    wait_until(
        lambda: second.poll() is not None or len(list((root / "results/demo").glob("*/*/*/seed1/record.json"))) == 2
    )
    os.killpg(second.pid, signal.SIGKILL)
    second.communicate()
    for process in training(root):
        process.kill()

    assert unlock(workspace).returncode == 0
    third, fourth = (workspace.start(*everything) for _ in range(2))
    ended = [call.communicate(timeout=600)[0] for call in (third, fourth)]
    assert sorted(call.returncode == 0 for call in (third, fourth)) in ([False, True], [True, True])
    for call, said in zip((third, fourth), ended, strict=True):
        assert call.returncode == 0 or "cannot be locked" in said or "LockException" in said, said

    last = workspace.snakemake(*everything)
    assert last.returncode == 0
    assert "Nothing to be done" in last.stdout
    assert contents(root) == undisturbed
    assert not list(root.glob("results/**/.*.tmp*")), "nothing torn is left"


@pytest.mark.slow
def test_what_a_cluster_sends_before_its_time_limit_costs_nothing(workspace: Workspace) -> None:
    """SIGTERM to a whole training job, `tee` and shell included; the same call of Snakemake tries again and goes on."""
    root = workspace.root
    shutil.rmtree(root / "results/demo", ignore_errors=True)
    undisturbed = prepare(workspace)
    content = workspace.profile()
    content["training"]["checkpoint_iterations"] = None
    workspace.write_profile(content)
    call = workspace.start("--cores", "1", "results/demo/safmn/lora/r1/runs.1-2.json")
    wait_until(lambda: (root / "results/demo/safmn/lora/r1/seed1/plan.json").exists())
    time.sleep(0.1)
    (process,) = training(root)
    for member in [*process.parents()[:1], *process.parents()[0].children(recursive=True)]:
        member.send_signal(signal.SIGTERM)
    said, _ = call.communicate(timeout=600)
    assert call.returncode == 0, said
    assert "Trying to restart job" in said
    assert json.loads((root / "results/demo/safmn/lora/r1/seed1/record.json").read_text())["resumed_from"] > 0
    for name, found in contents_of_runs(root).items():
        assert found == undisturbed[name]


@pytest.fixture
def locked(tmp_path: Path) -> Path:
    """A folder with a lock, as a killed snakemake leaves it."""
    (tmp_path / ".snakemake/locks").mkdir(parents=True)
    (tmp_path / ".snakemake/locks/0.output.lock").write_text("results/demo/scores.parquet\n")
    (tmp_path / "Snakefile").write_text("rule all:\n    shell: 'true'\n")
    return tmp_path


def unlock_in(folder: Path, repository: Path) -> subprocess.CompletedProcess[str]:
    script = str(repository / "workflow/unlock_stale.py")
    return subprocess.run([sys.executable, script], cwd=folder, capture_output=True, text=True)


@pytest.mark.slow
def test_a_stale_lock_is_removed_and_that_is_said(locked: Path, repository: Path) -> None:
    done = unlock_in(locked, repository)
    assert done.returncode == 0
    assert "A snakemake that was killed has left its lock on this folder; removing it" in done.stderr
    assert not list((locked / ".snakemake/locks").glob("*"))
    again = unlock_in(locked, repository)
    assert (again.returncode, again.stdout, again.stderr) == (0, "", ""), "without a lock nothing is said"


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_lock_is_respected_while_a_snakemake_works_in_this_folder(
    locked: Path, repository: Path, tmp_path_factory: pytest.TempPathFactory, elsewhere: bool
) -> None:
    folder = tmp_path_factory.mktemp("other") if elsewhere else locked
    (folder / "snakemake").write_text("import time; time.sleep(60)")
    process = subprocess.Popen([sys.executable, str(folder / "snakemake"), "--cores", "1"], cwd=folder)
    try:
        time.sleep(0.2)
        done = unlock_in(locked, repository)
    finally:
        process.kill()
        process.wait()
    if elsewhere:
        assert "removing it" in done.stderr
    else:
        assert done.returncode == 1
        assert f"in use by another snakemake (process {process.pid})" in done.stderr
        assert list((locked / ".snakemake/locks").glob("*"))
