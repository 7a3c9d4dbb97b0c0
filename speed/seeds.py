"""Compare the training speed of several seeds at once on one GPU, each in its own process, with that of one alone.

    python -m speed.seeds [--tiny] [--seeds N] [--json PATH]

SAFMN at its published size, LoRA r = 8, batch 8, HR 256, random weights and images. Every process runs the code that trains
the matrix, for as long as it is told to; one process alone and all together take turns.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adaptsr import devices
from adaptsr.config import reading, schema
from adaptsr.runs.matrix import Matrix
from speed.measuring import Figure, arguments, report

ROOT = Path(__file__).resolve().parent.parent
PROFILE = ROOT / "config/paper.yaml"
ROW = "lora/r8"
NEVER = 10**9
GOAL = 4.0


@dataclass(frozen=True)
class Size:
    """Size of the model, the batches and the measurement. warm_up: steps before the first measurement."""

    options: dict[str, Any]
    batch_size: int
    crop: int
    window_seconds: float
    rounds: int
    warm_up: int


FULL = Size({"dim": 36, "n_blocks": 8, "ffn_scale": 2.0, "upscaling_factor": 4}, 8, 256, 10.0, 5, 50)
TINY = Size({"dim": 8, "n_blocks": 1, "ffn_scale": 2.0, "upscaling_factor": 4}, 2, 32, 0.2, 1, 2)


def main(words: Sequence[str] | None = None) -> None:
    parser = arguments(
        argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    )
    parser.add_argument("--seeds", type=int, default=5, help="number of processes at once; default 5")
    parser.add_argument("--train", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--device", help=argparse.SUPPRESS)
    parsed = parser.parse_args(words)
    size = TINY if parsed.tiny else FULL
    if parsed.train is not None:
        _train(size, parsed.train, parsed.seeds, parsed.device)
        return
    gpus = devices.shared_gpus()
    what = f"SAFMN, {parsed.seeds} seeds at once / one alone, steps a second"
    if not gpus and not parsed.tiny:
        figures, device = [Figure(what, None, "", GOAL, "not measured: no CUDA device")], "cpu"
    else:
        figures, device = _measured(what, size, parsed.seeds, parsed.tiny, gpus[:1])
    settings = {"row": ROW, "seeds": parsed.seeds, "tiny": parsed.tiny, **size.__dict__}
    report("seeds", settings, figures, parsed.json, device)


def _measured(what: str, size: Size, seeds: int, tiny: bool, gpus: Sequence[devices.Gpu]) -> tuple[list[Figure], str]:
    """Measure; return the figures and the name of the device."""
    environment = {**os.environ, devices.VISIBLE: ",".join(gpu.entry for gpu in gpus)}
    command = [sys.executable, "-m", "speed.seeds", "--seeds", str(seeds), *(["--tiny"] if tiny else [])]
    command += ["--device", "cuda" if gpus else "cpu"]
    processes = [
        subprocess.Popen(
            [*command, "--train", str(seed)],
            cwd=ROOT,
            env=environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for seed in range(1, seeds + 1)
    ]
    try:
        device, *_ = [_answer(process)["device"] for process in processes]
        rates = [
            (_rate(processes[:1], size.window_seconds), _rate(processes, size.window_seconds))
            for _ in range(size.rounds)
        ]
    finally:
        for process in processes:
            process.communicate()
    alone, together = (statistics.median(values) for values in zip(*rates, strict=True))
    shown = "test size only" if tiny else ""
    return [
        Figure(what, statistics.median(b / a for a, b in rates), "", None if tiny else GOAL, shown),
        Figure("one alone", alone, "steps/s", note=shown),
        Figure(f"{seeds} at once, sum", together, "steps/s", note=shown),
    ], device


def _rate(processes: Sequence[subprocess.Popen[str]], seconds: float) -> float:
    """Let these processes train for some seconds and return the sum of their steps per second."""
    for process in processes:
        assert process.stdin
        process.stdin.write(f"{seconds}\n")
        process.stdin.flush()
    return math.fsum(answer["steps"] / answer["seconds"] for answer in map(_answer, processes))


def _answer(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout
    line = process.stdout.readline()
    if not line:
        raise RuntimeError("a training process of the benchmark ended early; see its output above")
    answer: dict[str, Any] = json.loads(line)
    return answer


def _train(size: Size, seed: int, jobs: int, device: str) -> None:
    """Train as long as standard input asks for more, and discard the run."""
    from adaptsr.training.termination import Terminated
    from adaptsr.training.train_runs import train_run

    bench = context(size, jobs, device)
    windows = Windows(size.warm_up, bench.device)
    with tempfile.TemporaryDirectory() as folder:
        try:
            train_run(bench, bench.matrix.variant(ROW), seed, Path(folder), lambda line: None, windows)
        except Terminated:
            return
    raise RuntimeError(f"the run ended by itself after {windows.steps} steps")


def context(size: Size, jobs: int, device: str) -> Any:
    import torch

    from adaptsr.backbones.build import build
    from adaptsr.backbones.sites import find_sites
    from adaptsr.data.sampling import WeightedSource
    from adaptsr.data.store import PairSet
    from adaptsr.devices import prepare_device
    from adaptsr.runs.keys import Inputs
    from adaptsr.training.context import TrainingContext

    profile = reading.load_profile(PROFILE)
    declared = schema.Backbone(architecture="SAFMN", options=size.options)
    schedule = {"iterations": NEVER, "validate_every": NEVER, "checkpoint_minutes": float(NEVER)}
    training = profile.schedule.model_copy(update={**schedule, "batch_size": size.batch_size, "crop": size.crop})
    compute = profile.compute.model_copy(update={"device": device, "threads": 1, "jobs_per_gpu": jobs})
    profile = profile.model_copy(update={"backbones": {"safmn": declared}, "training": training, "compute": compute})
    chosen = prepare_device(profile.compute)
    backbone = build(declared, profile.scale, size.crop // profile.scale)

    def images(count: int, side: int) -> PairSet:
        generator = torch.Generator().manual_seed(count)
        shapes = [(3, side // profile.scale, side // profile.scale), (3, side, side)]
        lr, hr = ([torch.randint(256, s, generator=generator, dtype=torch.uint8) for _ in range(count)] for s in shapes)
        names = [str(index) for index in range(count)]
        return PairSet("random", profile.scale, names, names, lr, hr)

    return TrainingContext(
        matrix=Matrix.of(profile, str(PROFILE)),
        name="safmn",
        backbone=backbone.to(chosen),
        sites=find_sites(backbone),
        sources=[WeightedSource(images(16, 2 * size.crop))],
        validation=images(1, size.crop),
        device=chosen,
        inputs=Inputs(weights=None, train=(), validation=""),
    )


class Windows:
    """Tells the training loop after every step whether to stop; counts the steps in windows of time.

    A line on standard input, a number of seconds, opens a window. Between windows the loop waits for the next line; the
    end of standard input ends the run.
    """

    def __init__(self, warm_up: int, device: Any) -> None:
        self.steps = -warm_up
        self._device = device
        self._began: float | None = None
        self._until = 0.0
        self._stopped = False

    def __call__(self) -> bool:
        self.steps += 1
        if not self._stopped and self.steps >= 0 and time.perf_counter() >= self._until:
            self._between()
        return self._stopped

    def _between(self) -> None:
        import torch

        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        if self._began is None:
            name = torch.cuda.get_device_name(self._device) if self._device.type == "cuda" else "cpu"
            print(json.dumps({"device": name}), flush=True)
        else:
            print(json.dumps({"steps": self.steps, "seconds": time.perf_counter() - self._began}), flush=True)
        order = sys.stdin.readline()
        self._stopped = not order
        self._began = time.perf_counter()
        self._until = self._began + float(order or 0)
        self.steps = 0


if __name__ == "__main__":
    main()
