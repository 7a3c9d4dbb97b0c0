"""What a report says of tuning, and of its absence."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from adaptsr.reporting.figures import draw_figures
from adaptsr.reporting.significance import compare_rows
from adaptsr.reporting.tuning import build_tuning
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
        "lora/r2": ("lr 0.01", "flat"),
        "lora/r8": ("lr 0.01", "learning rate at the edge of the grid"),
        "arc/svd50": ("", "every point diverged: the profile's own settings are used"),
    }
    assert lines["lora/r1"].points == (("22.100", False), ("22.500", True), ("diverged", False))
    assert [table.points for table in shown.tables] == [("lr 0.001", "lr 0.01"), ("lr 0.0001", "lr 0.001", "lr 0.01")]


def test_the_page_says_how_rows_were_tuned_and_what_it_cost(tuned: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adaptsr.reporting.page.draw_figures", lambda *_: [])
    page = report(tuned)
    text = " ".join(Page(page.read_text(encoding="utf-8")).text.split())
    assert "Every row is tuned: learning rate chosen for each row and backbone from one grid" in text
    assert "Tuning took 18 runs and 4.0 minutes of training" in text
    assert "seeds 101, 102, which no reported run uses, for 10 iterations" in text
    assert "Of 4 curves, 1 is flat (within 0.05 dB)." in text
    assert "1 choice lies at the edge of the grid" in text
    written = pd.read_csv(page.parent / "tuning.csv")
    assert len(written) == 18
    assert written.query("chosen")["lr"].tolist() == [1e-3] * 2 + [1e-2] * 4


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
