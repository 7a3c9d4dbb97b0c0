"""What a training step holds, counted by hand."""

from __future__ import annotations

import torch
from torch import nn

from adaptsr.training.memory import StepMemory


def test_step_memory_counts_what_is_kept_once_and_leaves_the_model_out() -> None:
    """Input (4 x 3) and hidden values (4 x 5) of 4 bytes are kept; 35 trained parameters have three copies."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2))
    model[0].bias.requires_grad_(False)
    model[2].bias.requires_grad_(False)
    memory = StepMemory(model, copies=3)
    assert memory.bytes is None
    for batch in (4, 64):  # only the first step counts
        with memory.watch_once():
            kept = model(torch.randn(batch, 3))
        kept.sum().backward()
        # ReLU's output is kept by ReLU and by the second layer: once.
        assert memory.bytes == 4 * (4 * 3 + 4 * 5) + 3 * 4 * (3 * 5 + 5 * 2)


def test_freezing_what_comes_first_keeps_less() -> None:
    kept = []
    for frozen in (False, True):
        model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.GELU(), nn.Conv2d(8, 3, 3))
        model[0].requires_grad_(not frozen)
        memory = StepMemory(model, copies=3)
        with memory.watch_once():
            model(torch.randn(1, 3, 16, 16))
        kept.append(memory.bytes or 0)
    assert kept[1] < kept[0]
