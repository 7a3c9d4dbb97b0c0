"""The page as a whole: its numbers, its holes, what it is remade from, and its bytes."""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from adaptsr.errors import UserError
from adaptsr.reporting.conventions import training_differences
from adaptsr.reporting.page import build_page
from adaptsr.reporting.significance import compare_rows
from adaptsr.reporting.tables import build_table
from adaptsr.runs.matrix import Row
from adaptsr.runs.run import Run
from tests.factories import tree
from tests.reporting import made_up_benchmark
from tests.reporting.furnished_benchmark import COMMAND, PICTURES, furnish, report
from tests.reporting.made_up_benchmark import BACKBONES, NASTY, ROWS, SEEDS, Page, World, made_up_manifest, row_of


@pytest.fixture
def full(world: World) -> World:
    return furnish(world)


@pytest.fixture(autouse=True)
def figures_where_they_matter(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures take most of a page's time; tests that ask for them are marked slow."""
    if not request.node.get_closest_marker("slow"):
        monkeypatch.setattr("adaptsr.reporting.page.draw_figures", lambda *_: [])


def read(page: Path) -> Page:
    return Page(page.read_text(encoding="utf-8"))


def text_of(page: Path) -> str:
    return " ".join(read(page).text.split())


# Numbers


def test_table_cells_are_those_of_a_few_lines_of_pandas(full: World) -> None:
    cells = read(report(full)).values
    scores = full.scores.assign(row=(full.scores["baseline"] + "/" + full.scores["variant"]).str.rstrip("/"))
    by_seed = scores.groupby(["backbone", "row", "metric", "seed"], dropna=False)["value"].mean()
    means = by_seed.groupby(level=[0, 1, 2]).mean()
    for backbone in BACKBONES:
        for row in ("unadapted", "full_finetuning/all", "lora/r1", "lora/r2", "lora/r8", "rank_aware/gradient"):
            _, *shown = cells["table2", backbone, row]
            expected = [means[backbone, row, metric] for metric in ("psnr_y", "ssim_y", "lpips", "vif")]
            assert [float(value) for value in shown] == pytest.approx(expected, rel=1e-9)


def test_seed_means_are_written_for_every_run(full: World) -> None:
    page = report(full)
    written = pd.read_csv(page.parent / "seeds.csv")
    assert len(written) == len(BACKBONES) * 4 * (1 + (len(ROWS) - 1) * len(SEEDS))
    one = full.scores[full.lines(backbone="safmn", baseline="lora", variant="r8", seed=3, metric="lpips")]["value"]
    shown = written.query("backbone == 'safmn' and row == 'lora/r8' and seed == '3' and metric == 'lpips'")
    assert shown["value"].item() == pytest.approx(one.mean(), rel=1e-7)
    assert shown["images"].item() == 12


def test_published_numbers_stand_beside_with_their_difference_where_it_means_something(full: World) -> None:
    full.scores.loc[full.lines(backbone="swinir", baseline="lora", variant="r1", metric="psnr_y"), "value"] = 28.5
    text = text_of(report(furnish(full)))
    assert "28.3383" in text
    assert "(+0.1617)" not in text
    full.content["report"]["comparable_with_paper"] = True
    assert "28.3383 (+0.1617)" in text_of(report(full))


# Words


def test_words_are_explained_where_they_are_first_used(full: World) -> None:
    shared = full.profile.training.model_dump(mode="json", exclude_none=True)
    for run in list(full.records):
        changed = {"milestones": [0.5], "decay": 0.25} if run.variant == "arc/svd50" else {}
        full.change(*run, config={"training": {**shared, **changed, "betas": [0.9, 0.99]}})
    text = text_of(report(furnish(full)))
    assert text.index("A row is a method with its options fixed.") < text.index("5 seeds each")
    assert "“photos” is a data set of this profile." in text
    assert "VIF ↑ (visual information fidelity)" in text
    assert "4; ARC (svd50) with other milestones and decay" in text
    assert "1: a number that the profile raises when" in text


def test_rows_that_set_what_the_profile_leaves_open_are_named(full: World) -> None:
    shared = full.profile.training.model_dump(mode="json")
    for run in list(full.records):
        changed = {"images": 5, "clip_norm": 0.1} if run.variant == "arc/svd50" else {}
        full.change(*run, config={"training": {**shared, **changed, "betas": [0.9, 0.99]}})
    assert "ARC (svd50) with other clip_norm and images" in training_differences(furnish(full).read())


def test_a_figure_without_a_metric_leads_to_the_note_that_says_why(full: World) -> None:
    full.scores.loc[full.lines(metric="lpips"), ["value", "reason"]] = [float("nan"), "no weights at https://a.b/c"]
    results = furnish(full).read()
    tables = [build_table(results, name) for name in results.profile.report.tables]
    page = build_page(results, tables, compare_rows(results), full.reports, COMMAND)
    place = int(page.note("LPIPS").removeprefix("table2-note-"))
    assert tables[0].notes[place - 1] == "LPIPS is missing: no weights at https://a.b/c."
    assert page.note("VIF") == ""


# Holes


def test_a_diverged_a_missing_and_an_unscored_run_are_visible(full: World) -> None:
    full.change("edsr", "lora/r1", 2, status="diverged", diverged_at=4)
    full.without(backbone="edsr", baseline="lora", variant="r1", seed=2)
    full.without(backbone="drct", baseline="lora", variant="r1", seed=4)
    full.without(backbone="drct", baseline="lora", variant="r2", seed=5)
    furnish(full)
    shutil.rmtree(full.results / "drct/lora/r2/seed5")
    page = report(full)
    text = text_of(page)
    assert "Of 160 runs, 157 are trained and scored, 1 diverged and 2 are not finished or not scored." in text
    assert "EDSR, LoRA, r = 1, seed 2: diverged at iteration 4" in text
    assert "DRCT, LoRA, r = 1, seed 4: trained, not scored" in text
    assert "DRCT, LoRA, r = 2, seed 5: not run or not finished" in text
    assert "4 of 5, 1 diverged" in text
    assert "(n = 4)" in text
    assert read(page).values["table2", "edsr", "lora/r1"][1] != ""


def test_why_a_run_failed_is_taken_from_its_log_or_checkpoint(full: World) -> None:
    for seed in (1, 2):
        full.without(backbone="edsr", baseline="lora", variant="r1", seed=seed)
        shutil.rmtree(full.results / f"edsr/lora/r1/seed{seed}")
        del full.records["edsr", "lora/r1", seed]
    full.write()
    logs = full.results / "logs/train/edsr/lora/r1"
    logs.mkdir(parents=True)
    (logs / "1.log").write_text("iteration 3\nadaptsr: out of memory with batches of 8\n", encoding="utf-8")
    checkpoints = full.results / "edsr/lora/r1/seed2/checkpoints"
    checkpoints.mkdir(parents=True)
    (checkpoints / "000001500.safetensors").write_bytes(b"")
    text = text_of(report(full))
    assert "seed 1: not run or not finished: out of memory with batches of 8" in text
    assert "seed 2: not run or not finished: its newest checkpoint is at iteration 1,500" in text


def test_partial_takes_the_scores_that_lie_beside_the_runs(full: World) -> None:
    (full.results / "scores.parquet").unlink()
    with pytest.raises(UserError, match="--partial"):
        report(full)
    assert "Of 160 runs, 0 are trained and scored" in text_of(report(full, partial=True))
    for row in ("lora/r1", "full_finetuning/all"):
        full.write_run_scores("edsr", row, 1)
    page = report(full, partial=True)
    assert "Of 160 runs, 2 are trained and scored" in text_of(page)
    assert read(page).values["table2", "edsr", "lora/r1"][1] != ""
    assert read(page).values["table2", "edsr", "lora/r2"][1] == ""


def record_changed(full: World, **values: object) -> None:
    """What lies on disk; the scores stay those of the record before."""
    full.records[Run(*ONE)].model_copy(update=values).write(Run(*ONE).record_path(full.results))


GONE = "scores.parquet: the scores of edsr/lora/r1/seed1 belong to weights that are missing or have changed"
ONE = ("edsr", "lora/r1", 1)
OUTDATED: dict[str, tuple[Callable[[World], object], str]] = {
    "a run of another protocol": (
        lambda full: record_changed(full, variant_key="another"),
        "edsr/lora/r1/seed1/record.json: a run of another protocol, schedule, data, weights or options",
    ),
    "a run trained again since": (lambda full: record_changed(full, adaptation_sha256="others"), GONE),
    "a run that is gone": (lambda full: shutil.rmtree(Run(*ONE).folder(full.results)), GONE),
    "a run that diverged since": (
        lambda full: record_changed(full, status="diverged", diverged_at=3, adaptation_sha256=None),
        GONE,
    ),
    "other test images": (
        lambda full: made_up_manifest().model_copy(update={"scale": 2}).write(full.resources / "photos/manifest.json"),
        "scores.parquet: made with other images of photos/test",
    ),
    "another crop": (
        lambda full: full.content["scoring"].update(crop_border=4),
        "scores.parquet: made with other conventions of lpips",
    ),
}


@pytest.mark.parametrize("case", OUTDATED)
def test_scores_of_what_is_no_more_are_refused_and_partial_leaves_them_out(full: World, case: str) -> None:
    change, said = OUTDATED[case]
    full.write_run_scores("edsr", "lora/r1", 1)
    assert "Of 160 runs, 1 is trained and scored" in text_of(report(full, partial=True))
    change(full)
    with pytest.raises(UserError) as refused:
        report(full)
    assert said in str(refused.value)
    assert "run snakemake again" in str(refused.value)
    assert "Of 160 runs, 0 are trained and scored" in text_of(report(full, partial=True))


def test_what_is_not_scored_or_not_here_is_no_contradiction(full: World) -> None:
    """A metric more, a title, the data not here: the report is made of what there is."""
    full.content["scoring"]["metrics"]["psnr_y"]["title"] = "Fidelity"
    full.content["scoring"]["metrics"]["dists"] = {"name": "dists", "title": "DISTS"}
    shutil.rmtree(full.resources)
    assert "DISTS is not scored." in text_of(report(full))


def test_an_empty_profile_still_has_a_page(world: World) -> None:
    world.records.clear()
    world.write()
    (world.results / "scores.parquet").unlink()
    text = text_of(report(world, partial=True))
    assert "nothing to compare" in text
    assert "There is nothing to draw yet." in text
    assert "Of 160 runs, 0 are trained and scored" in text


def test_rows_of_other_models_and_of_one_backbone_have_their_place(full: World) -> None:
    full.content["external"] = {"theirs": {"title": "Their model", "parameters": 1_000_000}}
    full.rows.append(Row("external", "theirs", "Their model", (None,)))
    full.rows[-2] = replace(full.rows[-2], backbones=("edsr", "drct"))
    theirs = full.scores[full.lines(backbone="edsr", baseline="unadapted")].assign(
        backbone="", baseline="external", variant="theirs"
    )
    elsewhere = full.lines(baseline="shira") & full.scores["backbone"].isin(["safmn", "swinir"])
    full.scores = pd.concat([full.scores[~elsewhere], theirs])
    for backbone in ("safmn", "swinir"):
        for seed in SEEDS:
            del full.records[backbone, "shira/paper", seed]
    full.write()
    page = report(full)
    cells = read(page)
    assert "All 150 runs are trained and scored." in cells.text
    assert float(cells.values["table2", "", "external/theirs"][1]) == pytest.approx(
        theirs[theirs["metric"] == "psnr_y"]["value"].mean()
    )
    assert ("table2", "drct", "shira/paper") in cells.values
    assert ("table2", "safmn", "shira/paper") not in cells.values
    assert "could not be tested" not in cells.text


# What it says of itself


def test_a_profile_that_is_not_the_papers_says_so(full: World) -> None:
    for comparable in (False, True):
        full.content["report"]["comparable_with_paper"] = comparable
        assert ("Not the published experiment." in text_of(report(full))) != comparable


def test_the_audit_is_linked_where_it_is(full: World) -> None:
    page = report(full)
    assert "audit.html" not in read(page).links
    (page.parent / "audit.html").write_text("<p>audit</p>", encoding="utf-8")
    assert "audit.html" in read(report(full)).links


def test_provenance_names_command_code_data_and_machines(full: World) -> None:
    machine = full.records[Run(*ONE)].provenance
    machine = machine.model_copy(update={"processor": "Another processor", "packages": {"torch": "2.0"}})
    full.change(*ONE, provenance=machine)
    text = text_of(report(furnish(full)))
    for phrase in (COMMAND, "Another processor", "torch 2.0", "Machine of 159 runs", "photos", "a folder of pairs"):
        assert phrase in text


def test_records_are_copied_as_they_are(full: World) -> None:
    page = report(full)
    for backbone, row, seed in full.records:
        copy = page.parent / "records" / backbone / row / f"seed{seed}.json"
        assert copy.read_bytes() == (full.results / backbone / row / f"seed{seed}" / "record.json").read_bytes()


# Bytes


@pytest.mark.slow
def test_every_link_leads_somewhere_in_the_folder(full: World) -> None:
    page = report(full)
    identities = set(re.findall(r'\bid="([^"]+)"', page.read_text(encoding="utf-8")))
    links = read(page).links
    assert {"table2.csv", "table2.tex", "table2.md", "significance.csv", "seeds.csv", "../toy.zip"} <= set(links)
    for link in links:
        path, _, anchor = link.partition("#")
        assert not re.match(r"\w+:|//", link)
        assert (page.parent / path).is_file() or not path
        assert anchor in identities or not anchor


@pytest.mark.slow
def test_the_same_results_give_the_same_bytes(tmp_path: Path) -> None:
    """In another place, with the scores in another order, and written again."""
    one, other = (World(tmp_path / name).write() for name in "ab")
    other.scores = other.scores.sample(frac=1, random_state=0)
    pages = [report(furnish(world)) for world in (one, other)]
    assert tree(pages[0].parent.parent) == tree(pages[1].parent.parent)
    report(one)
    assert tree(pages[0].parent.parent) == tree(pages[1].parent.parent)


@pytest.mark.slow
def test_a_page_of_380_runs_can_still_be_mailed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four backbones, 20 rows, five seeds: the page itself and the zip of everything, pictures being small here."""
    more = {f"lora/r{rank}": f"LoRA, r = {rank}" for rank in range(20, 31)}
    monkeypatch.setattr(made_up_benchmark, "ROWS", {**ROWS, **more})
    made_up_benchmark.made_up_scores.cache_clear()
    try:
        page = report(furnish(World(tmp_path, rows=[row_of(*item) for item in made_up_benchmark.ROWS.items()])))
    finally:
        made_up_benchmark.made_up_scores.cache_clear()
    assert text_of(page).count("All 380 runs are trained and scored.") == 1
    assert page.stat().st_size < 4_000_000
    assert page.parent.with_suffix(".zip").stat().st_size < 4_000_000


def test_the_zip_holds_the_folder(full: World) -> None:
    page = report(full)
    with zipfile.ZipFile(page.parent.with_suffix(".zip")) as archive:
        inside = {info.filename: archive.read(info) for info in archive.infolist()}
    assert inside == {f"toy/{name}": content for name, content in tree(page.parent).items()}


def test_nothing_of_an_earlier_report_is_left(full: World) -> None:
    page = report(full)
    (page.parent / "figures/old.svg").write_text("", encoding="utf-8")
    full.content["report"]["pictures"] = PICTURES[:1]
    report(full)
    assert not (page.parent / "figures/old.svg").exists()
    assert len(list((page.parent / "pictures").iterdir())) == 1


@pytest.mark.slow
def test_a_title_that_is_code_stays_text_everywhere(full: World) -> None:
    full.rows[4] = row_of(full.rows[4].name, NASTY)
    page = report(full)
    source = page.read_text(encoding="utf-8")
    assert source.count("<script>") == 1
    assert NASTY in read(page).text
    for path in (page.parent / "figures").glob("*.svg"):
        assert "<script" not in path.read_text(encoding="utf-8")


def test_a_picture_restored_by_another_run_is_not_shown(full: World) -> None:
    listed = full.results / "edsr/lora/r1/seed1/pictures/photos/pictures.json"
    listed.write_text(json.dumps({**json.loads(listed.read_text()), "restored": "of an earlier run"}), encoding="utf-8")
    page = report(full)
    assert "not restored yet" in text_of(page)
    assert not list((page.parent / "pictures").glob("*/edsr-lora-r1.png"))
