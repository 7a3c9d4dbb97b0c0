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
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import ttost_paired

from adaptsr.statistics import (
    COLUMNS,
    SCOPES,
    Comparison,
    Measure,
    Uncertainty,
    compare,
    hedges_correction,
    holm,
    over_seeds,
    over_seeds_and_scenes,
    pair,
    row_names,
    seed_tables,
    sign_flip_p,
    significance,
)
from adaptsr.statistics.corrections import DRAWN_SIGNS
from adaptsr.statistics.simulation import EFFECTS, SETTINGS, UNEQUAL, Setting, coverage, false_alarms, satterthwaite_p
from adaptsr.statistics.uncertainty import effective_scenes, scene_totals

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


def compared(
    scores: pd.DataFrame, lower_better: bool = False, seeds: Sequence[int] | None = None, margin: float | None = None
) -> dict[str, object]:
    measure = Measure("psnr_y", lower_better, margin)
    return compare(seed_tables(scores), "rank_aware/gradient", "lora/r8", SCENES, measure=measure, seeds=seeds)


def table_of(scores: pd.DataFrame, **changes: object) -> pd.DataFrame:
    arguments: dict[str, object] = {
        "backbones": ["net"],
        "datasets": ["photos"],
        "measures": [Measure("psnr_y")],
        "primary": "psnr_y",
        "scenes": {"photos": SCENES},
        **changes,
    }
    comparisons = arguments.pop("comparisons", [Comparison("claim", ("rank_aware/gradient",), "lora/r8")])
    return significance(scores, comparisons, **arguments)


# Agreement with scipy and statsmodels


@pytest.mark.parametrize("seeds", [2, 3, 5, 12])
def test_the_test_over_seeds_is_the_paired_t_test_of_scipy(seeds: int) -> None:
    scores = two_rows(np.random.default_rng(seeds), seeds)
    means = scores.groupby([row_names(scores), "seed"])["value"].mean().unstack(0)
    line = compared(scores)
    expected = stats.ttest_rel(means["rank_aware/gradient"], means["lora/r8"])
    interval = expected.confidence_interval()
    assert line["p_seeds"] == pytest.approx(expected.pvalue, rel=1e-9)
    assert [line["low_seeds"], line["high_seeds"]] == pytest.approx([interval.low, interval.high], rel=1e-9)
    difference = means["rank_aware/gradient"] - means["lora/r8"]
    assert line["difference"] == pytest.approx(difference.mean(), rel=1e-9)
    assert line["sd"] == pytest.approx(difference.std(), rel=1e-9)
    assert line["d_z"] == pytest.approx(difference.mean() / difference.std(), rel=1e-9)
    if seeds > 2:
        expected_r = np.corrcoef(means["rank_aware/gradient"], means["lora/r8"])[0, 1]
        assert line["correlation"] == pytest.approx(expected_r)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_that_of_statsmodels(p: list[float]) -> None:
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1].tolist())


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.lists(st.floats(0, 1), max_size=8))
def test_holm_counts_tests_that_were_not_made_and_their_outcome_takes_nothing_back(
    made: list[float], others: list[float]
) -> None:
    *known, rest = [holm([*made, *missing]) for missing in ([math.nan] * len(others), [1.0] * len(others), others)]
    assert known[0][: len(made)] == known[1][: len(made)]
    assert all(math.isnan(p) for p in known[0][len(made) :])
    assert all(later <= now for now, later in zip(known[0], rest[: len(made)], strict=False))
    assert holm([]) == []


@pytest.mark.parametrize("margin", [0.05, 0.2, 1.0])
def test_equivalence_over_seeds_is_the_two_one_sided_tests_of_statsmodels(margin: float) -> None:
    scores = two_rows(np.random.default_rng(4))
    means = scores.groupby([row_names(scores), "seed"])["value"].mean().unstack(0)
    expected, above, below = ttost_paired(means["rank_aware/gradient"], means["lora/r8"], -margin, margin)
    line = compared(scores, margin=margin)
    assert line["p_equivalent_seeds"] == pytest.approx(expected)
    assert line["p_not_inferior_seeds"] == pytest.approx(above[1])
    assert compared(scores, lower_better=True, margin=margin)["p_not_inferior_seeds"] == pytest.approx(below[1])


