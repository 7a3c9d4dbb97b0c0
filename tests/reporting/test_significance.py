"""The significance report: comparisons resolved from patterns, numbers in words that claim no more than the tests."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from scipy import stats

from adaptsr.errors import UserError
from adaptsr.reporting.significance import (
    build_report,
    compare_rows,
    comparisons_of,
    p_text,
    signed,
    write_significance,
)
from tests.reporting.made_up_benchmark import BACKBONES, NASTY, Page, World, row_of


def written(world: World) -> tuple[pd.DataFrame, str]:
    results = world.write().read()
    html, table = write_significance(results, compare_rows(results), world.reports)
    return pd.read_csv(table), html.read_text(encoding="utf-8")


def test_patterns_become_rows_and_leave_the_reference_out(world: World) -> None:
    one, all_rows = comparisons_of(world.profile, world.rows)
    assert one.rows == ("rank_aware/gradient",)
    assert "full_finetuning/all" not in all_rows.rows
    assert "unadapted" not in all_rows.rows
    assert len(all_rows.rows) == 7


def test_the_csv_agrees_with_scipy_on_means_taken_from_the_scores(world: World) -> None:
    table, _ = written(world)
    assert len(table) == len(BACKBONES) * 4 * (1 + 7)
    scores = world.scores[world.lines(backbone="drct", metric="ssim_y")]
    means = scores.groupby(["baseline", "variant", "seed"])["value"].mean()
    expected = stats.ttest_rel(means["rank_aware", "gradient"], means["lora", "r2"])
    line = table.query("comparison.str.startswith('Rank') and backbone == 'drct' and metric == 'ssim_y'").iloc[0]
    assert line["p_seeds"] == pytest.approx(expected.pvalue, rel=1e-6)
    assert line["scenes"] == 6
    assert line["low_scenes"] < line["low_seeds"] < line["difference"] < line["high_seeds"] < line["high_scenes"]


def test_sentences_count_what_was_found_and_state_their_family(world: World) -> None:
    world.write()
    results = world.read()
    first, second = build_report(results, compare_rows(results)).comparisons
    assert first.sentences[0] == (
        "PSNR-Y, the primary family: for other seeds and other scenes 4 better; "
        "for other seeds on these images 4 better (Holm's correction of 4 tests)."
    )
    assert "the exploratory family (Holm's correction of 12 tests): SSIM-Y: " in first.sentences[2]
    assert first.sentences[3].startswith("Paired means correlate over the seeds by ")
    assert first.sentences[4].startswith(
        "With 5 seeds and 6 scenes, a median test for other seeds and other scenes finds"
    )
    assert first.sentences[4].endswith("(the margin is 0.05 dB). Undecided is no evidence of equality.")
    assert "correction of 28 tests" in second.sentences[0]
    assert len(second.primary_lines) == 28


def test_rows_that_saw_other_data_are_named(world: World) -> None:
    world.change("edsr", "shira/paper", 2, config={"training": {"iterations": 500}})
    assert "Pairs of SHiRA did not see the same training data as Full fine-tuning" in written(world)[1]


def test_missing_metric_says_why_and_tests_nothing(world: World) -> None:
    world.scores.loc[world.lines(metric="lpips"), ["value", "reason"]] = [math.nan, "no weights of AlexNet"]
    table, html = written(world)
    lpips = table[table["metric"] == "lpips"]
    assert lpips["p_seeds"].isna().all()
    assert set(lpips["verdict_scenes"]) == {"nothing to compare"}
    assert "Nothing to compare: no weights of AlexNet" in html
    assert "LPIPS: no statement for other seeds and other scenes; no statement for other seeds on these images" in html


def test_diverged_runs_are_left_out_and_named(world: World) -> None:
    world.change("edsr", "rank_aware/gradient", 2, status="diverged")
    table, html = written(world)
    lines = table.query("backbone == 'edsr' and row == 'rank_aware/gradient'")
    assert set(lines["seeds"]) == {4}
    assert set(lines["left_out"]) == {"not scored: seed 2"}
    assert "not scored: seed 2" in html
    assert (table.query("backbone == 'drct'")["seeds"] == 5).all()


def test_html_is_well_formed_and_escaped(world: World) -> None:
    position = next(i for i, row in enumerate(world.rows) if row.name == "shira/paper")
    world.rows[position] = row_of("shira/paper", NASTY)
    _, html = written(world)
    page = Page(html)
    assert NASTY in page.text
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.scopeless == []
    assert {width for _, _, *body in page.widths for width in body} == {15}
    names = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(names) == len(set(names))


def test_comparisons_without_rows_say_so(world: World) -> None:
    world.content["report"]["comparisons"][0]["rows"] = ["rasa/*"]
    assert "This comparison matches no row of this profile." in written(world)[1]
    world.content["report"]["comparisons"] = []
    table, html = written(world)
    assert table.empty
    assert "names no comparisons" in html


def test_mistakes_are_one_line(world: World) -> None:
    world.content["report"]["comparisons"][0]["compared_with"] = "lora/r22"
    with pytest.raises(UserError, match=r"no row 'lora/r22' \(did you mean 'lora/r2'\?\)"):
        comparisons_of(world.profile, world.rows)
    world.content["report"]["comparisons"][0] = world.content["report"]["comparisons"][1]
    with pytest.raises(UserError, match="two comparisons have this title"):
        comparisons_of(world.profile, world.rows)


def test_numbers_in_text() -> None:
    """Signs are always shown, and no p value is zero."""
    assert [p_text(p) for p in (math.nan, 0.0004, 0.0625, 1.0)] == ["-", "< 0.001", "0.062", "1.000"]
    assert [signed(value, 2) for value in (0.1, -0.1, math.nan)] == ["+0.10", "-0.10", "-"]
