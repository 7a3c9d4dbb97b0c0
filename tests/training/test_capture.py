"""A captured step, on a stand-in: what a graph replays is the step with its own tensors, and nothing of the host."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from adaptsr.config import schema
from adaptsr.training.capture import WARM_UP, Captured
from adaptsr.training.recipe import Trainer

ITERATIONS = 12
TRAINING = schema.Training.model_validate(
    {"iterations": ITERATIONS, "batch_size": 2, "crop": 8, "lr": 0.05, "validate_every": 1, "schedule": "cosine"}
)


class Graph:
    """Stands for a CUDA graph: it keeps what was captured, and a replay does it again with the rates of the capture."""

    replay: Callable[[], None]


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replace CUDA's graphs; the list tells what happened."""
    happened: list[str] = []

    class Stream:
        def wait_stream(self, other: Any) -> None:
            happened.append("wait")

    @contextmanager
    def graph(into: Graph) -> Any:
        happened.append("capture")
        yield

    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", graph)
    return happened


class Replayed(Captured):
    """Captures without running, as CUDA does."""

    def _capture(self, lr: torch.Tensor, hr: torch.Tensor) -> None:
        step, taken = self._step, self._step
        outputs = (torch.zeros(()), torch.zeros(()))
        self._step = lambda *inputs: outputs
        super()._capture(lr, hr)
        self._step = step

        def replay() -> None:
            for output, value in zip(outputs, taken(*self._inputs), strict=True):  # type: ignore[arg-type]
                output.copy_(value)

        self._graph.replay = replay  # type: ignore[union-attr, method-assign]


def trained(captured: bool) -> tuple[list[float], torch.Tensor, Trainer]:
    torch.manual_seed(0)
    model = nn.Conv2d(3, 3, 3, padding=1)
    trainer = Trainer(model, TRAINING.model_copy(update={"compile": "graphs" if captured else "none"}))

    def compute(lr: torch.Tensor, hr: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        loss = functional.l1_loss(model(lr), hr)
        trainer.step(loss)
        return loss.detach(), loss.detach() * 2

    step = Replayed(compute) if captured else compute
    losses = []
    for iteration in range(ITERATIONS):
        lr, hr = torch.rand(2, 2, 3, 8, 8, generator=torch.Generator().manual_seed(iteration))
        trainer.begin(iteration)
        losses.append(step(lr, hr))
    assert all(float(distance) == 2 * float(loss) for loss, distance in losses)
    return [float(loss) for loss, _ in losses], model.weight.detach(), trainer


def test_replays_follow_their_batches_and_rates(stand_in: list[str]) -> None:
    """The losses are read at the end: each call returns tensors of its own, though a graph writes to the same ones."""
    plain, weights, _ = trained(captured=False)
    losses, found, trainer = trained(captured=True)
    assert losses == plain
    assert torch.equal(found, weights)
    assert stand_in.count("capture") == 1
    assert stand_in.count("wait") == 2 * WARM_UP
    assert isinstance(trainer.optimizer.param_groups[0]["lr"], torch.Tensor)
