"""The long version of the reliability tests: the demo matrix under a hundred faults, compared with one left alone.

`make soak` runs it; `python -m tests.reliability.soak --help` says what can be chosen, and `--backbones safmn --faults 20`
is the version of ten minutes. It ends with status 1 and the names of what differs, or with the figures of what was survived.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from adaptsr.runs.records import read_record
from tests.reliability.conftest import comparable
from tests.workflow.conftest import COPIED, SNAKEMAKE, Workspace

REPOSITORY = Path(__file__).resolve().parents[2]
SCORES = "results/demo/scores.parquet"
COMMANDS = ("train", "score-runs", "prepare", "gather")


@dataclass
class Soak:
    """A copy of the project whose workflow is disturbed until it has had its number of faults and is done."""

    workspace: Workspace
    cores: int
    rng: random.Random
    faults: Counter[str] = field(default_factory=Counter)
    calls: int = 0

    @property
    def root(self) -> Path:
        return self.workspace.root

    def start(self) -> subprocess.Popen[bytes]:
        """One call of Snakemake, as `make all` does it; what it says goes to a file, which never holds it up."""
        self.calls += 1
        unlock = [sys.executable, "workflow/unlock_stale.py"]
        environment = self.workspace.environment
        subprocess.run(unlock, cwd=self.root, env=environment, capture_output=True, check=True)
        with (self.root / f"call-{self.calls}.log").open("w") as log:
            return subprocess.Popen(
                [str(SNAKEMAKE), "--cores", str(self.cores), SCORES],
                cwd=self.root,
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def undisturbed(self) -> None:
        if self.start().wait():
            raise SystemExit(f"the undisturbed run failed: {self.root}/call-{self.calls}.log")

    def disturb(self, faults: int, pause: float) -> None:
        """Do harm at random times, and start again what has ended, until there was enough of it and all is done."""
        call = self.start()
        while self.faults.total() < faults or call.poll() != 0:
            if self.faults.total() < faults:
                time.sleep(self.rng.uniform(0, 2 * pause))
                self.harm(call, faults)
            else:
                call.wait()
            if call.poll() == 0 and self.faults.total() < faults:
                shutil.rmtree(self.root / "results/demo")
            if call.poll() is not None and (call.returncode != 0 or self.faults.total() < faults):
                call = self.start()

    def harm(self, call: subprocess.Popen[bytes], faults: int) -> None:
        kind = self.rng.choice(list(HARMS))
        if call.poll() is None and HARMS[kind](self, call):
            self.faults[kind] += 1
            print(f"{self.faults.total():4d} of {faults}: {kind}", flush=True)

    def jobs(self) -> list[psutil.Process]:
        """The processes of our commands in this folder, those of a Snakemake that is gone included."""
        found = []
        for process in psutil.process_iter(["cmdline"]):
            try:
                words = process.info["cmdline"] or []
                ours = any(word in words for word in COMMANDS) and any(word.endswith("adaptsr") for word in words[:2])
                if ours and Path(process.cwd()) == self.root:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def signal_job(self, number: int) -> bool:
        jobs = self.jobs()
        if not jobs:
            return False
        try:
            self.rng.choice(jobs).send_signal(number)
        except psutil.Error:
            return False
        return True

    def kill_group(self, call: subprocess.Popen[bytes]) -> bool:
        os.killpg(call.pid, signal.SIGKILL)
        call.wait()
        return True

    def kill_alone(self, call: subprocess.Popen[bytes]) -> bool:
        os.kill(call.pid, signal.SIGKILL)
        call.wait()
        return True

    def tear_checkpoint(self, call: subprocess.Popen[bytes]) -> bool:
        """All is killed, and the newest checkpoint has lost its end, as if the machine had stopped."""
        os.killpg(call.pid, signal.SIGKILL)
        call.wait()
        for process in self.jobs():
            process.kill()
        checkpoints = sorted(
            self.root.glob("results/demo/*/*/*/seed*/checkpoints/[0-9]*.safetensors"), key=lambda p: p.stat().st_mtime
        )
        if checkpoints:
            size = checkpoints[-1].stat().st_size
            os.truncate(checkpoints[-1], self.rng.randrange(size))
        return bool(checkpoints)


HARMS: dict[str, Callable[[Soak, subprocess.Popen[bytes]], bool]] = {
    "a job gets SIGKILL": lambda soak, call: soak.signal_job(signal.SIGKILL),
    "a job gets SIGTERM": lambda soak, call: soak.signal_job(signal.SIGTERM),
    "Snakemake alone gets SIGKILL, its jobs live on": Soak.kill_alone,
    "Snakemake and its jobs get SIGKILL": Soak.kill_group,
    "all get SIGKILL and the newest checkpoint is cut": Soak.tear_checkpoint,
}


def found_in(results: Path) -> dict[str, object]:
    """What two runs of the same matrix have to agree on, by path."""
    found: dict[str, object] = {"scores.parquet": (results / "scores.parquet").read_bytes()}
    for path in results.glob("*/*/*/seed*/record.json"):
        run = path.parent
        record = read_record(path)
        weights = (run / "adaptation.safetensors").read_bytes() if record.status == "finished" else b""
        found[str(run.relative_to(results))] = (comparable(record), weights)
    return found


def resumed(results: Path) -> int:
    records = results.glob("*/*/*/seed*/record.json")
    return sum(json.loads(path.read_text())["resumed_from"] > 0 for path in records)


def make_workspace(root: Path, backbones: list[str]) -> Workspace:
    for name in COPIED:
        source, target = REPOSITORY / name, root / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    workspace = Workspace(root)
    content = workspace.profile()
    content["training"]["checkpoint_iterations"] = 20
    if backbones:
        content["backbones"] = {name: content["backbones"][name] for name in backbones}
    workspace.write_profile(content)
    return workspace


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--faults", type=int, default=100)
    parser.add_argument("--pause", type=float, default=12.0, help="mean seconds between two faults")
    parser.add_argument("--backbones", nargs="*", default=[], help="of the demo; all without it")
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=0, help="of the moments and kinds of faults")
    parser.add_argument("--folder", type=Path, default=REPOSITORY / "build/soak")
    parsed = parser.parse_args(arguments)
    root = parsed.folder.resolve()
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    soak = Soak(make_workspace(root, parsed.backbones), parsed.cores, random.Random(parsed.seed))

    began = time.monotonic()
    soak.undisturbed()
    alone, soak.calls = time.monotonic() - began, 0
    (root / "results/demo").rename(root / "results/undisturbed")
    began = time.monotonic()
    soak.disturb(parsed.faults, parsed.pause)
    disturbed = time.monotonic() - began

    expected, found = found_in(root / "results/undisturbed"), found_in(root / "results/demo")
    different = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    torn = [str(path) for path in (root / "results/demo").rglob(".*.tmp*")]
    for kind, number in sorted(soak.faults.items()):
        print(f"{number:4d}  {kind}")
    print(
        f"{soak.faults.total()} faults in {soak.calls} calls: {len(found) - 1} runs, {resumed(root / 'results/demo')} of them "
        f"resumed from a checkpoint; {alone:.0f} s undisturbed, {disturbed:.0f} s disturbed; "
        f"{len(different)} differ, {len(torn)} torn files are left"
    )
    for name in different:
        print(f"differs: {name}")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
