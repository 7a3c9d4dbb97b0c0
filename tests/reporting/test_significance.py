"""The significance report: comparisons resolved from patterns, numbers in words that claim no more than the tests."""

from __future__ import annotations

import math
import re

import pandas as pd
import pytest
from scipy import stats

from adaptsr.errors import UserError
from adaptsr.reporting.headline import headline
from adaptsr.reporting.model import MISSING, correlation_text, number_text, signed
from adaptsr.reporting.results import Results, read_results
from adaptsr.reporting.sentences import INCOMPLETE
from adaptsr.reporting.significance import (
    build_report,
    compare_rows,
    comparisons_of,
    p_text,
    write_significance,
)
from adaptsr.runs.parts import Part, take_part
from tests.factories import baselines, matrix_of
from tests.reporting.made_up_benchmark import BACKBONES, NASTY, ROWS, Page, World, matches, row_of


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
        "for other seeds on these images 4 better (Holm's correction of 4 tests, for each scope and question)."
    )
    assert (
        "the exploratory family (Holm's correction of 12 tests, for each scope and question): SSIM-Y: "
        in first.sentences[2]
    )
    assert first.sentences[3].startswith("Paired means of PSNR-Y correlate over the seeds by ")
    number = r"[0-9.e-]+"
    assert re.fullmatch(
        "From the variances seen here, with 5 seeds and 6 scenes, half of the 4 tests for other seeds and other scenes would "
        rf"need a true difference above {number} dB \({number} to {number}\) to be found with 70 to 80% power at level 5%/4, or a "
        rf"margin above {number} dB to show equivalence where the true difference is 0 \(the margin is 0\.05 dB\)\. "
        r"Undecided is no evidence of equality\.",
        first.sentences[4],
    )
    assert "correction of 28 tests" in second.sentences[0]
    assert len(second.primary_lines) == 28


def test_rows_that_saw_other_data_are_named(world: World) -> None:
    world.change("edsr", "shira/paper", 2, config={"training": {"iterations": 500}})
    said = "Pairs of SHiRA did not see the same training data as Full fine-tuning: other iterations."
    assert said in written(world)[1]


def test_rows_that_saw_fewer_images_are_named(world: World) -> None:
    world.change("edsr", "shira/paper", 2, config={"training": {"images": 5}})
    assert "as Full fine-tuning: other images." in written(world)[1]


def test_rows_that_saw_other_data_on_each_backbone_are_named(world: World) -> None:
    """The same two batch sizes, the other way round."""
    for backbone, sizes in (("edsr", (8, 2)), ("drct", (2, 8))):
        for row, size in zip(("shira/paper", "full_finetuning/all"), sizes, strict=True):
            for seed in world.content["seeds"]:
                world.change(backbone, row, seed, config={"training": {"batch_size": size}})
    assert re.search(
        r"Pairs of [^.]*SHiRA did not see the same training data as Full fine-tuning: other batch\.", written(world)[1]
    )


def test_missing_metric_says_why_and_tests_nothing(world: World) -> None:
    world.scores.loc[world.lines(metric="lpips"), ["value", "reason"]] = [math.nan, "no weights of AlexNet"]
    table, html = written(world)
    lpips = table[table["metric"] == "lpips"]
    assert lpips["p_seeds"].isna().all()
    assert set(lpips["verdict_scenes"]) == {"nothing to compare"}
    assert "Nothing to compare: no weights of AlexNet" in html
    assert "LPIPS: not measured" in html
    assert "the exploratory family (Holm&#39;s correction of 12 tests, 4 of them not measured, for each scope" in html
    assert set(table.query("family == 'exploratory'")["tests_scenes"]) == {12, 84}


def test_a_family_says_how_many_tests_of_equivalence_it_has(world: World) -> None:
    """A margin is declared for one of the three other metrics."""
    world.content["report"]["margins"] = {"ssim_y": 0.01}
    assert (
        "exploratory family (Holm&#39;s correction of 12 tests, 4 for equivalence, for each scope" in written(world)[1]
    )


