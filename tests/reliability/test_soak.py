"""The demo matrix under a hundred faults, compared with one that was left alone: `make soak`, about an hour.

`ADAPTSR_SOAK_FAULTS=20 ADAPTSR_SOAK_BACKBONES=safmn make soak` is the short form of ten minutes.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from adaptsr.runs.records import read_record
from tests.factories import profile_content
from tests.reliability.conftest import SCORES, comparable, jobs
from tests.workflow.conftest import SNAKEMAKE, Workspace

FAULTS = int(os.environ.get("ADAPTSR_SOAK_FAULTS", "100"))
BACKBONES = os.environ.get("ADAPTSR_SOAK_BACKBONES", "").split()
MEAN_PAUSE_SECONDS = 12.0

Call = subprocess.Popen[bytes]
RANDOM = random.Random(0)


def start(workspace: Workspace) -> Call:
    """Call Snakemake as `make all` does; what it says goes to a file, which never holds it up."""
    root, environment = workspace.root, workspace.environment
    subprocess.run([sys.executable, "workflow/unlock_stale.py"], cwd=root, env=environment, check=True)
    words = [str(SNAKEMAKE), "--cores", str(os.cpu_count()), SCORES]
    with (root / "calls.log").open("a") as log:
        return subprocess.Popen(words, cwd=root, env=environment, stdout=log, stderr=log, start_new_session=True)


def signal_a_job(root: Path, number: int) -> bool:
    found = jobs(root)
    if not found:
        return False
    try:
        RANDOM.choice(found).send_signal(number)
    except psutil.Error:
        return False
    return True


def kill(call: Call, *, group: bool) -> bool:
    (os.killpg if group else os.kill)(call.pid, signal.SIGKILL)
    call.wait()
    return True


def tear_checkpoint(root: Path, call: Call) -> bool:
    """Kill everything and cut the end of the newest checkpoint, as if the machine had stopped."""
    kill(call, group=True)
    for process in jobs(root):
        process.kill()
    checkpoints = (root / "results/demo").glob("*/*/*/seed*/checkpoints/[0-9]*.safetensors")
    newest = max(checkpoints, key=lambda path: path.stat().st_mtime, default=None)
    if newest:
        os.truncate(newest, RANDOM.randrange(newest.stat().st_size))
    return newest is not None


HARMS: dict[str, Callable[[Path, Call], bool]] = {
    "a job gets SIGKILL": lambda root, _: signal_a_job(root, signal.SIGKILL),
    "a job gets SIGTERM": lambda root, _: signal_a_job(root, signal.SIGTERM),
    "Snakemake alone gets SIGKILL, its jobs live on": lambda _, call: kill(call, group=False),
    "Snakemake and its jobs get SIGKILL": lambda _, call: kill(call, group=True),
    "all get SIGKILL and the newest checkpoint is cut": tear_checkpoint,
}


def disturb(workspace: Workspace) -> Counter[str]:
    """Do harm at random times, and call again what has ended, until there was enough of it and all is done."""
    faults: Counter[str] = Counter()
    call = start(workspace)
    while faults.total() < FAULTS or call.poll() != 0:
        if faults.total() < FAULTS:
            time.sleep(RANDOM.uniform(0, 2 * MEAN_PAUSE_SECONDS))
            kind = RANDOM.choice(list(HARMS))
            if call.poll() is None and HARMS[kind](workspace.root, call):
                faults[kind] += 1
        else:
            call.wait()
        if call.poll() == 0 and faults.total() < FAULTS:
            shutil.rmtree(workspace.root / "results/demo")
        if call.poll() is not None and (call.returncode != 0 or faults.total() < FAULTS):
            call = start(workspace)
    return faults


def results(root: Path) -> dict[str, object]:
    """What two runs of the same matrix have to agree on."""
    found: dict[str, object] = {SCORES: (root / SCORES).read_bytes()}
    for path in (root / "results/demo").glob("*/*/*/seed*/record.json"):
        weights = path.with_name("adaptation.safetensors")
        content = weights.read_bytes() if weights.exists() else b""
        found[str(path.relative_to(root))] = comparable(read_record(path)), content
    return found


@pytest.mark.soak
@pytest.mark.timeout(3 * 3600)
def test_the_demo_matrix_under_a_hundred_faults_is_the_one_left_alone(workspace: Workspace) -> None:
    content = profile_content()
    content["training"]["checkpoint_iterations"] = 20
    content["backbones"] = {name: content["backbones"][name] for name in BACKBONES or content["backbones"]}
    workspace.write_profile(content)
    assert start(workspace).wait() == 0, (workspace.root / "calls.log").read_text()[-3000:]
    undisturbed = results(workspace.root)
    shutil.rmtree(workspace.root / "results/demo")
    print(disturb(workspace))
    found = results(workspace.root)
    assert found.keys() == undisturbed.keys()
    assert [name for name in found if found[name] != undisturbed[name]] == []
    assert not list((workspace.root / "results/demo").rglob(".*.tmp*")), "nothing torn is left"
