"""The page in a real browser: it loads from disk, sorts, compares pictures, and fits a telephone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.reporting.browser import Visit, find_browser, visit
from tests.reporting.furnished_benchmark import furnish, report
from tests.reporting.made_up_benchmark import NASTY, World, row_of

BROWSER = find_browser()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium here (Debian: apt-get install chromium)"),
]
Open = Callable[..., Visit]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a world with a title that is code, a diverged run and a missing one."""
    world = World(tmp_path_factory.mktemp("world"))
    world.rows[4] = row_of(world.rows[4].name, NASTY)
    world.change("swinir", "difffit/published", 2, status="diverged", diverged_at=7)
    world.without(backbone="drct", baseline="shira", seed=5)
    del world.records["drct", "shira/paper", 5]
    return report(furnish(world))


@pytest.fixture
def browse(page: Path, tmp_path: Path) -> Open:
    def open_page(script: str, width: int | None = None) -> Visit:
        assert BROWSER
        return visit(BROWSER, page, script, tmp_path, width)

    return open_page


def test_it_loads_from_disk_alone_and_without_a_complaint(browse: Open) -> None:
    seen = browse(
        """for (const fold of document.querySelectorAll("details")) fold.open = true;
        const images = [...document.images].filter((image) => image.hasAttribute("src"));
        for (const image of images) image.loading = "eager";
        await Promise.all(images.map((image) => image.decode().catch(() => null)));
        return {
          protocols: [...new Set(performance.getEntriesByType("resource").map((e) => new URL(e.name).protocol))],
          count: images.length,
          broken: images.filter((image) => !image.naturalWidth).map((image) => image.src),
          unnamed: images.filter((image) => !image.alt).map((image) => image.src),
        };"""
    )
    assert seen.console == []
    assert seen.result["protocols"] in ([], ["file:"])
    assert seen.result["count"] > 100
    assert seen.result["broken"] == []
    assert seen.result["unnamed"] == []


def test_sorting_sorts_up_and_down_with_missing_values_last(browse: Open) -> None:
    seen = browse(
        """const table = document.querySelector('table[data-table="table2"][data-backbone="swinir"]');
        const column = [...table.tHead.rows[0].cells].findIndex((c) => c.textContent.includes("PSNR-Y"));
        const heading = [...table.tHead.rows[1].cells].filter((c) => c.textContent === "measured")[1];
        const place = 1 + [...table.tHead.rows[1].cells].indexOf(heading);
        const values = () => [...table.tBodies[0].rows].map((row) => row.cells[place].dataset.value);
        const before = values();
        heading.querySelector("button").click();
        const up = values(), upwards = heading.ariaSort;
        heading.querySelector("button").click();
        return { before, up, down: values(), upwards, downwards: heading.ariaSort, sorted: table.querySelectorAll("[aria-sort]").length };"""
    ).result
    measured = sorted(float(value) for value in seen["before"] if value)
    missing = seen["before"].count("")
    assert missing > 0
    assert [float(value) for value in seen["up"][:-missing]] == measured
    assert [float(value) for value in seen["down"][:-missing]] == measured[::-1]
    assert seen["up"][-missing:] == seen["down"][-missing:] == [""] * missing
    assert (seen["upwards"], seen["downwards"], seen["sorted"]) == ("ascending", "descending", 1)


def test_the_divider_moves_and_any_two_crops_can_be_chosen(browse: Open) -> None:
    seen = browse(
        """const box = document.querySelector(".compare");
        const range = box.querySelector("[type=range]"), over = box.querySelector(".over");
        const before = over.style.clipPath;
        range.value = 20;
        range.dispatchEvent(new Event("input"));
        const right = box.querySelector(".right"), under = box.querySelector(".under");
        const first = under.src;
        right.value = right.options.length - 1;
        right.dispatchEvent(new Event("change"));
        box.querySelector(".errors").click();
        return { hidden: box.hidden, before, after: over.style.clipPath, first, second: under.src, alt: under.alt,
                 options: right.options.length, groups: [...right.querySelectorAll("optgroup")].map((g) => g.label) };"""
    ).result
    assert seen["hidden"] is False
    assert seen["before"] == "inset(0px 50% 0px 0px)"
    assert seen["after"] == "inset(0px 80% 0px 0px)"
    assert seen["first"].endswith("/hr.png")
    assert seen["second"].endswith("drct-shira-paper-error.png")
    assert seen["alt"] == "SHiRA, DRCT"
    assert seen["options"] == 2 + 4 * 9
    assert seen["groups"] == ["References", "EDSR", "SAFMN", "SwinIR", "DRCT"]


