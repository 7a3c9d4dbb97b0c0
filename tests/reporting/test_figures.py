"""What the figures show, in which colors, and that they are the same every time."""

from __future__ import annotations

import itertools
import math
import re
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from adaptsr.reporting.figures import draw_figures
from adaptsr.reporting.figures.canvas import DARK, GROUND, follow_page, narrow, style
from adaptsr.reporting.figures.complexity import Point, complexity, pareto_front, points_of, short_number
from adaptsr.reporting.figures.convergence import convergence, curves_of, time_unit
from adaptsr.reporting.figures.costs import costs, used_seconds
from adaptsr.reporting.figures.forest import marks_of
from adaptsr.reporting.figures.palette import METHOD_COLORS, UNADAPTED_COLOR, looks, method_title
from adaptsr.reporting.figures.ranks import ELSEWHERE, Place, decided, heatmap, place_of, seen
from adaptsr.reporting.significance import compare_rows
from adaptsr.runs.records import SHARED_GPU
from adaptsr.runs.run import Run
from tests.factories import run_record
from tests.reporting.furnished_benchmark import furnish
from tests.reporting.made_up_benchmark import BACKBONES, World, row_of

# Colors

COLORS = [*METHOD_COLORS, UNADAPTED_COLOR]


def levels(color: str) -> np.ndarray:
    return np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255


def luminance(color: str) -> float:
    level = levels(color)
    linear = np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("ground", ["#ffffff", DARK["#ffffff"]])
def test_colors_stand_out_from_a_white_and_a_dark_page(ground: str) -> None:
    for color in COLORS:
        lighter, darker = sorted([luminance(color), luminance(ground)], reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 3, color


DEUTERANOPIA = np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]])
PROTANOPIA = np.array([[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]])
"""Machado, Oliveira, Fernandes 2009, severity 1, on linear RGB."""


@pytest.mark.parametrize("vision", [np.eye(3), DEUTERANOPIA, PROTANOPIA])
def test_colors_can_be_told_apart_without_full_color_vision(vision: np.ndarray) -> None:
    def seen(color: str) -> np.ndarray:
        return np.clip(vision @ levels(color) ** 2.2, 0, 1) ** (1 / 2.2) * 255

    for one, other in itertools.combinations(COLORS, 2):
        assert np.linalg.norm(seen(one) - seen(other)) > 20, (one, other)


def test_a_method_has_one_color_and_its_variants_differ() -> None:
    look = looks([row_of(name, name) for name in ("unadapted", "lora/r1", "lora/r8", "arc/svd50")])
    assert look["lora/r1"].color == look["lora/r8"].color != look["arc/svd50"].color
    assert look["lora/r1"].dash != look["lora/r8"].dash
    assert (look["lora/r8"].variant, look["arc/svd50"].variant) == ("r8", "")


def test_a_methods_title_is_what_its_rows_share() -> None:
    assert method_title("lora", ["LoRA, r = 1", "LoRA, r = 16"]) == "LoRA"
    assert method_title("arc", ["ARC (svd50)", "ARC (svd100)"]) == "ARC"
    assert method_title("shira", ["SHiRA"]) == "SHiRA"
    assert method_title("mine", ["First", "Second"]) == "mine"


# Content


def test_the_pareto_front_holds_what_nothing_beats() -> None:
    random = np.random.default_rng(0)
    points = [Point(str(i), p, s, True) for i, (p, s) in enumerate(random.integers(1, 9, (40, 2)).tolist())]
    for lower_better in (False, True):
        sign = -1 if lower_better else 1
        front = {(point.parameters, point.score) for point in pareto_front(points, lower_better)}
        for point in points:
            beaten = any(
                other.parameters <= point.parameters
                and sign * other.score >= sign * point.score
                and (other.parameters, other.score) != (point.parameters, point.score)
                for other in points
            )
            assert ((point.parameters, point.score) in front) != beaten


def test_points_are_means_over_seeds_and_rows_with_holes_are_marked(world: World) -> None:
    world.without(backbone="edsr", baseline="lora", variant="r1", seed=2)
    world.write()
    points = {point.row: point for point in points_of(world.read(), "edsr", "photos", "psnr_y")}
    lines = world.scores[world.lines(backbone="edsr", baseline="lora", variant="r8", metric="psnr_y")]
    assert points["lora/r8"].score == pytest.approx(lines["value"].mean())
    assert points["lora/r8"].parameters == 1_500
    assert (points["lora/r1"].complete, points["lora/r8"].complete) == (False, True)
    assert "unadapted" not in points