def test_a_declared_dataset_that_is_not_here_counts_in_the_family(world: World) -> None:
    """So that a machine with its images prints compatible verdicts."""
    world.content["datasets"]["others"] = world.content["datasets"]["photos"]
    world.content["data"]["test"].append({"dataset": "others", "split": "test", "optional": True})
    table, html = written(world)
    assert set(table.query("family == 'primary'")["tests_seeds"]) == {8, 56}
    assert "Holm&#39;s correction of 8 tests, 4 of them not measured" in html
    assert "on others" not in html


def test_equivalent_rows_that_are_shown_to_differ_say_so(world: World) -> None:
    world.content["report"]["margins"] = {"psnr_y": 0.5, "lpips": 0.5}
    page = Page(written(world)[1]).text
    assert "4 equivalent within ±0.5 dB (4 of them shown to be higher)" in page
    assert "equivalent, shown higher" in page
    assert "equivalent, shown lower" in page, "a lower LPIPS"


def test_intervals_and_sign_flips_say_what_they_suppose(world: World) -> None:
    page = " ".join(Page(written(world)[1]).text.split())
    assert "95% interval, one test, uncorrected" in page
    assert "for these 5 seeds and other scenes, uncorrected; it supposes independent scenes and symmetry." in page


def test_a_row_with_a_diverged_run_is_not_tested(world: World) -> None:
    world.change("edsr", "rank_aware/gradient", 2, status="diverged")
    table, html = written(world)
    lines = table.query("backbone == 'edsr' and row == 'rank_aware/gradient'")
    assert set(lines["seeds"]) == {4}
    assert set(lines["left_out"]) == {"diverged: seed 2"}
    assert set(lines["verdict_seeds"]) | set(lines["verdict_scenes"]) == {"no test: 1 of 5 seeds diverged"}
    assert "diverged: seed 2" in html
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
    """Signs are always shown, no p value is zero, and what is not 0 or 1 does not read as if it were."""
    assert [p_text(p) for p in (math.nan, 0.0004, 0.0625, 1.0)] == [MISSING, "< 0.001", "0.062", "1.000"]
    assert [p_text(p) for p in (0.04996, 0.05004, 0.05)] == ["0.04996", "0.05004", "0.050"]
    assert [signed(value, 2) for value in (0.1, -0.1, math.nan)] == ["+0.10", "-0.10", MISSING]
    assert [signed(value, 3) for value in (-0.00031, 0.00049, -4e-7, -1e-20, -0.0)] == [
        *("-0.0003", "+0.0005", "-0.0000004", "+0.000", "+0.000"),
    ]
    assert [number_text(value, 2) for value in (-0.001, -0.0, -1.0)] == ["0.00", "0.00", "-1.00"]
    shown = [correlation_text(value) for value in (0.968, 0.996, -0.99997, 1.0, -0.001, math.nan)]
    assert shown == ["0.97", "0.996", "-0.99997", "1.00", "0.00", MISSING]


# Parts


def part_of(world: World, part: Part) -> Results:
    """Read a part of the made-up benchmark, as `report` does."""
    rows: dict[str, list[str]] = {}
    for baseline, _, variant in (name.partition("/") for name in ROWS if "/" in name):
        rows.setdefault(baseline, []).append(variant)
    taken = take_part(matrix_of({**world.content, "baselines": baselines(rows)}), part)
    return read_results(taken.profile, taken.rows, matches, world.results, world.resources, selection=taken.selection)


VERDICT_COLUMNS = ["verdict_seeds", "verdict_scenes"]
NUMBERS = ["difference", "low_scenes", "high_scenes", "p_seeds", "p_scenes", "p_equivalent_scenes"]
PLACE = ["comparison", "backbone", "dataset", "metric", "row"]


def test_a_part_keeps_the_numbers_and_concludes_only_from_whole_families(world: World) -> None:
    """All of the first comparison is in this part, and two rows of the second."""
    world.write()
    whole = compare_rows(world.read()).set_index(PLACE)
    results = part_of(world, Part(rows="rank_aware/*,lora/r2,full_finetuning/all"))
    frame = compare_rows(results).set_index(PLACE)
    pd.testing.assert_frame_equal(frame[NUMBERS], whole.loc[frame.index, NUMBERS])
    first, second = (frame.loc[title] for title in dict.fromkeys(frame.index.get_level_values(0)))
    assert not first[VERDICT_COLUMNS].eq(INCOMPLETE).any().any()
    assert second[VERDICT_COLUMNS].eq(INCOMPLETE).all().all()
    assert first["p_holm_scenes"].notna().all()
    assert second[["p_holm_scenes", "p_not_inferior_holm_seeds", "detectable_scenes"]].isna().all().all()
    compared, other = build_report(results, frame.reset_index()).comparisons
    assert "4 better" in compared.sentences[0]
    assert other.sentences[0] == f"PSNR-Y, the primary family: {INCOMPLETE}."
    assert not any(word in sentence for sentence in other.sentences for word in ("better", "equivalent", "Holm"))
    said = headline(results, frame.reset_index())
    assert "better on 4 of 4" in said[0]
    assert said[-1].endswith(f"; {INCOMPLETE}.")


