"""Compare one training step of our LoRA, r = 8, with full fine-tuning in plain PyTorch and with Hugging Face PEFT.

    python -m speed.step                      # SwinIR-M and EDSR-baseline on this machine's CPU, float32

`speed.cuda` measures the step on a GPU.

Time: the candidates take turns on the same batch: forward, backward and Adam's step; the ratio is the median over rounds.
Memory: each candidate runs two steps in its own process. The figure is the peak minus the memory in use once model and batch
exist, so that the weights, which all candidates share, do not hide the difference. Weights are random, which does not change
the time.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from adaptsr.adaptation.lora import attach_low_rank
from adaptsr.adaptation.reparametrization import freeze
from adaptsr.backbones.build import build
from adaptsr.backbones.sites import find_sites
from adaptsr.config import schema
from adaptsr.training.acceleration import accelerate
from baselines import lora
from speed.measuring import Figure, arguments, in_turns, ratio, report

SCALE = 4
SWINIR: dict[str, Any] = {"upscale": 4, "window_size": 8, "mlp_ratio": 2, "upsampler": "pixelshuffle"}
MODELS = {
    "SwinIR-M": ("SwinIR", {**SWINIR, "embed_dim": 180, "depths": [6] * 6, "num_heads": [6] * 6}),
    "EDSR": ("edsr", {"num_feat": 64, "num_block": 16}),
}
TINY = {
    "SwinIR-M": ("SwinIR", {**SWINIR, "embed_dim": 24, "depths": [2], "num_heads": [2]}),
    "EDSR": ("edsr", {"num_feat": 16, "num_block": 1}),
}
FULL, PEFT, PLAIN, OURS = "full fine-tuning", "PEFT LoRA", "LoRA, not accelerated", "ours"
GOALS = {("SwinIR-M", FULL): 0.75, ("EDSR", FULL): 0.85, ("SwinIR-M", PEFT): 0.75, ("EDSR", PEFT): 0.75}
MEMORY_GOALS = {"SwinIR-M": 0.5}


def backbone(name: str, lr_size: int, tiny: bool) -> nn.Module:
    """Build a backbone with random weights for LR images of `lr_size` pixels."""
    architecture, options = (TINY if tiny else MODELS)[name]
    if architecture == "SwinIR":
        options = {**options, "img_size": lr_size}
    torch.manual_seed(0)
    return build(schema.Backbone(architecture=architecture, options=options), SCALE)


def candidate(kind: str, model: nn.Module) -> nn.Module:
    """Prepare the backbone as a candidate trains it; all but ours use the contiguous memory layout of the library."""
    if kind != OURS:
        model = model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    if kind == FULL:
        return model.requires_grad_(True)
    freeze(model)
    sites = find_sites(model)
    plan = lora.plan(model, sites, {**lora.OPTIONS, "rank": 8}, _no_data, 1)
    if kind == PEFT:
        from peft import LoraConfig, inject_adapter_in_model

        return inject_adapter_in_model(
            LoraConfig(r=8, lora_alpha=1, target_modules=list(plan.settings["sites"])), model
        )
    attach_low_rank(model, plan)
    if kind == OURS:
        accelerate(model)
    return model


def _no_data(index: int) -> NoReturn:
    raise AssertionError(f"LoRA's plan asked for calibration batch {index}, but should not need data")


def stepper(model: nn.Module, lr: torch.Tensor, hr: torch.Tensor) -> Callable[[], None]:
    """Return a function that does one training step."""
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-4, fused=True)
    model.train()

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        functional.l1_loss(model(lr), hr).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def batch(size: int, crop: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw a random batch of LR and HR crops, (size, 3, crop / SCALE, crop / SCALE) and (size, 3, crop, crop)."""
    generator = torch.Generator().manual_seed(0)
    lr = torch.rand(size, 3, crop // SCALE, crop // SCALE, generator=generator)
    hr = torch.rand(size, 3, crop, crop, generator=generator)
    return lr, hr


def steps_of(name: str, kinds: list[str], options: argparse.Namespace) -> dict[str, Callable[[], None]]:
    """Make the training step of every candidate, on the same batch."""
    lr, hr = batch(options.batch, options.crop)
    made: dict[str, Callable[[], None]] = {}
    for kind in kinds:
        model = candidate(kind, backbone(name, options.crop // SCALE, options.tiny))
        made[kind] = partial(_under_settings_of, kind, stepper(model, lr, hr))
    return made


def _under_settings_of(kind: str, step: Callable[[], None]) -> None:
    """Do a step; only ours flushes denormal numbers to zero, as training does and plain loops do not."""
    torch.set_flush_denormal(kind == OURS)
    step()
    torch.set_flush_denormal(False)


def time_figures(name: str, options: argparse.Namespace) -> Iterator[Figure]:
    """Measure the time of a step of every candidate."""
    kinds = [FULL, PEFT, PLAIN, OURS]
    steps = steps_of(name, kinds, options)
    seconds = in_turns(steps, options.rounds)
    rate = _peak_rate()
    for kind in kinds:
        median = statistics.median(seconds[kind])
        limit = _operations(steps[kind]) / rate
        yield Figure(f"{name}, {kind}: step", median, "s", note=f"{limit / median:.0%} of the rate of a large product")
    for kind in (FULL, PEFT, PLAIN):
        yield Figure(f"{name}: ours / {kind}", ratio(seconds, OURS, kind), "", GOALS.get((name, kind)))


def _operations(step: Callable[[], None]) -> int:
    counter = FlopCounterMode(display=False)
    with counter:
        step()
    return counter.get_total_flops()


def memory_figures(name: str, options: argparse.Namespace) -> Iterator[Figure]:
    """Measure the peak memory of a step of full fine-tuning, PEFT and ours."""
    peaks = {kind: _peak_in_own_process(name, kind, options) for kind in (FULL, PEFT, OURS)}
    for kind, peak in peaks.items():
        yield Figure(f"{name}, {kind}: peak memory of a step", peak / 2**20, "MiB")
    for kind in (FULL, PEFT):
        goal = MEMORY_GOALS.get(name) if kind == PEFT else None
        yield Figure(f"{name}: memory, ours / {kind}", peaks[OURS] / peaks[kind], "", goal)


def _peak_rate() -> float:
    """Measure the operations per second of a large float32 matrix product, an upper bound for a step."""
    size = 1024
    left = torch.rand(size, size)
    return 2 * size**3 / min(in_turns({"product": lambda: left @ left}, 5)["product"])


def _peak_in_own_process(name: str, kind: str, options: argparse.Namespace) -> int:
    words = ["--memory-of", name, kind, "--batch", options.batch, "--crop", options.crop]
    words += ["--threads", options.threads, *(["--tiny"] if options.tiny else [])]
    command = [sys.executable, "-m", "speed.step", *map(str, words)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(json.loads(done.stdout)["peak"])


def _peak(name: str, kind: str, options: argparse.Namespace) -> int:
    """Measure the bytes that two steps need beyond model, batch and imports."""
    step = steps_of(name, [kind], options)[kind]
    before = _resident("VmRSS")
    step()
    step()
    return _resident("VmHWM") - before


def _resident(line: str) -> int:
    """Read the process's memory in bytes, current (VmRSS) or peak (VmHWM); `getrusage` would include the parent's."""
    found = re.search(rf"^{line}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) * 1024


def main(words: list[str] | None = None) -> None:
    parser = arguments(argparse.ArgumentParser(prog="python -m speed.step", description=__doc__))
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--crop", type=int, default=256, help="side of the HR crop")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--memory-of", nargs=2, metavar=("MODEL", "CANDIDATE"), help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    if options.tiny:
        options.crop, options.rounds = min(options.crop, 64), 1
    torch.set_num_threads(options.threads)
    if options.memory_of:
        name, kind = options.memory_of
        print(json.dumps({"peak": _peak(name, kind, options)}))
        return
    figures = [
        figure for name in options.models for figure in (*time_figures(name, options), *memory_figures(name, options))
    ]
    settings = {key: getattr(options, key) for key in ("models", "threads", "batch", "crop", "rounds", "tiny")}
    report("step", settings, figures, options.json, "cpu")


if __name__ == "__main__":
    main()
