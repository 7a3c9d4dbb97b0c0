"""Paired statistics against scipy, statsmodels and simulation, and what they say when there is nothing to say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from adaptsr.statistics import (
    COLUMNS,
    Family,
    bootstrap,
    bootstrap_interval,
    compare,
    hedges_correction,
    holm,
    minimal_detectable_difference,
    pair,
    power,
    row_names,
    seed_tables,
    seeds_note,
    significance,
    verdict,
)

IMAGES = ("a-0", "a-1", "b-0", "c-0")
SCENES = {"a-0": "a", "a-1": "a", "b-0": "b", "c-0": "c"}


def lines(row: str, seeds: Sequence[int | None], values: np.ndarray, **where: str) -> pd.DataFrame:
    """Score lines of one row; `values` is (seeds, images)."""
    baseline, _, variant = row.partition("/")
    cells = [(seed, image, values[i, j]) for i, seed in enumerate(seeds) for j, image in enumerate(IMAGES)]
    frame = pd.DataFrame(cells, columns=["seed", "image", "value"]).astype({"seed": "Int64", "value": float})
    place = {"backbone": "net", "dataset": "photos", "metric": "psnr_y", **where}
    return frame.assign(baseline=baseline, variant=variant, **place)


def two_rows(random: np.random.Generator, seeds: int = 5, gain: float = 0.1) -> pd.DataFrame:
    base = 27 + random.normal(size=(seeds, len(IMAGES)))
    other = base + gain + 0.1 * random.normal(size=base.shape)
    names = list(range(1, seeds + 1))
    return pd.concat([lines("lora/r8", names, base), lines("rank_aware/gradient", names, other)], ignore_index=True)


def compared(scores: pd.DataFrame, lower_better: bool = False, seeds: Sequence[int] | None = None) -> dict[str, object]:
    return compare(
        seed_tables(scores), "rank_aware/gradient", "lora/r8", SCENES, lower_better=lower_better, seeds=seeds
    )


def table_of(scores: pd.DataFrame, **changes: object) -> pd.DataFrame:
    arguments: dict[str, object] = {
        "backbones": ["net"],
        "datasets": ["photos"],
        "metrics": ["psnr_y"],
        "scenes": {"photos": SCENES},
        "lower_better": {"psnr_y": False},
        **changes,
    }
    families = arguments.pop("comparisons", [Family("claim", ("rank_aware/gradient",), "lora/r8")])
    return significance(scores, families, **arguments)


# Agreement with scipy and statsmodels


@pytest.mark.parametrize("seeds", [2, 3, 5, 12])
def test_t_and_wilcoxon_are_those_of_scipy(seeds: int) -> None:
    scores = two_rows(np.random.default_rng(seeds), seeds)
    means = scores.groupby([row_names(scores), "seed"])["value"].mean().unstack(0)
    line = compared(scores)
    expected = stats.ttest_rel(means["rank_aware/gradient"], means["lora/r8"])
    assert line["t"] == pytest.approx(expected.statistic, rel=1e-9)
    assert line["p"] == pytest.approx(expected.pvalue, rel=1e-9)
    difference = means["rank_aware/gradient"] - means["lora/r8"]
    assert line["difference"] == pytest.approx(difference.mean(), rel=1e-9)
    assert line["sd"] == pytest.approx(difference.std(), rel=1e-9)
    assert line["d_z"] == pytest.approx(difference.mean() / difference.std(), rel=1e-9)
    assert line["wilcoxon_p"] == stats.wilcoxon(difference).pvalue


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_that_of_statsmodels(p: list[float]) -> None:
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1].tolist())


def test_holm_leaves_out_tests_that_were_not_made() -> None:
    assert holm([0.01, math.nan, 0.04]) == [0.02, pytest.approx(math.nan, nan_ok=True), 0.04]
    assert holm([]) == []


@pytest.mark.parametrize(("n", "effect", "alpha"), [(5, 1.0, 0.05), (5, 1.7, 0.05), (3, 2.0, 0.01), (20, 0.5, 0.05)])
def test_power_is_that_of_statsmodels(n: int, effect: float, alpha: float) -> None:
    assert power(n, effect, alpha) == pytest.approx(TTestPower().power(effect, n, alpha), abs=1e-6)


@pytest.mark.parametrize("n", [2, 3, 5, 10, 30])
def test_detectable_difference_is_that_of_statsmodels_and_scales(n: int) -> None:
    expected = TTestPower().solve_power(None, n, 0.05, 0.8)
    assert minimal_detectable_difference(n) == pytest.approx(float(np.squeeze(expected)), rel=1e-3)
    assert minimal_detectable_difference(n, sd=0.01) == pytest.approx(0.01 * minimal_detectable_difference(n))
    assert math.isnan(minimal_detectable_difference(1))


def test_hedges_correction_takes_the_bias_out() -> None:
    """The mean of g over many samples of five is the true effect; that of d is not."""
    samples = np.random.default_rng(1).normal(0.8, 1, size=(40_000, 5))
    d = samples.mean(axis=1) / samples.std(axis=1, ddof=1)
    assert d.mean() > 0.95
    assert (d * hedges_correction(4)).mean() == pytest.approx(0.8, abs=0.01)
    assert math.isnan(hedges_correction(1))


# The bootstrap


def test_bootstrap_draws_seeds_and_scenes_like_a_plain_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """The vectorised resampling has the quantiles of one that copies rows and images, scene by scene."""
    monkeypatch.setattr(bootstrap, "_expanded_tail", lambda *_: 0.16)
    random = np.random.default_rng(3)
    differences = random.normal(size=(5, 9)) + random.normal(size=(5, 1))
    scenes = list("aabbbbccd")
    images = {name: [i for i, scene in enumerate(scenes) if scene == name] for name in "abcd"}
    means = []
    for _ in range(20_000):
        drawn = [i for name in random.choice(list("abcd"), 4) for i in images[name]]
        means.append(differences[random.integers(0, 5, 5)][:, drawn].mean())
    assert bootstrap_interval(differences, scenes) == pytest.approx(np.quantile(means, [0.16, 0.84]), abs=0.03)


@pytest.mark.parametrize(
    ("seed_sd", "scene_sd", "noise", "scenes"), [(1, 0, 0.1, 8), (0, 1, 0.1, 8), (1, 1, 0.3, 20), (0.3, 1, 0.3, 4)]
)
def test_bootstrap_covers_the_true_difference(seed_sd: float, scene_sd: float, noise: float, scenes: int) -> None:
    """With five seeds the 95% interval covers in at least 90%, whichever of seeds and scenes varies more."""
    random = np.random.default_rng(7)
    cluster = [str(i // 3) for i in range(3 * scenes)]
    covered = 0
    for _ in range(300):
        scene = np.repeat(random.normal(0, scene_sd, scenes) + random.normal(0, noise, (5, scenes)), 3, axis=1)
        differences = 0.5 + random.normal(0, seed_sd, (5, 1)) + scene + random.normal(0, noise, scene.shape)
        low, high = bootstrap_interval(differences, cluster)
        covered += low <= 0.5 <= high
    assert 0.9 <= covered / 300 <= 1


def test_bootstrap_is_the_same_twice_and_for_any_order_of_images() -> None:
    differences, scenes = np.random.default_rng(0).normal(size=(5, 6)), list("aabbcc")
    first = bootstrap_interval(differences, scenes)
    assert bootstrap_interval(differences, scenes) == first
    shuffled = [4, 0, 2, 5, 1, 3]
    again = bootstrap_interval(differences[:, shuffled], [scenes[i] for i in shuffled])
    assert again == pytest.approx(first, rel=1e-12)


def test_bootstrap_degenerate_cases() -> None:
    constant = np.full((5, 4), 0.25)
    assert bootstrap_interval(constant, IMAGES) == pytest.approx((0.25, 0.25))
    assert all(map(math.isnan, bootstrap_interval(np.ones((1, 4)), IMAGES)))
    assert all(map(math.isnan, bootstrap_interval(np.empty((0, 4)), IMAGES)))
    one_scene = bootstrap_interval(np.arange(20.0).reshape(5, 4), list("aaaa"))
    assert one_scene[0] < 9.5 < one_scene[1]


# Pairing


def test_pairs_by_seed_not_by_order() -> None:
    scores = two_rows(np.random.default_rng(0))
    assert compared(scores.sample(frac=1, random_state=1)) == compared(scores)


@pytest.mark.parametrize(("value", "said"), [(math.nan, "missing"), (None, "missing"), (math.inf, "infinite")])
def test_a_seed_without_a_finite_value_for_every_image_is_not_paired_and_named(value: float | None, said: str) -> None:
    """The value is missing or infinite, or the image is not there."""
    scores = two_rows(np.random.default_rng(0))
    mask = (row_names(scores) == "lora/r8") & (scores["seed"] == 2) & (scores["image"] == "b-0")
    whole = compared(scores[scores["seed"] != 2])
    scores.loc[mask, "value"] = value if value is not None else 0
    line = compared(scores if value is not None else scores[~mask])
    assert (line["seeds"], line["seeds_left_out"], line["left_out"]) == (4, 1, f"{said} value: seed 2")
    assert line["t"] == whole["t"]


def test_a_row_that_misses_seeds_is_compared_on_the_common_ones() -> None:
    scores = two_rows(np.random.default_rng(0))
    gone = (row_names(scores) == "rank_aware/gradient") & scores["seed"].isin([1, 5])
    line = compared(scores[~gone], seeds=range(1, 8))
    assert (line["seeds"], line["seeds_left_out"], line["left_out"]) == (3, 4, "not scored: seeds 1, 5, 6, 7")


def test_the_unadapted_backbone_is_paired_with_every_seed() -> None:
    random = np.random.default_rng(0)
    scores = two_rows(random)
    fixed = 27 + random.normal(size=(1, len(IMAGES)))
    scores = pd.concat([scores, lines("unadapted", [None], fixed)], ignore_index=True)
    line = compare(seed_tables(scores), "lora/r8", "unadapted", SCENES)
    means = scores[row_names(scores) == "lora/r8"].groupby("seed")["value"].mean() - fixed.mean()
    assert line["p"] == pytest.approx(stats.ttest_1samp(means, 0).pvalue)


def test_images_that_no_manifest_knows_are_scenes_of_their_own() -> None:
    pairs = pair(seed_tables(two_rows(np.random.default_rng(0))), "rank_aware/gradient", "lora/r8", {"a-0": "a"})
    assert pairs.scenes == ("a", "a-1", "b-0", "c-0")


def test_two_values_for_one_image_are_refused() -> None:
    scores = two_rows(np.random.default_rng(0))
    with pytest.raises(ValueError, match="duplicate"):
        seed_tables(pd.concat([scores, scores.head(1)]))


# Direction and degenerate differences


@pytest.mark.parametrize(
    ("gain", "lower_better", "better"),
    [(1, False, "row"), (1, True, "compared_with"), (-1, False, "compared_with"), (-1, True, "row")],
)
def test_the_difference_is_raw_and_the_metric_says_who_is_better(gain: float, lower_better: bool, better: str) -> None:
    line = compared(two_rows(np.random.default_rng(0), gain=gain), lower_better)
    assert math.copysign(1, float(str(line["difference"]))) == gain
    assert line["better"] == better


@pytest.mark.parametrize(("gain", "better", "words"), [(0.0, "none", "score"), (0.1, "row", "difference")])
def test_equal_differences_have_no_test_although_rounding_may_give_them_a_variance(
    gain: float, better: str, words: str
) -> None:
    base = 27 + np.random.default_rng(0).normal(size=(5, 4))
    scores = pd.concat([lines("lora/r8", range(5), base), lines("rank_aware/gradient", range(5), base + gain)])
    line = table_of(scores).iloc[0]
    assert line[["difference", "low", "high"]].tolist() == pytest.approx([gain] * 3)
    assert line["sd"] == 0
    assert line[["t", "p", "p_holm", "wilcoxon_p", "d_z", "g_z"]].isna().all()
    assert (line["better"], line["verdict"]) == (better, f"the same {words} in every seed: no test")


@pytest.mark.parametrize(("seeds", "words"), [(0, "nothing to compare"), (1, "one pair of seeds: no test")])
def test_fewer_than_two_seeds_have_no_test(seeds: int, words: str) -> None:
    scores = two_rows(np.random.default_rng(0))
    kept = (row_names(scores) == "lora/r8") | (scores["seed"] <= seeds)
    line = table_of(scores[kept], seeds=range(1, 6)).iloc[0]
    assert (line["seeds"], line["seeds_left_out"], line["verdict"]) == (seeds, 5 - seeds, words)
    assert line[["sd", "low", "high", "t", "p", "p_holm"]].isna().all()
    assert not line["significant"]


# The whole table


def test_holm_corrects_within_family_backbone_dataset_and_metric() -> None:
    random = np.random.default_rng(5)
    seeds = range(1, 6)
    frames = []
    for backbone, metric in product(("net", "other"), ("psnr_y", "ssim_y")):
        base = random.normal(size=(5, 4))
        for i, row in enumerate(("lora/r8", "arc/a", "arc/b", "arc/c")):
            values = base + 0.03 * i + 0.05 * random.normal(size=base.shape)
            frames.append(lines(row, seeds, values, backbone=backbone, metric=metric))
    table = table_of(
        pd.concat(frames),
        comparisons=[Family("all", ("arc/a", "arc/b", "arc/c"), "lora/r8"), Family("one", ("arc/a",), "lora/r8")],
        backbones=["net", "other"],
        metrics=["psnr_y", "ssim_y"],
        lower_better={"psnr_y": False, "ssim_y": False},
    )
    assert list(table["comparison"]) == ["all"] * 12 + ["one"] * 4
    for _, family in table.groupby(["comparison", "backbone", "dataset", "metric"]):
        assert list(family["p_holm"]) == pytest.approx(multipletests(family["p"], method="holm")[1].tolist())
        assert (family["tests"] == len(family)).all()
    assert list(table["significant"]) == list(table["p_holm"] < 0.05)


def test_a_backbone_without_scores_has_lines_that_say_so() -> None:
    """Without comparisons there are no lines, and their columns all the same."""
    scores = two_rows(np.random.default_rng(0))
    line = table_of(scores, backbones=["net", "absent"], seeds=[1, 2, 3, 4, 5]).iloc[1]
    assert (line["verdict"], line["left_out"]) == ("nothing to compare", "not scored: seeds 1, 2, 3, 4, 5")
    table = table_of(scores, comparisons=[])
    assert list(table.columns) == COLUMNS
    assert table.empty


@pytest.mark.parametrize(
    ("interval", "p", "p_holm", "better", "words"),
    [
        ((0.1, 0.3), 0.001, 0.01, "row", "better"),
        ((0.1, 0.3), 0.001, 0.01, "compared_with", "worse"),
        ((-0.1, 0.3), 0.001, 0.01, "row", "better on these images; not shown for other scenes"),
        ((0.1, 0.3), 0.03, 0.2, "row", "not significant after Holm's correction"),
        ((0.1, 0.3), 0.2, 0.2, "row", "not significant"),
    ],
)
def test_verdicts_claim_what_the_numbers_carry(
    interval: tuple[float, float], p: float, p_holm: float, better: str, words: str
) -> None:
    assert verdict(5, 0.2, interval, p, p_holm, better) == words


def test_the_note_on_seeds_is_honest() -> None:
    note = seeds_note(5, tests=7)
    assert "1.68 standard deviations" in note
    assert "2/2^5 = 0.0625, so it can never reach 0.05" in note
    assert "no evidence of equality" in note
    assert f"{minimal_detectable_difference(5, alpha=0.05 / 7):.2f} at the strictest level" in note
    assert "can never reach" not in seeds_note(6)
    assert "no difference can be tested" in seeds_note(1)