@pytest.mark.parametrize("part", [Part(seeds="1-4"), Part(backbones="edsr,drct"), Part(rows="rank_aware/*,shira/*")])
def test_fewer_seeds_backbones_or_rows_are_no_family(world: World, part: Part) -> None:
    world.write()
    results = part_of(world, part)
    frame = compare_rows(results)
    assert not frame[VERDICT_COLUMNS].isin(["better", "worse", "equivalent", "undecided"]).any().any()
    report = build_report(results, frame)
    assert report.conventions[0].startswith(f"A part of the matrix, {part.text}: ")
    assert [one.title for one in report.comparisons] == ["Rank-aware against uniform", "Against full fine-tuning"]


def test_a_comparison_without_rows_in_the_part_says_so(world: World) -> None:
    world.write()
    results = part_of(world, Part(rows="lora/r1"))
    report = build_report(results, compare_rows(results))
    assert report.comparisons[0].sentences == ("This comparison matches no row of this part.",)
    assert "nothing to compare" in headline(results, compare_rows(results))[0]


def test_a_partial_report_waits_for_the_runs_of_a_family(world: World) -> None:
    for backbone in BACKBONES:
        for row in (name for name in ROWS if "/" in name):
            for seed in (1, 2, 3, 4, 5):
                world.write_run_scores(backbone, row, seed)
    world.write()
    frame = compare_rows(world.read(partial=True))
    assert not frame[VERDICT_COLUMNS].eq(INCOMPLETE).any().any()
    world.change("edsr", "arc/svd50", 1, status="diverged", diverged_at=3, adaptation_sha256=None)
    world.write()
    assert not compare_rows(world.read(partial=True))[VERDICT_COLUMNS].eq(INCOMPLETE).any().any()
    (world.results / "edsr/arc/svd50/seed2/record.json").unlink()
    frame = compare_rows(world.read(partial=True))
    waiting = frame[VERDICT_COLUMNS].eq(INCOMPLETE).any(axis=1)
    assert set(frame.loc[waiting, "comparison"]) == {"Against full fine-tuning"}


def test_photographs_without_hr_take_part_where_no_hr_is_needed(world: World) -> None:
    """Their families hold no test in a metric that compares with HR, so that none counts as missing."""
    before = compare_rows(world.write().read())
    world.content["datasets"]["phone"] = {"kind": "unpaired", "lr": "phone"}
    world.content["data"]["test"].append({"dataset": "phone"})
    world.content["scoring"]["metrics"]["vif"] = {"name": "niqe", "title": "NIQE"}
    phone = world.scores.assign(dataset="phone")
    phone.loc[phone["metric"] != "vif", ["value", "reason"]] = [math.nan, "not measured, because there is no HR"]
    world.scores = pd.concat([world.scores, phone], ignore_index=True)
    results = world.write().read()
    frame = compare_rows(results)
    assert set(frame["metric"][frame["dataset"] == "phone"]) == {"vif"}
    primary = frame[frame["family"] == "primary"]
    columns = ["row", "difference", "p_holm_seeds", "verdict_seeds", "verdict_scenes"]
    kept = before[before["family"] == "primary"]
    pd.testing.assert_frame_equal(primary[columns].reset_index(drop=True), kept[columns].reset_index(drop=True))
    report = build_report(results, frame)
    assert all(len(one.primary_lines) == (kept["comparison"] == one.title).sum() for one in report.comparisons)
    said = " ".join(sentence for one in report.comparisons for sentence in one.sentences)
    assert "Of these on phone" not in said
    assert "photos, phone" not in " ".join(headline(results, frame))