@pytest.mark.parametrize("n", [5, 10, 30])
def test_what_seeds_detect_is_about_that_of_statsmodels(n: int) -> None:
    exact = float(np.squeeze(TTestPower().solve_power(None, n, 0.05, 0.8)))
    assert Uncertainty(((1 / n, n - 1),)).detectable(0.05) == pytest.approx(exact, rel=0.03)


@pytest.mark.parametrize("level", [0.05, 0.05 / 44])
def test_what_is_said_to_be_detectable_and_provable_is_so_in_four_of_five_samples(level: float) -> None:
    setting, random = Setting(0.3, 1.0, 0.3, scenes=12), np.random.default_rng(0)
    drawn = [setting.draw(random, "normal")[0] for _ in range(2000)]
    found, means = [over_seeds_and_scenes(d, names(12)) for d in drawn], [d.mean() for d in drawn]
    typical = Uncertainty(((setting.variances[0], 4), (setting.variances[1], 11)))
    detected = [u.half_width(level) < abs(m + typical.detectable(level)) for u, m in zip(found, means, strict=True)]
    margin = typical.provable_margin(level)
    shown = [u.half_width(2 * level) < margin - abs(m) for u, m in zip(found, means, strict=True)]
    assert 0.7 < np.mean(detected) < 0.92
    assert 0.7 < np.mean(shown) < 0.92


def test_hedges_correction_takes_the_bias_out() -> None:
    """The mean of g over many samples of five is the true effect; that of d is not."""
    samples = np.random.default_rng(1).normal(0.8, 1, size=(40_000, 5))
    d = samples.mean(axis=1) / samples.std(axis=1, ddof=1)
    assert d.mean() > 0.95
    assert (d * hedges_correction(4)).mean() == pytest.approx(0.8, abs=0.01)
    assert math.isnan(hedges_correction(1))


# Other seeds and other scenes


def names(scenes: int) -> tuple[str, ...]:
    return tuple(map(str, range(scenes)))


def test_the_two_parts_are_the_mean_squares_of_a_two_way_analysis_of_variance() -> None:
    differences = Setting(0.5, 1.0, 0.3, seeds=5, scenes=7).draw(np.random.default_rng(2), "normal")[0]
    cells = pd.DataFrame(
        [(i, j, value) for (i, j), value in np.ndenumerate(differences)], columns=["seed", "scene", "d"]
    )
    squares = anova_lm(ols("d ~ C(seed) + C(scene)", cells).fit())["mean_sq"]
    parts = over_seeds_and_scenes(differences, names(7)).parts
    assert [variance for variance, _ in parts] == pytest.approx([squares["C(seed)"] / 35, squares["C(scene)"] / 35])
    assert [degrees for _, degrees in parts] == [4, 6]


def test_p_values_and_intervals_say_the_same() -> None:
    uncertainty = Uncertainty(((0.01, 4), (0.04, 7)))
    for level in (0.4, 0.05, 1e-3, 1e-9):
        assert uncertainty.p(uncertainty.half_width(level)) == pytest.approx(level, rel=1e-6)
    assert uncertainty.p(0.0) == 1
    assert Uncertainty(((0.01, 4), (0.0, 7))).p(0.2) == pytest.approx(Uncertainty(((0.01, 4),)).p(0.2))
    assert math.isnan(Uncertainty(((0.0, 4), (0.0, 7))).p(0.1))


