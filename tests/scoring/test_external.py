"""Restored images of other models: scored as they are, a dash with the reason where they are not there."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from adaptsr.backbones.build import build
from adaptsr.backbones.inference import restore
from adaptsr.config.schema import EXTERNAL, Backbone
from adaptsr.data.images import read_image, write_png
from adaptsr.data.manifest import manifest_path
from adaptsr.data.prepare import prepare
from adaptsr.data.store import PairSet, load_split
from adaptsr.errors import UserError
from adaptsr.metrics.psnr import psnr_y
from adaptsr.reporting.results import read_results
from adaptsr.reporting.tables import build_table, write_table
from adaptsr.runs.matrix import Matrix
from adaptsr.scoring.external import folders_as_they_are
from adaptsr.scoring.score_runs import score_block
from adaptsr.scoring.sources import digest_of
from adaptsr.scoring.table import collect_scores, fingerprint_of, write_scores
from tests import factories
from tests.factories import noise, pairs_profile, write_pairs

ABSENT = {"photos": "nowhere"}
FOLDER = Path("resources/external/model/photos")


def write_image(path: Path, side: int, key: str) -> None:
    write_png(path, noise(key, side, side))


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a dataset of four pairs, two of them for testing."""
    monkeypatch.chdir(tmp_path)
    write_pairs(Path("pairs"), "abcd", (8, 8))
    return tmp_path


def matrix_of(**model: Any) -> Matrix:
    """A profile with one model of these settings, and one whose images are not there."""
    return factories.matrix_of(
        pairs_profile(
            {"train": "rest", "test": "last 2"},
            external={"model": {"title": "A model", **model}, "absent": {"title": "Another", "folders": ABSENT}},
            scoring={"metrics": {"psnr_y": {"name": "psnr", "title": "PSNR-Y"}, "gmsd": {"name": "gmsd"}}},
            report={"tables": {"table": {"title": "A table", "rows": ["unadapted", "external/*"]}}},
        )
    )


def prepared(matrix: Matrix) -> PairSet:
    prepare("photos", matrix.profile.datasets["photos"], manifest_path("photos").parent, 4)
    return load_split(manifest_path("photos"), "test")


def score(matrix: Matrix) -> tuple[pd.DataFrame, list[str]]:
    said: list[str] = []
    score_block(matrix, None, matrix.tests, matrix.rows_on(None), matrix.results / "list.json", said.append)
    test = matrix.tests[0]
    sources = {(run, test.dataset): None for run in matrix.runs if run.backbone is None}
    rows, missing = collect_scores(matrix.profile, matrix.results, sources, {test.dataset: digest_of(test)})
    assert not missing
    digests = {f"{test.dataset}/{test.split}": digest_of(test)}
    write_scores(rows, matrix.results / "scores.parquet", fingerprint_of(matrix.profile.scoring, digests, {}))
    return rows, said


def psnr_of_model(scores: pd.DataFrame) -> dict[str, float]:
    mine = scores[(scores["variant"] == "model") & (scores["metric"] == "psnr_y")]
    return {str(name): value for name, value in mine.set_index("image")["value"].items()}


def place_outputs(test: PairSet, folder: Path = FOLDER) -> None:
    for name in test.names:
        write_image(folder / f"{name}.png", 32, f"restored {name}")


def test_a_folder_is_scored_as_a_row_without_backbone_and_seed(work: Path) -> None:
    """An image that the test dataset does not have is left alone."""
    matrix = matrix_of()
    test = prepared(matrix)
    place_outputs(test)
    write_image(FOLDER / "another.png", 16, "another")
    scores, _ = score(matrix)
    assert set(scores["backbone"]) == {""}
    assert set(scores["baseline"]) == {EXTERNAL}
    assert scores["seed"].isna().all()
    expected = {
        name: float(psnr_y(read_image(FOLDER / f"{name}.png")[None], hr[None]))
        for name, hr in zip(test.names, test.hr, strict=True)
    }
    assert psnr_of_model(scores) == pytest.approx(expected, abs=1e-4)
    absent = scores[scores["variant"] == "absent"]
    assert len(absent) == 4
    assert absent["value"].isna().all()
    assert set(absent["reason"]) == {"not measured: no folder nowhere"}


