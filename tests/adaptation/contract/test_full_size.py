"""Every baseline on the four full architectures of the paper, with random weights and a small input."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import nn

from adaptsr import randomness
from adaptsr.adaptation.allocation import Batch
from adaptsr.adaptation.baseline_files import FOLDER, discover, resolve_variant
from adaptsr.adaptation.contract.checks import check_merge
from adaptsr.adaptation.contract.subjects import Subject
from adaptsr.adaptation.reparametrization import freeze
from adaptsr.backbones.build import build
from adaptsr.config.reading import load_profile
from adaptsr.errors import UserError

pytestmark = pytest.mark.slow

PROFILE = load_profile(FOLDER.parent / "config" / "paper.yaml")
FILES = discover()
LR_SIZE = {"edsr": 16, "safmn": 16, "swinir": 16, "drct": 32}
"""Two windows: the least at which shifted windows shift."""
VARIANTS = {"lora": "r8", "shira": "rank8", "peft_library": "dora"}
"""The variant of a file that touches most kinds of layers, where it is not the first of its ROWS."""


@cache
def full_backbone(name: str) -> nn.Module:
    with torch.random.fork_rng():
        randomness.seed_globals("full size", name)
        model = build(PROFILE.backbones[name], PROFILE.scale, LR_SIZE[name], load=False)
    freeze(model)
    return model


def data(size: int, index: int) -> Batch:
    generator = randomness.generator("full size", size, index)
    side = PROFILE.scale * size
    return torch.rand(1, 3, size, size, generator=generator), torch.rand(1, 3, side, side, generator=generator)


@pytest.mark.parametrize("backbone", LR_SIZE)
@pytest.mark.parametrize("baseline", FILES)
def test_merges(baseline: str, backbone: str) -> None:
    """After three training steps the merged model differs from the backbone, has exactly the architecture's keys, order
    and shapes, and matches the unmerged output: to 1e-4 of its range in float32, to 1e-10 in float64."""
    if baseline == "peft_library":
        pytest.importorskip("peft")
    torch.set_num_threads(1)
    file = FILES[baseline]
    chosen = VARIANTS.get(baseline) or next(iter([*file.rows, *file.variants]))
    variant = resolve_variant(FILES, {}, f"{baseline}/{chosen}", "test")
    size = LR_SIZE[backbone]
    subject = Subject(variant, backbone, full_backbone(backbone), lambda index: data(size, index))
    try:
        _ = subject.attached
    except UserError as refusal:
        pytest.skip(str(refusal))
    check_merge(subject)
