"""Measure how long Snakemake takes to plan a large matrix, and to find that nothing is left to do.

    python -m speed.workflow [--tiny] [--runs N ...] [--demo FOLDER] [--json PATH]

The planned matrix has the demo's four backbones, 20 seeds and as many variants as N runs need, with one run per job, the most
jobs that N runs can make. FOLDER is a copy of the project in which the demo is finished; by default the one with this file.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from speed.measuring import Figure, arguments, report

ROOT = Path(__file__).resolve().parent.parent
LINKED = ("Snakefile", "adaptsr", "baselines", "config", "papers", "profiles", "workflow")
SIZES = (1_000, 3_000, 10_000)
TINY_SIZES = (80,)
SEEDS = 20
GOALS = {10_000: 30.0}
GOAL_OF_NOTHING = 5.0
ROUNDS = 3


class Done(NamedTuple):
    """How a command ended: exit status, seconds of wall time, peak memory in MiB, and its output."""

    status: int
    seconds: float
    memory: float
    said: str


def main(words: Sequence[str] | None = None) -> None:
    parser = arguments(
        argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    )
    parser.add_argument("--runs", type=int, nargs="+", help=f"sizes of the matrix; default {SIZES}")
    parser.add_argument("--demo", type=Path, default=ROOT, help="a copy of the project in which the demo is finished")
    parsed = parser.parse_args(words)
    sizes = parsed.runs or (TINY_SIZES if parsed.tiny else SIZES)
    figures = [figure for runs in sizes for figure in planning(runs)]
    figures += nothing_to_do(parsed.demo.resolve(), 1 if parsed.tiny else ROUNDS)
    report("workflow", {"runs": list(sizes), "seeds": SEEDS, "seeds_per_job": 1}, figures, parsed.json, "cpu")


def planning(runs: int) -> list[Figure]:
    """Measure time and memory of `snakemake -n` for about `runs` runs."""
    profile = matrix_of(runs)
    actual = len(profile["backbones"]) * len(profile["baselines"]["lora"]["variants"]) * len(profile["seeds"])
    with _workspace() as folder:
        path = folder / "matrix.yaml"
        path.write_text(yaml.safe_dump(profile, sort_keys=False))
        done = snakemake(folder, "-n", "all", "--configfile", path.name)
    if done.status or f"train {actual} " not in " ".join(done.said.split()):
        raise RuntimeError(f"snakemake -n did not plan {actual} runs; the end of its output is\n{done.said[-2000:]}")
    return [
        Figure(f"snakemake -n, {actual:,} runs", done.seconds, "s", GOALS.get(actual)),
        Figure(f"snakemake -n, {actual:,} runs, peak memory", done.memory, "MiB"),
    ]


def matrix_of(runs: int) -> dict[str, Any]:
    """Return the demo's profile with only variants of `lora`, as many as make about `runs` runs."""
    profile: dict[str, Any] = yaml.safe_load((ROOT / "config/demo.yaml").read_text(encoding="utf-8"))
    count = max(1, runs // (SEEDS * len(profile["backbones"])))
    files = sorted(path.stem for path in (ROOT / "baselines").glob("[!_]*.py"))
    names = [f"v{index:04d}" for index in range(count)]
    profile["name"] = "matrix"
    profile.pop("tuning")
    profile["seeds"] = list(range(1, SEEDS + 1))
    profile["compute"]["seeds_per_job"] = 1
    profile["baselines"] = {name: {"rows": []} for name in files}
    profile["baselines"]["lora"] = {"variants": {name: {"rank": 1 + index} for index, name in enumerate(names)}}
    profile["report"]["tables"] = {"table2": {"title": "Ranks", "rows": ["unadapted", "lora/*"]}}
    profile["report"]["comparisons"] = [{"title": "Ranks", "rows": ["lora/*"], "compared_with": f"lora/{names[0]}"}]
    return profile


def nothing_to_do(folder: Path, rounds: int) -> list[Figure]:
    """Measure the time of `snakemake all` when all its files exist."""
    what = "snakemake all, demo, nothing to do"
    planned = snakemake(folder, "-n", "all") if (folder / "reports/demo.zip").is_file() else None
    if planned is None or planned.status or "Nothing to be done" not in planned.said:
        return [Figure(what, None, "s", GOAL_OF_NOTHING, f"not measured: no finished demo in {folder}")]
    seconds = [snakemake(folder, "all").seconds for _ in range(rounds)]
    return [Figure(what, statistics.median(seconds), "s", GOAL_OF_NOTHING)]


def snakemake(folder: Path, *words: str) -> Done:
    """Run `snakemake` as a user would, with its output in a file."""
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    with tempfile.TemporaryFile("w+") as output:
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "snakemake", "--cores", "8", *words],
            cwd=folder,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - began
        output.seek(0)
        return Done(process.returncode, seconds, usage.ru_maxrss / 1024, output.read())


@contextmanager
def _workspace() -> Iterator[Path]:
    """Make a folder with links to the project's files and the demo's weights, and without results."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for link in LINKED:
            (folder / link).symlink_to(ROOT / link)
        (folder / "resources").mkdir()
        (folder / "resources/demo").symlink_to(ROOT / "resources/demo")
        yield folder


if __name__ == "__main__":
    main()
