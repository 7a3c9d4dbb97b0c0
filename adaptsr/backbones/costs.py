"""Measure what restoring one image of a stated size costs a merged model, as challenges of the field report it."""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from adaptsr.backbones.gate import facts
from adaptsr.backbones.inference import enlarge
from adaptsr.backbones.tiles import CountingBytes
from adaptsr.metrics.costs import Costs
from adaptsr.randomness import generator

WARM_UP = 1


def measure_costs(model: nn.Module, height: int, width: int, runs: int) -> Costs:
    """Measure a model in eval mode, where it is, on a random LR image of this size; `runs` of at least 2 are timed."""
    device = next(model.parameters()).device
    image = torch.rand(1, 3, height, width, generator=generator("costs", height, width)).to(device)
    # In its plain form attention is matrix products, which count on every device; fused forms do not on a CPU.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as flops, _Outputs() as outputs:
        enlarge(model, image)
    seconds = [_seconds(model, image) for _ in range(WARM_UP + runs)][WARM_UP:]
    return Costs(
        height=height,
        width=width,
        scale=facts(model).scale,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        flops=flops.get_total_flops(),
        activations=outputs.numbers,
        runs=runs,
        seconds=statistics.fmean(seconds),
        seconds_sd=statistics.stdev(seconds),
        memory_bytes=_memory(model, image),
    )


def as_text(costs: Costs, device: str) -> str:
    """Write the costs as lines: what, how much, and how it was counted."""
    lines = [
        ("restores", f"{costs.width}x{costs.height} LR pixels, x{costs.scale}", ""),
        ("parameters", f"{costs.parameters:,}", ""),
        (
            "FLOPs",
            f"{costs.flops / 1e9:,.3f} G",
            f"{costs.flops / 2e9:,.3f} G multiply-adds; products and convolutions",
        ),
        ("activations", f"{costs.activations / 1e6:,.3f} M", "numbers that convolutions put out"),
        ("latency", f"{1e3 * costs.seconds:,.1f} ms", f"mean of {costs.runs} runs, ± {1e3 * costs.seconds_sd:,.1f} ms"),
        ("memory", f"{costs.memory_bytes / 1e6:,.1f} MB", "most of weights and tensors at once"),
        ("device", device, ""),
    ]
    return "\n".join(f"{what:<12}{value}{f'  ({how})' if how else ''}" for what, value, how in lines)


def _seconds(model: nn.Module, image: torch.Tensor) -> float:
    _wait(image)
    began = time.perf_counter()
    enlarge(model, image)
    _wait(image)
    return time.perf_counter() - began


def _wait(image: torch.Tensor) -> None:
    if image.is_cuda:
        torch.cuda.synchronize(image.device)


def _memory(model: nn.Module, image: torch.Tensor) -> int:
    if image.is_cuda:
        torch.cuda.reset_peak_memory_stats(image.device)
        enlarge(model, image)
        return int(torch.cuda.max_memory_allocated(image.device))
    with CountingBytes() as counting:
        enlarge(model, image)
    return int(counting.most + sum(t.nbytes for t in (image, *model.parameters(), *model.buffers())))


class _Outputs(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the numbers that convolutions put out."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in (torch.ops.aten.convolution.default, torch.ops.aten._convolution.default):
            self.numbers += result.numel()
        return result