def test_two_seeds_have_a_p_value_however_small() -> None:
    """With one degree of freedom the quantile at the smallest level is near the largest number."""
    two_seeds = Uncertainty(((0.01, 1), (0.0001, 7)))
    assert two_seeds.p(0.5) == pytest.approx(2 * stats.t.sf(5, 1), rel=0.01)
    assert 0 < two_seeds.p(1e150) < 1e-140


def test_images_of_a_scene_count_as_one_and_weigh_by_their_number() -> None:
    """Repeated images change nothing, and neither does the order; scenes of more images weigh more in the mean."""
    random = np.random.default_rng(0)
    differences, scenes = random.normal(size=(5, 6)), tuple("aabbcc")
    whole = over_seeds_and_scenes(differences, scenes)
    repeated = over_seeds_and_scenes(np.repeat(differences, 3, axis=1), tuple("aaaaaabbbbbbcccccc"))
    assert np.array(repeated.parts) == pytest.approx(np.array(whole.parts))
    order = [4, 0, 2, 5, 1, 3]
    shuffled = over_seeds_and_scenes(differences[:, order], tuple(scenes[i] for i in order))
    assert np.array(shuffled.parts) == pytest.approx(np.array(whole.parts))
    totals = scene_totals(differences, tuple("aaaabc"))
    assert totals.sum() == pytest.approx(differences.mean(axis=0).sum())


def test_the_variance_over_scenes_is_that_of_the_jackknife_of_scipy() -> None:
    """Leaving out one scene at a time; for scenes of one size that is the variance of the mean of their means."""
    random = np.random.default_rng(0)
    scenes = np.array(list("aaaabbcccd"))
    differences = random.normal(size=(5, 10))
    without = [differences[:, scenes != scene].mean() for scene in "abcd"]
    jackknife = 3 / 4 * np.sum((np.array(without) - np.mean(without)) ** 2)
    assert over_seeds_and_scenes(differences, tuple(scenes)).parts[1][0] == pytest.approx(jackknife)
    alike = differences[:, :6].reshape(5, 3, 2).mean(axis=(0, 2))
    variance, degrees = over_seeds_and_scenes(differences[:, :6], tuple("aabbcc")).parts[1]
    assert (variance, degrees) == (pytest.approx(alike.var(ddof=1) / 3), 2)


def test_scenes_of_many_images_leave_fewer_effective_ones() -> None:
    assert effective_scenes(tuple("aabbcc")) == 3
    assert effective_scenes(tuple("aaaabbcdd")) == pytest.approx(81 / (16 + 4 + 1 + 4))
    assert effective_scenes(()) == 0


@pytest.mark.parametrize("images", UNEQUAL)
def test_the_interval_covers_the_truth_where_scenes_differ_in_size(images: tuple[int, ...]) -> None:
    setting = Setting(*SETTINGS["scenes"], scenes=len(images), images=images)
    assert effective_scenes(setting.names) >= 6
    assert coverage(setting, "normal", 1500) >= 0.93
    assert false_alarms(setting, "normal", 8, 400) <= 0.05 + 2.5 * math.sqrt(0.05 * 0.95 / 400)