def test_everything_can_be_reached_by_keyboard_and_has_a_name(browse: Open) -> None:
    seen = browse(
        """for (const fold of document.querySelectorAll("details")) fold.open = true;
        const controls = [...document.querySelectorAll("button, select, input, summary, a[href]")];
        return {
          unreachable: controls.filter((c) => c.tabIndex < 0).length,
          nameless: controls.filter((c) => !(c.textContent.trim() || c.closest("label")?.textContent.trim())).length,
          scopeless: document.querySelectorAll("th:not([scope])").length,
          captionless: [...document.querySelectorAll("table")].filter((t) => !t.caption).length,
          scrollers: [...document.querySelectorAll(".scroll")].filter((s) => s.tabIndex !== 0).length,
        };"""
    ).result
    assert seen == {"unreachable": 0, "nameless": 0, "scopeless": 0, "captionless": 0, "scrollers": 0}


@pytest.mark.parametrize("width", [390, 768])
def test_nothing_runs_out_of_the_side_of_a_small_screen(browse: Open, width: int) -> None:
    seen = browse(
        """for (const fold of document.querySelectorAll("details.fold")) fold.open = true;
        const root = document.documentElement;
        const figures = [...document.querySelectorAll(".drawn .scroll")];
        return [root.clientWidth, root.scrollWidth, figures.filter((f) => f.scrollWidth > f.clientWidth).length];""",
        width,
    ).result
    assert seen == [width, width, 0]


def test_the_verdicts_of_a_primary_family_fit_a_desk(browse: Open) -> None:
    """Seven columns: their headings wrap."""
    seen = browse(
        """for (const fold of document.querySelectorAll("details.fold")) fold.open = true;
        const tables = [...document.querySelectorAll("table")].filter((t) => t.caption.textContent.includes(": differences in"));
        return tables.map((t) => t.parentElement.scrollWidth - t.parentElement.clientWidth);"""
    ).result
    assert seen == [0, 0]


def test_a_title_that_is_code_is_text(browse: Open) -> None:
    seen = browse(
        """return { scripts: document.scripts.length,
                 shown: [...document.querySelectorAll("tbody th")].filter((th) => th.textContent.includes("<script>alert(1)</script>")).length,
                 chosen: [...document.querySelector(".left").options].filter((o) => o.label.includes("<script>")).length };"""
    ).result
    assert seen["scripts"] == 2, "the page's own and the test's"
    assert seen["shown"] >= 4
    assert seen["chosen"] == 4


def test_seeds_open_below_a_mean_and_lead_to_their_records(browse: Open, page: Path) -> None:
    seen = browse(
        """const cell = document.querySelector('table[data-table="table2"][data-backbone="edsr"] tr[data-row="lora/r1"] td:nth-child(3)');
        const details = cell.querySelector("details");
        const closed = details.querySelector("ul").checkVisibility();
        details.querySelector("summary").click();
        return { closed, opened: details.querySelector("ul").checkVisibility(), value: cell.dataset.value,
                 seeds: [...details.querySelectorAll("li")].map((li) => [li.querySelector("a").getAttribute("href"), li.textContent]) };"""
    ).result
    assert (seen["closed"], seen["opened"]) == (False, True)
    assert [link for link, _ in seen["seeds"]] == [f"records/edsr/lora/r1/seed{seed}.json" for seed in range(1, 6)]
    values = [float(text.split()[-1]) for _, text in seen["seeds"]]
    assert sum(values) / 5 == pytest.approx(float(seen["value"]), abs=1e-4)
