"""What a report says of tuning, and of its absence."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from adaptsr.reporting.figures import draw_figures
from adaptsr.reporting.significance import compare_rows
from adaptsr.reporting.tuning import at_edge, build_tuning, settings_sentence, validation_size
from tests.factories import choice
from tests.reporting.furnished_benchmark import furnish, report
from tests.reporting.made_up_benchmark import Page, World

TUNING = {"grid": {"lr": [1e-3, 1e-2]}, "seeds": [101, 102], "metric": "psnr_y"}


@pytest.fixture
def tuned(world: World) -> World:
    """Four curves: with its best inside, flat, with its best at the edge, and diverged everywhere."""
    world.content["tuning"] = TUNING
    curves: dict[str, tuple[dict[float, list[float | None]], dict[str, float]]] = {
        "lora/r1": ({1e-4: [22.0, 22.2], 1e-3: [22.4, 22.6], 1e-2: [22.0, None]}, {"lr": 1e-3}),
        "lora/r2": ({1e-3: [22.0, 22.2], 1e-2: [22.0, 22.3]}, {"lr": 1e-2}),
        "lora/r8": ({1e-3: [22.0, 22.2], 1e-2: [22.0, 22.4]}, {"lr": 1e-2}),
        "arc/svd50": ({1e-3: [None, None], 1e-2: [22.0, None]}, {}),
    }
    inputs = next(iter(world.records.values())).inputs
    for row, (curve, options) in curves.items():
        world.choices["edsr", row] = choice(curve, backbone="edsr", row=row, options=options, inputs=inputs)
    return furnish(world)


def test_a_curve_says_what_hangs_on_it(tuned: World) -> None:
    shown = build_tuning(tuned.read())
    assert shown
    lines = {line.row: line for table in shown.tables for line in table.lines}
    assert {row: (line.chosen, line.remark) for row, line in lines.items()} == {
        "lora/r1": ("lr 0.001", ""),
        "lora/r2": ("lr 0.01", "flat within 0.05 dB, still rising at the edge"),
        "lora/r8": ("lr 0.01", "learning rate (lr) at the edge of the grid"),
        "arc/svd50": ("", "every point diverged: the profile's own settings are used"),
    }
    assert lines["lora/r1"].points == (("22.100", False), ("22.500", True), ("diverged", False))
    assert [table.points for table in shown.tables] == [("lr 0.001", "lr 0.01"), ("lr 0.0001", "lr 0.001", "lr 0.01")]


def test_the_page_says_how_rows_were_tuned_and_what_it_cost(tuned: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adaptsr.reporting.page.draw_figures", lambda *_: [])
    page = report(tuned)
    text = " ".join(Page(page.read_text(encoding="utf-8")).text.split())
    assert (
        "Every row is tuned on every backbone: learning rate (lr) is the best of 2 to 3 points tried, by the mean over 2 seeds, 10 "
        "iterations each with the schedule in proportion (reported runs: 10), on the validation split, "
        "12 images of 6 scenes. At the edge of the values tried: 2 of 4 choices."
    ) in text
    assert "Tuning took 18 runs and 4.0 minutes of training" in text
    assert "seeds 101, 102, which no reported run uses, for 10 iterations" in text
    assert "Of 4 curves, 1 is flat (within 0.05 dB)." in text
    assert "2 choices lie at the edge of the grid" in text
    written = pd.read_csv(page.parent / "tuning.csv")
    assert len(written) == 18
    assert written.query("chosen")["lr"].tolist() == [1e-3] * 2 + [1e-2] * 4


@pytest.mark.parametrize(
    ("curve", "chosen", "edge"),
    [
        ({1: [22.0], 2: [22.1]}, 2, ["lr"]),
        ({1: [22.1], 2: [22.1]}, 1, ["lr"]),
        ({1: [22.0], 2: [22.1], 3: [22.0]}, 2, []),
        ({1: [22.0]}, 1, []),
    ],
)
def test_an_edge_is_that_of_several_values(
    curve: dict[float, list[float | None]], chosen: int, edge: list[str]
) -> None:
    assert at_edge(choice(curve, backbone="edsr", row="lora/r1", options={"lr": chosen})) == edge


def test_a_flat_curve_without_a_rise_is_flat(tuned: World) -> None:
    tuned.choices["edsr", "lora/r2"] = choice({1e-3: [22.0], 1e-2: [22.0]}, row="lora/r2", options={"lr": 1e-3})
    shown = build_tuning(tuned.read())
    assert shown
    assert "flat within 0.05 dB" in {line.remark for table in shown.tables for line in table.lines}


def test_the_size_of_the_validation_split_is_told_where_it_is_known(tuned: World) -> None:
    results = tuned.read()
    assert validation_size(results) == "Validation is on 12 images of 6 scenes: not for ranking. "
    unknown = replace(results, manifests={})
    assert validation_size(unknown) == ""
    assert "on the validation split. At the edge" in settings_sentence(unknown)


def test_rows_without_the_options_tried_are_not_said_to_be_tuned(tuned: World) -> None:
    tuned.content["tuning"] = {**TUNING, "grid": {"alpha": [1, 2, 4]}}
    inputs = next(iter(tuned.records.values())).inputs
    tuned.choices.clear()
    for row in ("lora/r1", "lora/r2"):
        curve = choice({1: [22.0, 22.2], 2: [22.4, 22.6], 4: [22.0, 22.1]}, row=row, options={"lr": 2}, inputs=inputs)
        tuned.choices["edsr", row] = curve
    results = tuned.read()
    said = settings_sentence(results)
    assert "Every row is tuned on every backbone, but for " in said
    assert "Full fine-tuning" in said.partition("which have no such option: alpha is the best of 3 points")[0]
    shown = build_tuning(results)
    assert shown
    assert shown.sentences[0].startswith("Every row was tried at those values that it has of alpha")


def test_a_partial_report_counts_the_choices_still_to_be_made(tuned: World) -> None:
    shown = build_tuning(replace(tuned.read(), partial=True))
    assert shown
    declared = sum(len(row.backbones) for row in tuned.read().adapted_rows)
    assert f"{declared - 4} choices of {declared} are still to be made." in shown.sentences


def test_a_yes_or_no_has_no_edge() -> None:
    curve = choice({0: [22.0], 1: [22.1]}, options={"lr": 1})
    tried = [one.model_copy(update={"point": {"clip": bool(one.point["lr"])}}) for one in curve.tried]
    assert at_edge(curve.model_copy(update={"tried": tried, "options": {"clip": True}})) == []


def test_choices_made_for_other_weights_are_pointed_out(tuned: World) -> None:
    shown = build_tuning(tuned.read())
    assert shown
    assert "were made with other images" not in " ".join(shown.sentences)
    inputs = tuned.choices["edsr", "lora/r1"].inputs.model_copy(update={"weights": "another"})
    tuned.choices["edsr", "lora/r1"] = tuned.choices["edsr", "lora/r1"].model_copy(update={"inputs": inputs})
    shown = build_tuning(tuned.read())
    assert shown
    assert "The choices for edsr were made with other images or weights" in " ".join(shown.sentences)


@pytest.mark.parametrize(
    ("comparable", "said"), [(True, "at the paper's settings, not tuned"), (False, "at one learning rate, not tuned")]
)
def test_without_tuning_the_headline_and_the_tables_say_so(
    world: World, monkeypatch: pytest.MonkeyPatch, comparable: bool, said: str
) -> None:
    monkeypatch.setattr("adaptsr.reporting.page.draw_figures", lambda *_: [])
    world.content["report"]["comparable_with_paper"] = comparable
    page = report(furnish(world))
    text = " ".join(Page(page.read_text(encoding="utf-8")).text.split())
    assert text.count(said) == 1 + len(world.content["report"]["tables"])
    assert said in (page.parent / "table2.md").read_text(encoding="utf-8").replace("\\", "")
    assert not (page.parent / "tuning.csv").exists()
    assert build_tuning(world.read()) is None


@pytest.mark.slow
def test_the_curves_are_drawn(tuned: World) -> None:
    results = tuned.read()
    only = replace(results, records={})
    drawn = {figure.kind: figure for figure in draw_figures(only, compare_rows(results), tuned.reports / "figures")}
    assert drawn["tuning"].alt.startswith("Line plots of PSNR-Y over the points of the tuning grid")
    assert (tuned.reports / "figures/tuning.svg").read_text().count("<svg") == 1
