"""Every baseline on the four full architectures of the paper, with random weights and a small input."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from adaptsr import randomness
from adaptsr.adaptation.allocation import Batch
from adaptsr.adaptation.baseline_files import resolve_variant
from adaptsr.adaptation.contract.backbones import SCALE
from adaptsr.adaptation.contract.checks import check_merge
from adaptsr.adaptation.contract.subjects import Subject
from adaptsr.errors import UserError
from tests.baselines.helpers import FILES, LR_SIZE, paper_backbone

pytestmark = pytest.mark.slow

VARIANTS = {"lora": "r8", "shira": "rank8", "peft_library": "dora"}
"""The variant of a file that touches most kinds of layers, where it is not the first of its ROWS."""
QUICK = {"colora": {"steps": 1, "points": 1}}
"""Options with which a plan takes seconds."""


def data(size: int, index: int) -> Batch:
    generator = randomness.generator("full size", size, index)
    side = SCALE * size
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
    variant = replace(variant, options={**variant.options, **QUICK.get(baseline, {})})
    size = LR_SIZE[backbone]
    subject = Subject(variant, backbone, paper_backbone(backbone), lambda index: data(size, index))
    try:
        _ = subject.attached
    except UserError as refusal:
        pytest.skip(str(refusal))
    check_merge(subject)
