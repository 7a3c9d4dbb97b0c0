"""What a baseline cannot do ends in one line that names the option and says what there is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest
from torch import nn

from tests.baselines.helpers import planned, swin_like
from tests.factories import refusal


@pytest.mark.parametrize(
    ("name", "chosen", "options", "line"),
    [
        ("arc", "svd50", {"mlp_init": "ones"}, "arc: mlp_init: 'ones' is unknown; there are xavier, zero"),
        ("difffit", "gamma", {"form": "full"}, "difffit: form: 'full' is unknown; there are published, gamma"),
        ("full_finetuning", "conv", {"sites": "norm"}, "kinds: unknown kind of site 'norm'"),
        ("rank_aware", "gradient", {"budget": 100}, r"budget: r_min 1 alone costs \d+ parameters at the 10 sites"),
        (
            "rank_aware",
            "gradient",
            {"budget": 5000, "score": "taylor"},
            "score: 'taylor' is unknown; there are activation, fisher",
        ),
        (
            "pissa",
            "r8",
            {"factorization": "1x1-kxk"},
            "pissa: factorization: '1x1-kxk' has no such start here; there are",
        ),
        ("rasa", "budget", {"rank": 4, "shared": 4}, "rasa: shared: expected k between 1 and rank - 1 = 3, found 4"),
        ("rasa", "budget", {"shared": 0}, "rasa: shared: .* found 0"),
        ("rasa", "budget", {"grouping": "block"}, "rasa: grouping: 'block' is unknown; there are stage, shape"),
        ("shira", "paper", {"mask": "magnitude"}, "shira: mask: 'magnitude' is unknown; there are grad, random, snip"),
    ],
)
def test_mistaken_option(name: str, chosen: str, options: Mapping[str, Any], line: str) -> None:
    assert re.match(line, refusal(lambda: planned(name, chosen, swin_like().double(), **options)))


def test_no_branch_to_scale() -> None:
    """DiffFit refuses a backbone without a known residual branch in a line that says what to give."""
    said = refusal(lambda: planned("difffit", "gamma", nn.Sequential(nn.Conv2d(3, 3, 3))))
    assert re.match(r"difffit: no site .* ends a residual branch; .* branch_ends", said)
