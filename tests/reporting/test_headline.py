"""Two sentences made from numbers that claim no more than the tests carry."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import pytest

from adaptsr.reporting.headline import headline
from adaptsr.reporting.significance import compare_rows
from tests.reporting.made_up_benchmark import SEEDS, World


def sentences(world: World) -> list[str]:
    world.write()
    results = world.read()
    return headline(results, compare_rows(results))


def shift(world: World, amount: float, **where: object) -> None:
    world.scores.loc[world.lines(**where), "value"] += amount


def test_clear_differences_are_counted_and_named(world: World) -> None:
    first, second = sentences(world)
    assert first.startswith("Rank-aware LoRA against LoRA, r = 2, PSNR-Y on photos: mean differences from +0.19")
    assert "over 4 backbones, 5 seeds each" in first
    assert (
        "of 4 tests after Holm's correction, 4 are significantly better (EDSR, SAFMN, SwinIR, DRCT) and 0 are significantly worse"
        in first
    )
    assert "evidence" not in first
    assert second.startswith("7 rows against Full fine-tuning")
    assert "of 28 tests" in second


def test_what_is_not_significant_is_no_evidence_of_equality(world: World) -> None:
    for i, seed in enumerate(SEEDS):
        shift(world, (-0.2 if i % 2 else -0.3) if i else 0.6, backbone="edsr", baseline="rank_aware", seed=seed)
    first, _ = sentences(world)
    assert "3 are significantly better (SAFMN, SwinIR, DRCT)" in first
    assert "; 1 is not significant, which is no evidence of equality." in first


def test_better_follows_the_direction_of_the_metric(world: World) -> None:
    world.content["scoring"]["metrics"] = dict(reversed(world.content["scoring"]["metrics"].items()))
    metrics = world.content["scoring"]["metrics"]
    world.content["scoring"]["metrics"] = {"lpips": metrics["lpips"], **metrics}
    first, _ = sentences(world)
    assert "LPIPS on photos: mean differences from -0.0" in first
    assert "4 are significantly better" in first


def test_differences_of_these_images_alone_are_said_to_be_so(world: World) -> None:
    for image, sign in (("cat-0", 1), ("cat-1", 1), ("sky-0", -1), ("sky-1", -1)):
        shift(world, 5.0 * sign, baseline="rank_aware", metric="psnr_y", image=image)
    first, _ = sentences(world)
    assert "4 are significantly better" in first
    assert "; of these none is shown for other scenes too" in first


def without_psnr(world: World) -> None:
    world.scores.loc[world.lines(metric="psnr_y"), "value"] = math.nan


NOTHING = r"nothing to compare, no pair of runs has been scored\.$"


@pytest.mark.parametrize(
    ("change", "place", "said"),
    [
        (without_psnr, 0, NOTHING),
        (without_psnr, 1, NOTHING),
        (
            lambda world: world.content.update(seeds=[2]),
            0,
            r"1 seed each; no test could be made, so this is no evidence of a difference\.",
        ),
        (
            lambda world: world.without(backbone="drct", baseline="rank_aware"),
            0,
            r"of 3 tests .*; 1 could not be tested\.$",
        ),
        (lambda world: world.content["report"].update(comparisons=[]), -1, "names no comparisons"),
        (lambda world: world.content["report"]["comparisons"].pop(), -1, "SSIM-Y on photos"),
    ],
)
def test_what_was_not_tested_is_said(world: World, change: Callable[[World], object], place: int, said: str) -> None:
    change(world)
    assert re.search(said, sentences(world)[place])