def test_a_checkpoint_restores_the_images_here(work: Path) -> None:
    source = Backbone(architecture="SAFMN", options={"dim": 8, "n_blocks": 1, "upscaling_factor": 4})
    torch.manual_seed(0)
    model = build(source, 4)
    torch.save({"params": model.state_dict()}, "model.pth")
    matrix = matrix_of(weights="model.pth")
    test = prepared(matrix)
    scores, _ = score(matrix)
    expected = [float(psnr_y(restore(model, lr[None]), hr[None])) for lr, hr in zip(test.lr, test.hr, strict=True)]
    assert list(psnr_of_model(scores).values()) == pytest.approx(expected, abs=1e-4)


def test_scores_are_made_again_for_other_images_only(work: Path) -> None:
    matrix = matrix_of()
    test = prepared(matrix)
    place_outputs(test)
    first, said = score(matrix)
    assert said
    again, said = score(matrix)
    assert not said
    pd.testing.assert_frame_equal(first, again)
    write_image(FOLDER / f"{test.names[0]}.png", 32, "better")
    changed, said = score(matrix)
    assert said
    mine = first["variant"] == "model"
    assert (changed[mine]["value"] != first[mine]["value"]).sum() == 2


def test_the_workflow_sees_images_come_and_change(work: Path) -> None:
    matrix = matrix_of()
    states = [folders_as_they_are(matrix.profile, ["photos"])]
    write_image(FOLDER / "c.png", 32, "one")
    states.append(folders_as_they_are(matrix.profile, ["photos"]))
    write_image(FOLDER / "d.png", 32, "two")
    states.append(folders_as_they_are(matrix.profile, ["photos"]))
    assert states[0] == []
    assert states[1] != states[2]
    assert states[2] == folders_as_they_are(matrix.profile, ["photos"])


def test_everything_wrong_with_a_folder_is_one_line(work: Path) -> None:
    matrix = matrix_of()
    test = prepared(matrix)
    place_outputs(test)
    first, second = test.names
    (FOLDER / f"{first}.png").unlink()
    with pytest.raises(UserError, match=f"'{first}': no restored image of this name"):
        score(matrix)
    write_image(FOLDER / f"{first}.png", 16, "small")
    (FOLDER / f"{second}.png").write_bytes(b"no image")
    with pytest.raises(
        UserError, match=rf"restored {first}\.png: 16x16 beside HR 32x32: .*; restored {second}\.png: unreadable"
    ) as caught:
        score(matrix)
    assert "\n" not in str(caught.value)
    shutil.copy("pairs/hr/c.png", FOLDER / "c.bmp")
    shutil.copy("pairs/hr/c.png", FOLDER / "c.png")
    with pytest.raises(UserError, match=r"restored c\.png: has the same name as restored c\.bmp"):
        score(matrix)


def test_the_row_stands_among_other_methods_with_count_and_source(work: Path) -> None:
    matrix = matrix_of(parameters=123456, source="their page")
    place_outputs(prepared(matrix))
    scores, _ = score(matrix)
    results = read_results(matrix.profile, matrix.rows, matrix.matches(), matrix.results)
    write_table(build_table(results, "table"), matrix.reports)
    table = pd.read_csv(matrix.reports / "table.csv").set_index("row")
    mean = pd.Series(psnr_of_model(scores)).mean()
    assert table.loc["external/model", "psnr_y_mean"] == pytest.approx(mean)
    assert table.loc["external/model", "trainable_parameters_max"] == 123456
    assert "their page" in str(table.loc["external/model", "notes"])
    assert pd.isna(table.loc["external/absent", "psnr_y_mean"])
    assert "not measured: no folder nowhere" in str(table.loc["external/absent", "notes"]).lower()
    text = (matrix.reports / "table.md").read_text()
    assert "Other methods on photos" in text
    assert "photos: Pairs in the order of their names: " in text, "the split is stated"


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({"weights": "x.pth", "folders": {"photos": "x"}}, r"external\.model: give either `folders`"),
        ({"folders": {"phots": "x"}}, r"external\.model\.folders: no test dataset 'phots' \(did you mean 'photos'\?\)"),
    ],
)
def test_mistaken_settings_are_one_line(model: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        matrix_of(**model)
