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
    first, not_worse, second, against_full = sentences(world)
    assert first.startswith("Rank-aware LoRA against LoRA, r = 2, PSNR-Y on photos: mean differences from +0.19")
    assert "over 4 backbones, 5 seeds each" in first
    assert (
        "Expected to hold for other seeds and other scenes, of which these 6 scenes could be a random sample: "
        "better on 4 of 4 backbones (EDSR, SAFMN, SwinIR, DRCT). For other seeds on these images: better on 4 of 4"
    ) in first
    assert first.endswith(" Holm's correction of 4 tests, for each scope and question.")
    assert not_worse == (
        "Shown to be less than 0.05 dB worse than LoRA, r = 2 in PSNR-Y, for other seeds and other scenes: "
        "4 of 4 tests (non-inferiority, Holm's correction of 4 tests)."
    )
    assert second.startswith("7 rows against Full fine-tuning")
    assert "correction of 28 tests" in second
    assert "on every backbone for LoRA, r = 1, LoRA, r = 2, LoRA, r = 8, Rank-aware LoRA, SHiRA" in against_full


def test_a_row_that_is_not_tested_on_a_backbone_is_not_shown_on_every_one(world: World) -> None:
    for seed in SEEDS:
        world.change("drct", "shira/paper", seed, status="diverged")
    against_full = sentences(world)[3]
    assert "on every backbone for LoRA, r = 1, LoRA, r = 2, LoRA, r = 8, Rank-aware LoRA" in against_full
    assert "SHiRA" not in against_full


def test_what_is_not_shown_is_undecided(world: World) -> None:
    for i, seed in enumerate(SEEDS):
        shift(world, (-0.2 if i % 2 else -0.3) if i else 0.6, backbone="edsr", baseline="rank_aware", seed=seed)
    first = sentences(world)[0]
    assert first.count("better on 3 of 4 backbones (SAFMN, SwinIR, DRCT), undecided on 1 (EDSR).") == 2


def test_the_few_tests_of_an_outcome_are_named_by_row_and_backbone(world: World) -> None:
    for i, seed in enumerate(SEEDS):
        shift(world, (-0.8 if i % 2 else -0.7) if i else 2.0, backbone="edsr", baseline="shira", seed=seed)
    assert "undecided in 1 (SHiRA on EDSR)" in sentences(world)[2]


def test_a_difference_that_would_read_as_zero_has_more_digits(world: World) -> None:
    rows = world.scores.set_index(["backbone", "seed", "image", "metric"]).query("metric == 'psnr_y'")
    uniform = rows.query("baseline == 'lora' and variant == 'r2'")["value"]
    for i, backbone in enumerate(["edsr", "safmn", "swinir", "drct"], start=1):
        mask = world.lines(backbone=backbone, baseline="rank_aware", metric="psnr_y")
        keys = world.scores.loc[mask, ["backbone", "seed", "image", "metric"]].itertuples(index=False, name=None)
        world.scores.loc[mask, "value"] = [uniform[key] - 0.0001 * i for key in keys]
    assert "mean differences from -0.0004 to -0.0001 dB" in sentences(world)[0]


def test_better_follows_the_direction_of_the_metric(world: World) -> None:
    metrics = world.content["scoring"]["metrics"]
    world.content["scoring"]["metrics"] = {"lpips": metrics["lpips"], **metrics}
    first, second = sentences(world)
    assert "LPIPS on photos: mean differences from -0.0" in first
    assert "better on 4 of 4 backbones" in first
    assert "worse than" not in second, "no margin is declared for LPIPS"


def test_a_difference_within_the_margin_is_equivalent_although_it_is_not_zero(world: World) -> None:
    world.content["report"]["margins"] = {"psnr_y": 0.5}
    said = "equivalent within ±0.5 dB on 4 of 4 backbones (EDSR, SAFMN, SwinIR, DRCT; 4 of them shown to be higher)"
    assert sentences(world)[0].count(said) == 2


def test_differences_of_these_images_alone_are_said_to_be_so(world: World) -> None:
    for image in world.scores["image"].unique():
        sign = {"cat": 1, "cup": 1, "elm": 1, "fox": -1, "ice": -1, "sky": -1}[image.partition("-")[0]]
        shift(world, 5.0 * sign, baseline="rank_aware", metric="psnr_y", image=image)
    first = sentences(world)[0]
    assert "could be a random sample: undecided on 4 of 4 backbones (EDSR, SAFMN, SwinIR, DRCT)." in first
    assert "For other seeds on these images: better on 4 of 4 backbones" in first


def test_few_scenes_allow_no_statement_on_others(world: World) -> None:
    world.scores = world.scores[~world.scores["image"].str.startswith("sky")]
    first, second = sentences(world)[:2]
    assert "could be a random sample: no statement: 5 scenes, fewer than 6." in first
    assert "for other seeds on these images: 4 of 4 tests (non-inferiority, " in second


def test_one_test_is_not_said_to_be_corrected(world: World) -> None:
    world.content["backbones"] = {"edsr": world.content["backbones"]["edsr"]}
    world.content["scoring"]["metrics"] = {"psnr_y": world.content["scoring"]["metrics"]["psnr_y"]}
    first, second = sentences(world)[:2]
    assert first.endswith(" One test.")
    assert "Holm" not in first + second


def without_psnr(world: World) -> None:
    world.scores.loc[world.lines(metric="psnr_y"), "value"] = math.nan


NOTHING = r"nothing to compare, no pair of runs has been scored\.$"


@pytest.mark.parametrize(
    ("change", "place", "said"),
    [
        (without_psnr, 0, NOTHING),
        (without_psnr, 1, NOTHING),
        (lambda world: world.content.update(seeds=[2]), 0, r"1 seed each; no test could be made\.$"),
        (
            lambda world: world.without(backbone="drct", baseline="rank_aware"),
            0,
            r"better on 3 of 4 backbones \(.*\), not tested on 1 \(DRCT\)\. Holm's correction of 4 tests, 1 of them not measured, ",
        ),
        (lambda world: world.content["report"].update(comparisons=[]), -1, "names no comparisons"),
    ],
)
def test_what_was_not_tested_is_said(world: World, change: Callable[[World], object], place: int, said: str) -> None:
    change(world)
    assert re.search(said, sentences(world)[place])