def test_a_row_with_an_infinite_score_has_no_point_and_stops_nothing(world: World) -> None:
    """A PSNR of identical images, in one seed of several."""
    lines = world.lines(backbone="edsr", baseline="lora", variant="r8", metric="psnr_y")
    world.scores.loc[world.scores[lines].index[0], "value"] = math.inf
    world.write()
    points = {point.row for point in points_of(world.read(), "edsr", "photos", "psnr_y")}
    assert "lora/r1" in points
    assert "lora/r8" not in points


@pytest.mark.parametrize(
    ("site", "block", "module"),
    [
        ("layers.0.residual_group.blocks.1.attn.qkv", "layers 0, blocks 1", "attn.qkv"),
        ("layers.2.conv", "layers 2", "conv"),
        ("layers.0.swin5.mlp.fc1", "layers 0, swin 5", "mlp.fc1"),
        ("layers.0.adjust1", "layers 0", "adjust1"),
        ("body.12.conv2", "body 12", "conv2"),
        ("feats.3.ccm.ccm.0", "feats 3", "ccm.ccm.0"),
        ("feats.3.safm.mfr.2", "feats 3", "safm.mfr.2"),
        ("conv_first", ELSEWHERE, "conv_first"),
        ("upsample.0", ELSEWHERE, "upsample.0"),
    ],
)
def test_sites_are_placed_by_block_and_module(site: str, block: str, module: str) -> None:
    assert place_of(site) == (block, module)


def test_the_heatmap_is_the_mean_over_plans_in_natural_order() -> None:
    plans = [{"body.2.a": 1, "body.10.a": 3, "head": 5}, {"body.2.a": 3, "body.10.a": 3, "head": 6}]
    table = heatmap(plans)
    assert list(table.index) == ["body 2", "body 10", ELSEWHERE]
    assert table.loc["body 2", "a"] == 2
    assert table.loc[ELSEWHERE, "head"] == 5.5
    assert np.isnan(table.loc["body 2", "head"])


def test_curves_are_means_over_the_runs_that_got_there(world: World) -> None:
    furnish(world)
    curve = world.records[Run("edsr", "lora/r1", 1)].validation
    world.change("edsr", "lora/r1", 1, validation=curve[:2])
    world.write()
    [shown] = (shown for shown in curves_of(world.read(), "edsr") if shown.row == "lora/r1")
    assert shown.iterations == (0, 5, 10)
    assert shown.seconds == (0, 3600, 7200)
    assert shown.mean[0] == 26.0


@pytest.mark.parametrize(
    ("device", "notes", "seconds"),
    [("cpu", [], 7.0), ("NVIDIA H100", [], 9.0), ("NVIDIA H100", [f"up to 2 {SHARED_GPU}: so"], None)],
)
def test_time_is_that_of_the_processor_or_of_a_gpu_that_was_not_shared(
    device: str, notes: list[str], seconds: float | None
) -> None:
    record = run_record(wall_seconds=9.0, processor_seconds=7.0, notes=notes)
    assert (
        used_seconds(record.model_copy(update={"provenance": record.provenance.model_copy(update={"device": device})}))
        == seconds
    )
    assert used_seconds(run_record()) is None, "an older record has no processor time"


def test_numbers_are_short() -> None:
    assert [short_number(n) for n in (12, 1_500, 2_000_000)] == ["12", "1.5k", "2M"]
    assert time_unit([30.0]) == ("seconds", 1.0)
    assert time_unit([150.0]) == ("minutes", 60.0)
    assert time_unit([40_000.0]) == ("hours", 3600.0)


def test_shortening_leaves_the_text_alone() -> None:
    shown = follow_page('<svg><metadata>x</metadata>\n<text x="1.234567">0.0001</text></svg>')
    assert '<text x="1.23">0.0001</text>' in shown


