"""Run a training step as one CUDA graph: the host submits one piece of work instead of thousands."""

from __future__ import annotations

from collections.abc import Callable

import torch

WARM_UP = 3
"""Steps before the capture, in which libraries choose their kernels and the optimizer makes its state."""

Step = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


class Captured:
    """A step (lr, hr) -> (loss, distance) whose every launch is replayed from the fourth call on.

    The step must not depend on anything that changes on the host; random numbers follow torch's global generators.
    """

    def __init__(self, step: Step) -> None:
        self._step = step
        self._inputs: list[torch.Tensor] = []
        self._outputs: tuple[torch.Tensor, ...] = ()
        self._calls = 0
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, lr: torch.Tensor, hr: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if self._calls < WARM_UP:
            self._calls += 1
            return self._beside(lr, hr)
        if self._graph is None:
            self._capture(lr, hr)
        for own, given in zip(self._inputs, (lr, hr), strict=True):
            own.copy_(given)
        assert self._graph is not None
        self._graph.replay()
        loss, distance = (output.clone() for output in self._outputs)
        return loss, distance

    def _beside(self, lr: torch.Tensor, hr: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Take a step in a stream of its own, as a capture does."""
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            outputs = self._step(lr, hr)
        torch.cuda.current_stream().wait_stream(stream)
        return outputs

    def _capture(self, lr: torch.Tensor, hr: torch.Tensor) -> None:
        self._inputs = [lr.clone(), hr.clone()]
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._outputs = self._step(*self._inputs)
