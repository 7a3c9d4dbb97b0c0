"""A model whose restored photographs are known: every pixel twice in both directions."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from adaptsr.backbones.gate import gate
from adaptsr.backbones.sizes import Sizes
from adaptsr.restoring.models import Restorer


class Doubling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.gain * x.repeat_interleave(2, -1).repeat_interleave(2, -2)


@pytest.fixture
def doubling() -> Restorer:
    return make_doubling()


def make_doubling() -> Restorer:
    return Restorer(gate(Doubling(), "doubling", Sizes(), 2), "doubling", "d" * 64)
