"""The paper's tables, measured: what stands where, what is marked, and what is said about every hole."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from adaptsr.errors import UserError
from adaptsr.reporting.model import MISSING, Block, Cell, Line, Parameters, TableModel
from adaptsr.reporting.published import PublishedRow
from adaptsr.reporting.significance import compare_rows
from adaptsr.reporting.tables import arrange, build_table, mark_best, write_table
from tests.reporting.made_up_benchmark import NASTY, SEEDS, Page, World, row_of


def table_of(world: World, name: str = "table2") -> TableModel:
    world.write()
    return build_table(world.read(), name)


def block_of(table: TableModel, backbone: str) -> Block:
    return next(block for block in table.blocks if block.backbone == backbone)


def line_of(table: TableModel, backbone: str, row: str) -> Line:
    return next(line for line in block_of(table, backbone).lines if row in (line.name, line.title))


def titles(table: TableModel, backbone: str) -> list[str]:
    return [line.title for line in block_of(table, backbone).lines]


def notes_of(table: TableModel, line: Line) -> set[str]:
    numbers = {note for cell in line.cells for note in cell.notes} | set(line.notes)
    return {table.notes[number - 1] for number in numbers}


# Numbers


def test_numbers_are_those_of_a_few_lines_of_pandas(world: World) -> None:
    world.write()
    write_table(table_of(world), world.reports)
    written = pd.read_csv(world.reports / "table2.csv").set_index(["backbone", "row"])
    scores = world.scores.assign(row=(world.scores["baseline"] + "/" + world.scores["variant"]).str.rstrip("/"))
    by_seed = scores.groupby(["backbone", "row", "metric", "seed"], dropna=False)["value"].mean()
    for (backbone, row, metric), values in by_seed.groupby(level=[0, 1, 2]):
        if (backbone, row) in written.index:
            line = written.loc[(backbone, row)]
            assert line[f"{metric}_mean"] == pytest.approx(values.mean(), rel=1e-7)
            assert line[f"{metric}_seeds"] == len(values)
            assert line[f"{metric}_sd"] == pytest.approx(values.std(), rel=1e-7, nan_ok=True)


def test_parameters_come_from_the_records(world: World) -> None:
    world.change("swinir", "lora/r8", 3, trainable_parameters=1_520)
    table = table_of(world)
    assert line_of(table, "swinir", "full_finetuning/all").parameters.text == "20,000"
    assert line_of(table, "swinir", "full_finetuning/all").parameters.percent_text == "100.0%"
    assert line_of(table, "swinir", "lora/r8").parameters.text == "1,500 to 1,520"
    assert line_of(table, "swinir", "unadapted").parameters.text == "0"
    assert block_of(table, "swinir").details.startswith("20,000 parameters; 12 test images of 6 scenes")


def test_seeds_stand_below_their_row_where_the_profile_asks_for_it(world: World) -> None:
    world.content["report"]["tables"]["table2"]["per_seed"] = True
    world.change("swinir", "lora/r8", 3, trainable_parameters=1_520)
    table = table_of(world)
    own = line_of(table, "swinir", "lora/r8")
    at = titles(table, "swinir").index(own.title)
    below = block_of(table, "swinir").lines[at + 1 : at + 1 + len(SEEDS)]
    assert [line.title for line in below] == [f"{own.title}, seed {seed}" for seed in SEEDS]
    assert [line.cells[0].mean for line in below] == [own.cells[0].seeds[seed] for seed in SEEDS]
    assert [line.parameters.text for line in below] == ["1,520" if seed == 3 else "1,500" for seed in SEEDS]
    assert {cell.mark + cell.sd_text for line in below for cell in line.cells} == {""}
    assert titles(table, "swinir").count("Unadapted, seed 1") == 0


# Rows and their order


def test_rows_stand_in_the_profiles_order_and_unnamed_ones_join_every_table(world: World) -> None:
    world.rows.append(row_of("mine/a", "My method"))
    assert titles(table_of(world), "edsr") == [
        "Unadapted", "Full fine-tuning", "LoRA, r = 1", "LoRA, r = 2", "LoRA, r = 8", "Rank-aware LoRA", "SHiRA", "My method",
    ]  # fmt: skip
    assert titles(table_of(world, "table3"), "edsr")[-2:] == ["SHiRA", "My method"]


def test_published_rows_that_are_not_run_stand_where_the_paper_has_them(world: World) -> None:
    table = table_of(world)
    assert titles(table, "swinir")[2:9] == [
        "LoRA, r = 1", "LoRA, r = 2", "r = 4", "LoRA, r = 8", "r = 16", "r = 64", "Rank-aware LoRA",
    ]  # fmt: skip
    absent = line_of(table, "swinir", "r = 16")
    assert notes_of(table, absent) == {"Published row that is not in this profile."}
    assert [cell.mean_text for cell in absent.cells] == [MISSING] * 4
    assert absent.cells[0].published == "28.3575"
    assert absent.published_parameters == "+1.7M (15.5%)"
    assert "r = 16" not in titles(table, "drct")


def test_published_rows_around_rows_of_our_own() -> None:
    def paper(label: str, *rows: str) -> PublishedRow:
        return PublishedRow(label, rows, "swinir", "realsr", "", {})

    ours = [row_of(name, name) for name in ("lora/a", "lora/b", "lora/c")]
    published = [paper("first"), paper("A", "lora/a"), paper("between"), paper("C", "lora/c"), paper("last")]
    order = [getattr(entry, "label", getattr(entry, "title", "")) for entry in arrange(ours, published)]
    assert order == ["first", "lora/a", "lora/b", "between", "lora/c", "last"]
    assert [entry.label for entry in arrange([], published) if isinstance(entry, PublishedRow)] == [
        "first", "A", "between", "C", "last",
    ]  # fmt: skip


def test_published_numbers_keep_their_digits_and_stand_beside_their_backbone_alone(world: World) -> None:
    """And, of alternatives, beside the first that is run."""
    table = table_of(world)
    line = line_of(table, "swinir", "rank_aware/gradient")
    assert [cell.published for cell in line.cells] == ["28.4685", "0.7985", "0.2680", "-"]
    assert {cell.published for cell in line_of(table, "edsr", "rank_aware/gradient").cells} == {"-"}
    assert [head.published for head in table.columns] == [True, True, True, False]
    assert line_of(table_of(world, "table3"), "swinir", "difffit/published").cells[0].published == "28.27"
    world.rows.append(row_of("difffit/gamma", "DiffFit, gamma"))
    table = table_of(world, "table3")
    assert line_of(table, "swinir", "difffit/gamma").cells[0].published == "28.27"
    assert line_of(table, "swinir", "difffit/published").cells[0].published == "-"


def test_published_numbers_stand_beside_the_dataset_they_are_for(world: World) -> None:
    world.content["datasets"]["realsr"] = world.content["datasets"]["photos"]
    world.content["data"]["test"].append({"dataset": "realsr"})
    world.content["report"]["tables"]["table2"]["published_datasets"] = {"realsr": "realsr"}
    table = table_of(world)
    beside = {(block.dataset, block.published_dataset) for block in table.blocks if block.backbone == "swinir"}
    assert beside == {("photos", ""), ("realsr", "RealSR")}
    [plain] = [block for block in table.blocks if (block.backbone, block.dataset) == ("swinir", "photos")]
    assert not plain.published
    world.content["report"]["tables"]["table2"]["published_datasets"] = {"realsr": "realsrr"}
    with pytest.raises(
        UserError, match=r"published_datasets.realsr: table2.csv has no dataset 'realsrr' \(did you mean"
    ):
        table_of(world)


# Marks


@pytest.mark.parametrize(
    ("column", "cells", "marks"),
    [
        (
            "psnr_y",
            [("unadapted", 30.0, 2), ("a/1", 28.1004, 2), ("b/1", 28.0996, 2), ("c/1", 27.0, 2), ("d/1", 27.0001, 2),
             ("e/1", 29.0, 1), ("f/1", math.nan, 0)],
            ["", "best", "best", "second", "second", "", ""],
        ),
        ("lpips", [("a/1", 0.3, 2), ("b/1", 0.2, 2)], ["second", "best"]),
    ],
)  # fmt: skip
def test_best_and_second_by_the_digits_shown_with_ties(
    world: World, column: str, cells: list[tuple[str, float, int]], marks: list[str]
) -> None:
    """Less is better where the metric says so."""
    metric = next(head.metric for head in table_of(world).columns if head.metric.name == column)
    assert metric.arrow == ("↓" if column == "lpips" else "↑")
    lines = [
        Line(name, name, "", (), Parameters(), "", "-", (Cell(dict.fromkeys(range(seeds), mean), 2, 3, "-"),))
        for name, mean, seeds in cells
    ]
    assert [line.cells[0].mark for line in mark_best(lines, [metric])] == marks


# Holes


@pytest.mark.parametrize("scored", [False, True])
def test_a_diverged_run_is_a_visible_hole_and_takes_part_in_no_mark(world: World, scored: bool) -> None:
    """Also where it has scores: they do not count."""
    world.change("edsr", "shira/paper", 2, status="diverged")
    if not scored:
        world.without(backbone="edsr", baseline="shira", seed=2)
    table = table_of(world)
    line = line_of(table, "edsr", "shira/paper")
    assert notes_of(table, line) == {"1 of 5 seeds: diverged in training (seed 2)."}
    assert line.notes
    assert not any(cell.notes for cell in line.cells)
    assert [sorted(cell.seeds) for cell in line.cells] == [[1, 3, 4, 5]] * 4
    assert {cell.mark for cell in line.cells} == {""}
    assert {cell.mark for cell in line_of(table, "swinir", "shira/paper").cells} == {"best"}


def test_a_row_whose_objective_left_a_loss_out_says_so(world: World) -> None:
    world.change("edsr", "lora/r1", 2, left_out={"perceptual": "no weights of VGG19"})
    table = table_of(world)
    line = line_of(table, "edsr", "lora/r1")
    assert line.title == "LoRA, r = 1 (without perceptual)"
    assert "Trained without perceptual: no weights of VGG19." in notes_of(table, line)
    assert line_of(table, "swinir", "lora/r1").title == "LoRA, r = 1"


def test_a_metric_without_weights_is_a_dash_with_its_reason_once(world: World) -> None:
    lpips = world.lines(metric="lpips")
    world.scores.loc[lpips, ["value", "reason"]] = [math.nan, "no weights of AlexNet"]
    table = table_of(world)
    assert [note for note in table.notes if "AlexNet" in note] == ["LPIPS is missing: no weights of AlexNet."]
    cell = line_of(table, "edsr", "lora/r1").cells[2]
    assert (cell.mean_text, cell.mark) == (MISSING, "")
    assert cell.notes


R1: dict[str, Any] = {"backbone": "edsr", "baseline": "lora", "variant": "r1"}


def without_an_image(world: World) -> None:
    one = world.lines(**R1, seed=4, metric="psnr_y", image="cat-0")
    world.scores.loc[one, ["value", "reason"]] = [math.nan, "image too small"]


def without_runs(world: World) -> None:
    world.without(**R1)
    for seed in SEEDS:
        del world.records["edsr", "lora/r1", seed]


@pytest.mark.parametrize(
    ("change", "seeds", "note"),
    [
        (
            without_an_image,
            [[1, 2, 3, 5], SEEDS, SEEDS, SEEDS],
            "1 of 5 seeds: PSNR-Y is missing: image too small (seed 4).",
        ),
        (without_runs, [[], [], [], []], "5 of 5 seeds: not run or not finished."),
        (lambda world: world.without(**R1, metric="vif"), [SEEDS, SEEDS, SEEDS, []], "VIF is not scored."),
    ],
)
def test_what_is_missing_is_left_out_and_said(
    world: World, change: Callable[[World], None], seeds: list[list[int]], note: str
) -> None:
    change(world)
    table = table_of(world)
    line = line_of(table, "edsr", "lora/r1")
    assert [sorted(cell.seeds) for cell in line.cells] == seeds
    assert notes_of(table, line) == {note}
    assert [cell.mean_text == MISSING for cell in line.cells] == [not of for of in seeds]
    assert (line.parameters.text == MISSING) == (not any(seeds))


def test_infinite_psnr_is_shown_as_it_is(world: World) -> None:
    world.scores.loc[world.lines(**R1, metric="psnr_y"), "value"] = math.inf
    cell = line_of(table_of(world), "edsr", "lora/r1").cells[0]
    assert (cell.mean_text, cell.sd_text) == ("∞", "")


def test_one_seed_has_no_standard_deviation(world: World) -> None:
    world.content["seeds"] = [3]
    table = table_of(world)
    cell = line_of(table, "edsr", "lora/r1").cells[0]
    assert (list(cell.seeds), cell.sd_text, cell.partial) == ([3], "", False)
    assert "for the one seed 3" in table.conventions[0]


def test_extensions_carry_a_dagger_with_their_text(world: World) -> None:
    table = table_of(world, "table3")
    assert line_of(table, "edsr", "arc/svd50").dagger == "†"
    assert line_of(table, "swinir", "arc/svd50").dagger == ""
    assert table.daggers == (("†", "In front of dense convolutions, our extension."),)


def test_what_a_plan_notes_is_a_footnote_of_its_row(world: World) -> None:
    note = "no U is shared on this backbone: each of its 4 sites is alone in its group"
    for seed in SEEDS:
        world.change("swinir", "arc/svd50", seed, plan_notes=[note])
    world.write()
    table = table_of(world, "table3")
    [number] = line_of(table, "swinir", "arc/svd50").notes
    assert table.notes[number - 1] == f"N{note[1:]}."
    assert line_of(table, "edsr", "arc/svd50").notes == ()


# Words


def test_conventions_say_what_the_numbers_mean(world: World) -> None:
    words = " ".join(table_of(world).conventions)
    for phrase in (
        "over 5 seeds (1, 2, 3, 4, 5)",
        "PSNR-Y and SSIM-Y: on the Y channel of YCbCr (BT.601, studio swing)",
        "rounded to 8 bit",
        "crop border is 0 pixels",
        "), computed in a faster order of ours, 1.7e-10 apart, higher is better",
        "LPIPS is the learned perceptual image patch similarity, pyiqa's lpips (net=alex, version=0.1), lower is better",
        "Toy numbers.",
    ):
        assert phrase in words


def test_every_format_says_that_the_numbers_are_not_comparable_unless_they_are(world: World) -> None:
    world.write()
    for comparable in (False, True):
        world.content["report"]["comparable_with_paper"] = comparable
        paths = write_table(table_of(world), world.reports)
        for path in paths:
            phrase = "not comparable with the published numbers" if path.suffix != ".csv" else ",False\n"
            assert (phrase in path.read_text(encoding="utf-8")) != comparable


# Files


def nasty(world: World, suffix: str) -> str:
    """A written table with a title that means something in every format."""
    world.rows[4] = row_of(world.rows[4].name, NASTY)
    write_table(table_of(world), world.reports)
    return (world.reports / "table2").with_suffix(suffix).read_text(encoding="utf-8")


def test_html_is_well_formed_self_contained_and_escaped(world: World) -> None:
    text = nasty(world, ".html")
    page = Page(text)
    assert NASTY in page.text
    assert "script" not in {tag for tag, _ in page.tags}
    assert not re.search(r"(src|href)=\"(?!#)", text)
    assert "url(" not in text
    assert [tag for tag, _ in page.tags].count("caption") == len(page.widths) == 4
    assert page.scopeless == []
    for widths in page.widths:
        header, subheader, *body = widths
        assert set(body) == {header}
        assert subheader == header - 1
    targets = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    links = {str(attributes["href"])[1:] for tag, attributes in page.tags if tag == "a"}
    assert links <= targets


def test_markdown_tables_are_rectangular_and_escaped(world: World) -> None:
    text = nasty(world, ".md")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    widths = {len(re.findall(r"(?<!\\)\|", row)) for row in rows}
    assert widths == {7, 11}, "with published columns only where something is published"
    assert "<script>" not in text
    assert r"a\_b" in text


def test_latex_tables_are_rectangular_balanced_and_escaped(world: World) -> None:
    text = nasty(world, ".tex")
    for environment in ("table", "tabular"):
        assert text.count(rf"\begin{{{environment}}}") == text.count(rf"\end{{{environment}}}") == 4
    bare = re.sub(r"\\[\\{}%&$#_]", "", text)
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    for columns, tabular in re.findall(r"\\begin\{tabular\}\{(\w+)\}(.*?)\\end\{tabular\}", text, re.DOTALL):
        for row in re.findall(r"^(.*) \\\\$", tabular, re.MULTILINE):
            assert len(re.findall(r"(?<!\\)&", row)) == len(columns) - 1
    assert r"50\% of a\_b \& c \textbar{} d * \textbackslash{}e \{f\} \$g\$ \# \textasciigrave{}h" in text
    assert not set(text) - set(map(chr, range(128)))


def test_csv_has_one_line_per_block_and_row(world: World) -> None:
    lines = list(csv.DictReader(io.StringIO(nasty(world, ".csv"))))
    assert len(lines) == sum(len(block.lines) for block in table_of(world).blocks)
    absent = next(line for line in lines if line["title"] == "r = 16")
    assert (absent["psnr_y_mean"], absent["psnr_y_published"]) == ("", "28.3575")
    assert absent["notes"] == "Published row that is not in this profile."


def test_table_1_has_blocks_for_methods_that_are_none_of_ours(world: World) -> None:
    world.content["report"]["tables"]["table1"] = {
        "title": "Table 1",
        "rows": ["*"],
        "published": "table1.csv",
        "published_datasets": {"photos": "div2k"},
    }
    table = table_of(world, "table1")
    other = table.blocks[-1]
    assert (other.backbone, other.backbone_title) == (None, "Other methods")
    assert "RealESRGAN" in [line.title for line in other.lines]
    assert line_of(table, "drct", "full_finetuning/all").cells[0].published == "24.98"


# Mistakes


def test_mistakes_are_one_line(world: World) -> None:
    with pytest.raises(UserError, match=r"no scores of profile toy"):
        world.read()
    with pytest.raises(UserError, match=r"no table 'tabel2' \(did you mean 'table2'\?\)"):
        table_of(world, "tabel2")
    world.content["report"]["tables"]["table2"]["metrics"] = ["psnr"]
    with pytest.raises(UserError, match=r"no metric 'psnr' \(did you mean 'psnr_y'\?\)"):
        table_of(world)
    world.content["report"]["tables"]["table2"] |= {"metrics": None, "published": "table7"}
    with pytest.raises(UserError, match=r"published has no 'table7'.*there are table1\.csv, table11\.csv"):
        table_of(world)
    (world.results / "scores.parquet").write_bytes(b"torn")
    with pytest.raises(UserError, match="not a score file, or a torn one"):
        world.read()


def test_scenes_are_not_known_without_a_manifest(world: World) -> None:
    world.write()
    results = world.read(world.root / "nowhere")
    details = {block.details for block in build_table(results, "table2").blocks}
    assert all("12 test images, scenes not known" in text for text in details)
    frame = compare_rows(results)
    assert set(frame["verdict_scenes"]) == {"no statement: the scenes of these images are not known"}
    assert frame["p_seeds"].notna().any()


def test_scores_outside_the_matrix_are_left_out(world: World) -> None:
    stray = world.scores[world.lines(baseline="lora", variant="r1", seed=1)]
    others = [stray.assign(seed=99), stray.assign(variant="r99"), stray.assign(backbone="old")]
    whole = table_of(world)
    world.scores = pd.concat([world.scores, *others]).astype({"seed": "Int64"})
    assert table_of(world) == whole
    assert np.isfinite(line_of(whole, "edsr", "lora/r1").cells[0].mean)


# Drift


def with_drift(world: World) -> None:
    """PSNR-Y on bicubic pairs, 5 dB above that on the photographs; one run lacks it."""
    world.content["datasets"]["bicubic"] = world.content["datasets"]["photos"]
    world.content["data"]["drift"] = {"dataset": "bicubic"}
    drift = world.scores[world.scores["metric"] == "psnr_y"].assign(dataset="bicubic", metric="drift")
    world.scores = pd.concat([world.scores, drift.assign(value=drift["value"] + 5)], ignore_index=True)
    world.without(metric="drift", backbone="edsr", baseline="lora", variant="r8", seed=4)


def test_drift_is_a_column_and_in_no_comparison(world: World) -> None:
    compared = compare_rows(world.write().read())
    with_drift(world)
    results = world.write().read()
    pd.testing.assert_frame_equal(compare_rows(results), compared)
    assert results.datasets == ["photos"]
    assert not results.unfinished({row.name for row in results.rows})
    for name in ("table2", "table3"):
        table = build_table(results, name)
        assert table.columns[-1].metric.title == "Drift: PSNR-Y on bicubic"
        assert {block.dataset for block in table.blocks} <= {"photos", ""}
        line = line_of(table, "swinir", "full_finetuning/all")
        assert line.cells[-1].mean == pytest.approx(line.cells[0].mean + 5)
        assert line.cells[-1].published == "-"
        assert any(sentence.startswith("Drift is what adaptation forgot") for sentence in table.conventions)
    lacking = line_of(build_table(results, "table2"), "edsr", "lora/r8").cells[-1]
    assert (len(lacking.seeds), lacking.partial) == (len(SEEDS) - 1, True)