@pytest.mark.parametrize("sds", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("scenes", [6, 8])
def test_the_interval_covers_the_truth_whatever_dominates(sds: tuple[float, float, float], scenes: int) -> None:
    """At least 93% with normal scene effects; with skewed ones, no less than docs/statistics.md says."""
    setting = Setting(*sds, scenes=scenes)
    assert coverage(setting, "normal", 1500) >= 0.93
    assert coverage(setting, "skewed", 1500) >= 0.88


@pytest.mark.slow
@pytest.mark.parametrize("sds", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("scenes", [6, 30])
def test_a_family_of_true_nulls_rarely_has_a_verdict(sds: tuple[float, float, float], scenes: int) -> None:
    """In at most 5% of whole families; 2.5 standard errors of the simulation are allowed for."""
    assert false_alarms(Setting(*sds, scenes=scenes), "normal", 44, 400) <= 0.05 + 2.5 * math.sqrt(0.05 * 0.95 / 400)


@pytest.mark.slow
@pytest.mark.parametrize("scope", SCOPES)
def test_a_report_without_any_difference_rarely_says_better_or_worse(scope: str) -> None:
    """Whole tables of `significance`, 8 rows of true mean 0: at most 5% have a verdict, and 3 standard errors."""
    images, random, samples = [f"{scene}" for scene in range(6)], np.random.default_rng(8), 120
    # For other seeds alone, these scenes are all there is: nothing differs between them.
    setting = Setting(1.0, 0.3 if scope == "scenes" else 0.0, 0.1, scenes=6)
    alarms = 0
    for _ in range(samples):
        drawn = [np.zeros((5, 6)), *setting.draw(random, "normal", tests=8)]
        cells = [
            ("net", "photos", "psnr_y", f"row{i}", "x", seed, image, 27 + values[seed, j])
            for i, values in enumerate(drawn)
            for seed in range(5)
            for j, image in enumerate(images)
        ]
        columns = ["backbone", "dataset", "metric", "baseline", "variant", "seed", "image", "value"]
        comparison = Comparison("claim", tuple(f"row{i}/x" for i in range(1, 9)), "row0/x")
        table = table_of(pd.DataFrame(cells, columns=columns), comparisons=[comparison], scenes={"photos": {}})
        assert (table[f"tests_{scope}"] == 8).all()
        alarms += bool(table[f"verdict_{scope}"].isin(["better", "worse"]).any())
    assert alarms / samples <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / samples)


def test_satterthwaite_would_err_too_often_where_holm_is_strict() -> None:
    """Why the interval is not the usual one: with seeds and 30 scenes alike it rejects too often at 5% / 44."""
    setting, random = Setting(1.0, 1.0, 0.3, scenes=30), np.random.default_rng(0)
    drawn = [setting.draw(random, "normal")[0] for _ in range(6000)]
    level = 0.05 / 44
    usual = np.mean([satterthwaite_p(d) < level for d in drawn])
    ours = np.mean([over_seeds_and_scenes(d, names(30)).p(d.mean()) < level for d in drawn])
    assert usual > 2 * level
    assert ours < 2 * level


def test_effects_to_simulate_are_of_mean_0_and_variance_1() -> None:
    for draw in EFFECTS.values():
        values = draw(np.random.default_rng(0), (100_000,))
        assert [values.mean(), values.std()] == pytest.approx([0, 1], abs=0.02)


def test_sign_flips_are_those_of_scipy_and_bounded_below() -> None:
    effects = np.random.default_rng(1).normal(0.4, 1, size=9)
    expected = stats.permutation_test((effects,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert sign_flip_p(effects) == pytest.approx(expected.pvalue)
    assert sign_flip_p(np.arange(1.0, 9.0)) == 2 / 2**8
    assert all(math.isnan(sign_flip_p(values)) for values in (np.ones(1), np.zeros(8)))


def test_signs_of_many_scenes_are_drawn_and_their_p_keeps_its_level() -> None:
    assert sign_flip_p(np.ones(17)) == pytest.approx(1 / DRAWN_SIGNS, abs=5 / DRAWN_SIGNS)
    effects = np.random.default_rng(1).normal(0.2, 1, size=30)
    expected = stats.permutation_test((effects,), np.mean, permutation_type="samples", n_resamples=20_000, rng=1)
    assert sign_flip_p(effects) == pytest.approx(expected.pvalue, abs=0.02)
    random = np.random.default_rng(2)
    found = [sign_flip_p(random.normal(size=20)) < 0.05 for _ in range(400)]
    assert np.mean(found) == pytest.approx(0.05, abs=0.03)


def test_sign_flips_of_scenes_of_many_and_few_images_keep_their_level() -> None:
    """Scene totals flip by themselves: one large scene does not lend its sign to the others."""
    images, random = (20, 1, 1, 1, 1, 1, 1, 1), np.random.default_rng(3)
    setting = Setting(*SETTINGS["scenes"], scenes=len(images), images=images)
    drawn = [setting.draw(random, "normal")[0] for _ in range(400)]
    assert np.mean([sign_flip_p(scene_totals(d, setting.names)) < 0.05 for d in drawn]) <= 0.05 + 0.03


# Pairing


def test_pairs_by_seed_not_by_order() -> None:
    scores = two_rows(np.random.default_rng(0))
    assert compared(scores.sample(frac=1, random_state=1)) == pytest.approx(compared(scores), nan_ok=True)


@pytest.mark.parametrize(("value", "said"), [(math.nan, "missing"), (None, "missing"), (math.inf, "infinite")])
def test_a_seed_without_a_finite_value_for_every_image_is_not_paired_and_named(value: float | None, said: str) -> None:
    """The value is missing or infinite, or the image is not there."""
    scores = two_rows(np.random.default_rng(0))
    mask = (row_names(scores) == "lora/r8") & (scores["seed"] == 2) & (scores["image"] == "b-0")
    whole = compared(scores[scores["seed"] != 2])
    scores.loc[mask, "value"] = value if value is not None else 0
    line = compared(scores if value is not None else scores[~mask])
    assert (line["seeds"], line["seeds_left_out"], line["left_out"]) == (4, 1, f"{said} value: seed 2")
    assert line["p_seeds"] == whole["p_seeds"]


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
    line = compare(seed_tables(scores), "lora/r8", "unadapted", SCENES, measure=Measure("psnr_y"))
    means = scores[row_names(scores) == "lora/r8"].groupby("seed")["value"].mean() - fixed.mean()
    assert line["p_seeds"] == pytest.approx(stats.ttest_1samp(means, 0).pvalue)
    assert math.isnan(float(str(line["correlation"])))


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
    assert line["difference"] == pytest.approx(gain)
    assert line["sd"] == 0
    assert line[["low_seeds", "p_seeds", "p_holm_seeds", "sign_flip_p", "d_z", "g_z"]].isna().all()
    assert (line["better"], line["verdict_seeds"]) == (better, f"the same {words} in every seed: no test")
    assert line["verdict_scenes"] == line["verdict_seeds"]


@pytest.mark.parametrize(("seeds", "words"), [(0, "nothing to compare"), (1, "one pair of seeds: no test")])
def test_fewer_than_two_seeds_have_no_test(seeds: int, words: str) -> None:
    scores = two_rows(np.random.default_rng(0))
    kept = (row_names(scores) == "lora/r8") | (scores["seed"] <= seeds)
    line = table_of(scores[kept], seeds=range(1, 6)).iloc[0]
    assert (line["seeds"], line["seeds_left_out"], line["verdict_seeds"]) == (seeds, 5 - seeds, words)
    assert line[["sd", "low_seeds", "high_seeds", "p_seeds", "p_holm_seeds", "p_scenes"]].isna().all()


# The whole table


def test_holm_corrects_a_whole_comparison_once_for_the_primary_and_once_for_the_other_metrics() -> None:
    random = np.random.default_rng(5)
    seeds = range(1, 6)
    frames = []
    for backbone, metric in product(("net", "other"), ("psnr_y", "ssim_y", "lpips")):
        base = random.normal(size=(5, 4))
        for i, row in enumerate(("lora/r8", "arc/a", "arc/b", "arc/c")):
            values = base + 0.03 * i + 0.05 * random.normal(size=base.shape)
            frames.append(lines(row, seeds, values, backbone=backbone, metric=metric))
    table = table_of(
        pd.concat(frames),
        comparisons=[
            Comparison("all", ("arc/a", "arc/b", "arc/c"), "lora/r8"),
            Comparison("one", ("arc/a",), "lora/r8"),
        ],
        backbones=["net", "other"],
        measures=[Measure("psnr_y", margin=0.05), Measure("ssim_y", margin=0.05), Measure("lpips", True, 0.05)],
    )
    sizes = table.groupby(["comparison", "family"])["tests_seeds"].first().to_dict()
    assert sizes == {
        ("all", "primary"): 6,
        ("all", "exploratory"): 12,
        ("one", "primary"): 2,
        ("one", "exploratory"): 4,
    }
    for _, family in table.groupby(["comparison", "family"]):
        for test in ("p", "p_equivalent", "p_not_inferior"):
            expected = multipletests(family[f"{test}_seeds"], method="holm")[1].tolist()
            assert list(family[f"{test}_holm_seeds"]) == pytest.approx(expected)


def test_a_metric_that_was_not_measured_counts_as_tests_of_its_family() -> None:
    """Equivalence is asked only in metrics with a margin."""
    scores = pd.concat([two_rows(np.random.default_rng(0)).assign(metric=name) for name in ("ssim_y", "psnr_c")])
    measures = [Measure("psnr_y"), Measure("ssim_y"), Measure("psnr_c", margin=1.0), Measure("lpips"), Measure("dists")]
    table = table_of(scores, measures=measures).set_index("metric")
    assert table["tests_seeds"].tolist() == [1, 4, 4, 4, 4]
    assert table.loc["ssim_y", "p_holm_seeds"] == pytest.approx(min(1, 4 * table.loc["ssim_y", "p_seeds"]))
    assert table["p_holm_seeds"].isna().tolist() == [True, False, False, True, True]
    assert table.loc["psnr_c", "p_equivalent_holm_seeds"] == table.loc["psnr_c", "p_equivalent_seeds"]
    assert table["p_equivalent_holm_seeds"].notna().sum() == 1


def test_rows_that_a_backbone_does_not_run_are_in_no_family() -> None:
    scores = two_rows(np.random.default_rng(0))
    table = table_of(scores, backbones=["net", "other"], runs=lambda backbone, row: backbone == "net")
    assert list(table["backbone"]) == ["net"]


def test_a_backbone_without_scores_has_lines_that_say_so() -> None:
    """Without comparisons there are no lines, and their columns all the same."""
    scores = two_rows(np.random.default_rng(0))
    line = table_of(scores, backbones=["net", "absent"], seeds=[1, 2, 3, 4, 5]).iloc[1]
    assert (line["verdict_seeds"], line["left_out"]) == ("nothing to compare", "not scored: seeds 1, 2, 3, 4, 5")
    table = table_of(scores, comparisons=[])
    assert list(table.columns) == COLUMNS
    assert table.empty


def test_seeds_that_did_not_diverge_are_no_sample_of_all() -> None:
    """Nothing is tested, and the family keeps its size."""
    scores = two_rows(np.random.default_rng(0), gain=1.0)
    table = table_of(scores, seeds=[1, 2, 3, 4, 5], diverged=lambda backbone, row: {2, 4} if row == "lora/r8" else ())
    line = table.iloc[0]
    assert (line["seeds"], line["left_out"]) == (3, "diverged: seeds 2, 4")
    assert {line["verdict_seeds"], line["verdict_scenes"]} == {"no test: 2 of 5 seeds diverged"}
    assert line[["p_seeds", "low_seeds", "sign_flip_p"]].isna().all()
    assert line["difference"] == pytest.approx(1.0, abs=0.3)
    assert line["tests_seeds"] == 1


def test_nothing_is_said_of_scenes_that_are_not_known() -> None:
    line = table_of(two_rows(np.random.default_rng(0)), scenes={}).iloc[0]
    assert (line["images"], line["scenes"]) == (4, 0)
    assert line["verdict_scenes"] == "no statement: the scenes of these images are not known"
    assert math.isnan(line["sign_flip_p"])


def test_nothing_is_said_of_scenes_that_weigh_as_too_few() -> None:
    images = [
        f"{scene}-{i}" for scene, count in zip("abcdefgh", (10, 5, 3, 2, 1, 1, 1, 1), strict=True) for i in range(count)
    ]
    random = np.random.default_rng(0)
    cells = [
        ("net", "photos", "psnr_y", "lora", row, seed, image, 27 + random.normal())
        for row in ("r8", "r1")
        for seed in range(5)
        for image in images
    ]
    columns = ["backbone", "dataset", "metric", "baseline", "variant", "seed", "image", "value"]
    comparison = Comparison("claim", ("lora/r1",), "lora/r8")
    scenes = {"photos": {image: image[0] for image in images}}
    line = table_of(pd.DataFrame(cells, columns=columns), comparisons=[comparison], scenes=scenes).iloc[0]
    assert line["verdict_scenes"] == "no statement: 8 scenes, which weigh as 4.1 of one size, fewer than 6"
    assert not math.isnan(line["p_seeds"])


def verdicts(gain: float, spread: float, scenes: int, margin: float | None, lower_better: bool = False) -> list[str]:
    """The verdicts, for other seeds and for other scenes, on a difference of `gain` with so much spread of both."""
    images = [f"{scene}-0" for scene in range(scenes)]
    setting = Setting(spread / 2, spread, spread / 10, scenes=scenes)
    base = 27 + np.zeros((5, scenes))
    noise = setting.draw(np.random.default_rng(3), "normal")[0]
    frames = [
        pd.DataFrame(values, index=pd.RangeIndex(5), columns=images)
        for values in (base, base + gain + noise - noise.mean())
    ]
    line = significance(
        pd.concat(
            [
                frame.melt(ignore_index=False, var_name="image")
                .rename_axis("seed")
                .reset_index()
                .assign(baseline=name, variant="x", backbone="net", dataset="photos", metric="m")
                for name, frame in zip(("lora", "arc"), frames, strict=True)
            ]
        ),
        [Comparison("claim", ("arc/x",), "lora/x")],
        backbones=["net"],
        datasets=["photos"],
        measures=[Measure("m", lower_better, margin)],
        primary="m",
        scenes={"photos": {}},
    ).iloc[0]
    return [line[f"verdict_{scope}"] for scope in SCOPES]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((1.0, 0.1, 8, 0.05), ["better", "better"]),
        ((-1.0, 0.1, 8, 0.05), ["worse", "worse"]),
        ((-1.0, 0.1, 8, 0.05, True), ["better", "better"]),
        ((0.0, 0.01, 8, 0.05), ["equivalent", "equivalent"]),
        ((0.02, 0.005, 8, 0.05), ["equivalent", "equivalent"]),
        ((0.02, 0.005, 8, None), ["better", "better"]),
        ((0.0, 0.1, 8, 0.05), ["undecided", "undecided"]),
        ((0.15, 0.2, 8, 0.05), ["undecided", "undecided"]),
        ((1.0, 0.1, 5, 0.05), ["better", "no statement: 5 scenes, fewer than 6"]),
        ((1.0, 0.1, 1, 0.05), ["better", "no statement: 1 scene, fewer than 6"]),
    ],
)
def test_verdicts_claim_what_the_numbers_carry(arguments: tuple[float, float, int, float], expected: list[str]) -> None:
    """A difference within the margin is equivalent even where it is surely not 0; without a margin nothing is."""
    assert verdicts(*arguments) == expected


def test_scenes_may_leave_undecided_what_the_images_at_hand_show() -> None:
    images = {f"{scene}-0": str(scene) for scene in range(8)}
    effect = np.array([1.0, -0.9, 1.1, -0.8, 1.2, -0.7, 1.0, 0.2])
    values = np.tile(effect, (5, 1)) + 0.001 * np.arange(5)[:, None]
    uncertain = over_seeds_and_scenes(values, tuple(images.values()))
    assert over_seeds(values).p(values.mean()) < 1e-6
    assert uncertain.p(values.mean()) > 0.4