@pytest.mark.parametrize(
    ("outside", "late", "said"),
    [
        (
            9.0,
            4.0,
            "the later half above the earlier half of the blocks (4.00 and 1.00: so); "
            "sites outside the blocks not above the mean of all sites (9.00 and 4.67: not so)",
        ),
        (9.0, 4.0, "attention and MLP layers not below convolutions (2.50 and 9.00: not so)."),
        (1.0, 4.0, "(1.00 and 2.00: so); attention and MLP layers not below convolutions (2.50 and 1.00: so)."),
        (1.0, 1.0, "the later half above the earlier half of the blocks (1.00 and 1.00: not so); "),
    ],
)
def test_a_rank_map_is_put_in_words(outside: float, late: float, said: str) -> None:
    """The last convolutions with most of the ranks are the opposite of ranks on later attention and MLP layers."""
    ranks = {Place("layers 0", "fc1"): 1.0, Place("layers 1", "fc1"): late, Place(ELSEWHERE, "conv_last"): outside}
    assert said in seen(ranks, {site: site.block != ELSEWHERE for site in ranks})


def test_a_rank_map_names_what_decides_besides_the_score(world: World) -> None:
    options = {"allocation": "greedy", "r_max": 16, "alpha": 1.0}
    world.change("edsr", "rank_aware/gradient", 1, config={"options": options})
    results = world.write().read()
    row = row_of("rank_aware/gradient", "Rank-aware LoRA")
    assert decided(results, "edsr", row) == ", with allocation greedy, r_max 16"
    assert decided(results, "drct", row) == ""


@pytest.mark.slow
@pytest.mark.parametrize("stacked", [False, True])
def test_every_column_of_panels_is_named_and_every_line_labelled(world: World, stacked: bool) -> None:
    results = furnish(world).read()
    with style(), narrow() if stacked else nullcontext():
        drawings = [complexity(results, "photos"), convergence(results), costs(results)]
    for drawing in drawings:
        assert drawing
        panels = drawing.figure.axes
        assert [axes.get_title(loc="left") for axes in panels if axes.get_title(loc="left")] == list(BACKBONES.values())
        assert all(axes.get_xlabel() for axes in panels[-1:])
        width, _ = drawing.figure.get_size_inches()
        assert (width < 4) == stacked
    _, timed, used = drawings
    labels = {axes.get_xlabel() for axes in [*timed.figure.axes, *used.figure.axes]}
    assert {"wall time (hours),\nmachine may be shared", "processor time (minutes)"} <= labels


@pytest.mark.parametrize(
    ("verdict", "forms"),
    [("better", ["filled"]), ("undecided", ["hollow"]), ("equivalent", ["hollow", "dot"]), ("no test", ["cross"])],
)
def test_verdicts_differ_in_form(verdict: str, forms: list[str]) -> None:
    def form(mark: dict[str, Any]) -> str:
        if mark["marker"] == "x":
            return "cross"
        return "hollow" if mark.get("markerfacecolor") == GROUND else "dot" if mark["markersize"] < 3 else "filled"

    assert [form(mark) for mark in marks_of(verdict, "#346bf1", "s")] == forms


# Files


@pytest.mark.slow
def test_every_figure_is_written_twice_and_described(world: World, tmp_path: Path) -> None:
    results = furnish(world).read()
    figures = draw_figures(results, compare_rows(results), tmp_path)
    kinds = [figure.kind for figure in figures]
    assert set(kinds) == {"forest", "complexity", "ranks", "convergence", "costs"}
    assert kinds.count("ranks") == len(BACKBONES)
    for figure in figures:
        assert len(figure.alt) > 40
        assert len(figure.caption) > 40
        root = ElementTree.parse(tmp_path / f"{figure.name}.svg").getroot()
        assert root.tag.endswith("svg")
        assert not re.search(r"https?://(?!www\.w3\.org)", (tmp_path / f"{figure.name}.svg").read_text())
        stacked = ElementTree.parse(tmp_path / f"{figure.name}-narrow.svg").getroot()
        assert float((stacked.get("width") or "").removesuffix("pt")) * 96 / 72 == pytest.approx(
            figure.narrow[0], abs=1
        )
        assert figure.narrow[0] < 400 < figure.width
        with Image.open(tmp_path / f"{figure.name}.png") as image:
            assert image.width == pytest.approx(1.5 * figure.width, abs=2)
            assert "dc:date" not in image.info
