"""The ends of residual branches are found in the graph of a forward pass."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from torch import nn

from adaptsr.backbones.branches import branch_ends
from adaptsr.backbones.sites import find_sites
from tests.backbones.helpers import tiny

SWIN_BLOCKS = r"layers\.0\.residual_group\.blocks\.[01]\.(attn\.proj|mlp\.fc2)"


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("edsr", r"body\.[01]\.conv2|conv_after_body"),
        ("safmn", r"feats\.[01]\.ccm\.ccm\.2"),
        ("swinir", rf"{SWIN_BLOCKS}|layers\.0\.conv|conv_after_body"),
        ("drct", r"layers\.0\.swin[1-5]\.(attn\.proj|mlp\.fc2)|layers\.0\.adjust5|conv_after_body"),
    ],
)
def test_known_backbones(name: str, pattern: str) -> None:
    sites = find_sites(tiny(name))
    assert branch_ends(tiny(name), sites) == [site.name for site in sites if re.fullmatch(pattern, site.name)]


class Block(nn.Module):
    """Three convolutions whose outputs meet in `join`."""

    def __init__(self, join: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.head, self.left, self.right = (nn.Conv2d(3, 3, 1) for _ in range(3))
        self.gain = nn.Parameter(torch.ones(1, 3, 1, 1))
        self.join = join

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.join(self, self.head(x))


@pytest.mark.parametrize(
    ("join", "expected"),
    [
        (lambda b, x: x + b.left(x), ["left"]),
        (lambda b, x: b.left(x) * 0.2 + x, ["left"]),
        (lambda b, x: x + b.gain * b.left(b.right(x)), ["left"]),
        (lambda b, x: x + b.left(x) + b.right(x), ["left", "right"]),
        (lambda b, x: x.add_(b.left(x)), ["left"]),
        (lambda b, x: x + b.left(x).flatten(2).mT.mT.view_as(x), ["left"]),
        (lambda b, x: x + torch.relu(b.left(x)), []),
        (lambda b, x: x * b.left(x), []),
        (lambda b, x: b.left(x) + b.right(x), []),
    ],
    ids=["plain", "scaled", "gained", "two branches", "in place", "moved", "activated", "multiplied", "no stream"],
)
def test_what_is_an_end(join: Callable[..., torch.Tensor], expected: list[str]) -> None:
    model = Block(join)
    assert branch_ends(model, find_sites(model)) == expected
