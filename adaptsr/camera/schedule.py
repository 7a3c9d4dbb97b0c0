"""Time a few steps of a model and choose how long it trains: learning rates, iterations, processes, and what that takes."""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from adaptsr.backbones.inference import enlarge
from adaptsr.camera.placing import Placed
from adaptsr.devices import free_memory, shared_gpus
from adaptsr.files import size_text

FACTORS = (1.0, 3.0, 10.0)
"""What the template's learning rate of a method is multiplied by; tuning tries each."""
SHARE_TRIED = 0.25
"""Of the iterations: how long each learning rate is tried."""
LEAST_TRIED = 20
"""Iterations below which a trial would tell nothing, so that the template's learning rate is used."""
VALIDATIONS = 5
"""In training, beside that of the unadapted model."""
_STARTING = 75.0
"""Seconds: about a dozen processes that start, check the backbone, score and write the report."""
_SLOWER = 1.25
"""Steps take longer than the timed ones: several processes share memory, crops are drawn, and the method has parts of its own."""
_TIMED_STEPS = 3
_LEAST_ITERATIONS = 20


@dataclass(frozen=True)
class Cost:
    """What a model takes here: seconds of a step of full fine-tuning, and per LR pixel restored; bytes of a process."""

    step: float
    pixel: float
    held: int


@dataclass(frozen=True)
class Schedule:
    """How long a model trains. tried: iterations for each learning rate, 0 without tuning. processes: at once.

    seconds, held: what all takes, estimated.
    """

    iterations: int
    tried: int
    processes: int
    seconds: float
    held: int

    @property
    def text(self) -> str:
        tuning = (
            f"{len(FACTORS)} learning rates tried for {self.tried}" if self.tried else "the learning rate not tuned"
        )
        minutes = max(1, round(self.seconds / 60))
        return (
            f"{self.iterations} iterations, {tuning}: about {minutes} minute{'s' if minutes > 1 else ''} and "
            f"{size_text(self.held)} of memory, {self.processes} process{'es' if self.processes > 1 else ''} at once"
        )


def measure(model: nn.Module, crop: int, batch: int, threads: int, device: torch.device) -> Cost:
    """Time steps of full fine-tuning (methods that train less are a little faster) and restoring, with so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        model = model.to(device).train()
        lr = torch.rand(batch, 3, crop, crop, device=device)
        for step in range(_TIMED_STEPS + 1):
            if step == 1:  # the first one warms up
                started = time.monotonic()
            restored = model(lr)
            functional.l1_loss(restored, torch.zeros_like(restored)).backward()  # type: ignore[no-untyped-call]
            float(restored.detach().sum())  # wait for a GPU
        seconds = (time.monotonic() - started) / _TIMED_STEPS
        model.zero_grad(set_to_none=True)
        started = time.monotonic()
        float(enlarge(model.eval(), lr).sum())
        pixel = (time.monotonic() - started) / (batch * crop * crop)
    finally:
        torch.set_num_threads(before)
    if device.type == "cuda":
        held = torch.cuda.max_memory_allocated(device)
        model.cpu()
        torch.cuda.empty_cache()  # the runs are processes of their own
        return Cost(seconds, pixel, held)
    unit = 1 if sys.platform == "darwin" else 1024
    return Cost(seconds, pixel, unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def schedule(
    cost: Cost,
    placed: Placed,
    seeds: int,
    cores: int,
    device: torch.device,
    iterations: int | None,
    minutes: float,
) -> Schedule:
    """Choose the iterations that fit into so many minutes unless they are given, and estimate what all takes.

    Trains seeds one after another if memory is too small for all at once, or there are fewer GPUs.
    """
    held = cost.held + (placed.train if device.type == "cpu" else 0)
    processes = max(1, min(cores, seeds, free_memory(device) // max(1, held)))
    if device.type == "cuda":  # each run has a GPU of its own (`compute.jobs_per_gpu`)
        processes = min(processes, max(1, len(shared_gpus())))
    waves = -(-seeds // processes)
    step = _SLOWER * cost.step
    validating = cost.pixel * placed.validation
    fixed = _STARTING + cost.pixel * placed.test * (1 + seeds) + validating * (waves * (1 + VALIDATIONS))
    tried_weight = len(FACTORS) * SHARE_TRIED
    if iterations is None:
        left = 60 * minutes - fixed - len(FACTORS) * 3 * validating
        iterations = max(_LEAST_ITERATIONS, int(left / (step * (waves + tried_weight))))
    tried = int(SHARE_TRIED * iterations)
    tried = tried if tried >= LEAST_TRIED else 0
    trials = len(FACTORS) * (tried * step + 3 * validating) if tried else 0.0
    return Schedule(iterations, tried, processes, fixed + trials + waves * iterations * step, processes * held)
