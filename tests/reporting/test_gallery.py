"""Pictures: the crop is where the rows differ, error maps share a scale, and every hole has its reason."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adaptsr.reporting.gallery import (
    LEAST_ERROR,
    Box,
    Gallery,
    build_gallery,
    crop_side,
    error_of,
    error_scale,
    most_different,
    overview,
)
from adaptsr.runs.run import Run
from tests.reporting.furnished_benchmark import CHANGED, PICTURES, SIDE, furnish
from tests.reporting.made_up_benchmark import ROWS, World


def gallery_of(world: World, folder: Path) -> Gallery:
    return build_gallery(world.read(), folder)


def test_the_crop_lies_where_the_rows_differ_most(world: World, tmp_path: Path) -> None:
    picture = gallery_of(furnish(world), tmp_path).pictures[0]
    top, left = CHANGED[0].start, CHANGED[1].start
    assert picture.box.side == SIDE // 2
    assert picture.box.top <= top
    assert picture.box.top + picture.box.side >= CHANGED[0].stop
    assert picture.box.left <= left
    assert picture.box.left + picture.box.side >= CHANGED[1].stop


def test_the_box_is_that_of_a_search_over_all_of_them() -> None:
    random = np.random.default_rng(3)
    groups = [[random.integers(0, 255, (20, 24, 3), dtype=np.uint8) for _ in range(3)] for _ in range(2)]
    variance = sum(np.var([image.mean(axis=2) for image in group], axis=0) for group in groups)
    sums = {(top, left): variance[top : top + 8, left : left + 8].sum() for top in range(13) for left in range(17)}
    top, left = max(sums, key=lambda corner: sums[corner])
    assert most_different(groups, 8) == Box(left, top, 8)
    same = np.zeros((16, 16, 3), dtype=np.uint8)
    assert most_different([[same, same]], 8) == Box(0, 0, 8)


@pytest.mark.parametrize(
    ("shape", "side"), [((128, 128, 3), 64), ((512, 512, 3), 80), ((50, 90, 3), 24), ((6, 6, 3), 1)]
)
def test_the_crop_is_half_the_picture_at_most_and_fits_the_scale(shape: tuple[int, ...], side: int) -> None:
    assert crop_side(shape, 4) == side


def test_errors_are_absolute_differences_on_one_scale() -> None:
    image = np.full((4, 4, 3), 10, dtype=np.uint8)
    other = image.copy()
    other[0, 0] = (13, 7, 16)
    error = error_of(other, image)
    assert error[0, 0] == 4
    assert error.sum() == 4
    assert error_scale([error]) == LEAST_ERROR
    assert error_scale([np.full((2, 2), 50.0), np.zeros((2, 2))]) == 50


def test_files_hold_the_crops_as_they_are(world: World, tmp_path: Path) -> None:
    furnish(world)
    picture = gallery_of(world, tmp_path).pictures[0]
    [tile] = (tile for tile in picture.groups[0].tiles if tile.title == "SHiRA")
    restored = np.asarray(Image.open(world.results / f"edsr/shira/paper/seed1/pictures/photos/{PICTURES[0]}.png"))
    assert (np.asarray(Image.open(tmp_path / tile.image)) == picture.box.cut(restored)).all()
    with Image.open(tmp_path / tile.error) as error:
        assert error.size == (picture.box.side, picture.box.side)
    assert [reference.title for reference in picture.references] == ["HR", "LR, enlarged bicubically"]
    assert len(picture.tiles) == 2 + 4 * len(ROWS)


def test_scores_are_those_of_the_whole_picture_and_the_first_seed(world: World, tmp_path: Path) -> None:
    furnish(world)
    picture = gallery_of(world, tmp_path).pictures[0]
    tile = next(tile for tile in picture.groups[1].tiles if tile.row == "lora/r8")
    mask = world.lines(backbone="safmn", baseline="lora", variant="r8", seed=1, image=PICTURES[0], metric="psnr_y")
    assert dict(tile.scores)["PSNR-Y"] == f"{world.scores[mask]['value'].item():.3f}"
    assert next(tile for tile in picture.groups[1].tiles if tile.row == "unadapted").scores


def test_holes_say_why(world: World, tmp_path: Path) -> None:
    world.change("edsr", "lora/r1", 1, status="diverged", diverged_at=9)
    furnish(world)
    (world.results / "edsr/lora/r2/seed1/pictures/photos" / f"{PICTURES[0]}.png").unlink()
    lost = ("edsr", "lora/r8", 1)
    world.without(backbone="edsr", baseline="lora", variant="r8", seed=1)
    del world.records[lost]
    (Run(*lost).record_path(world.results)).unlink()
    world.write()
    reasons = {tile.row: tile.reason for tile in gallery_of(world, tmp_path).pictures[0].groups[0].tiles if tile.reason}
    assert reasons == {
        "lora/r1": "seed 1 diverged at iteration 9",
        "lora/r2": "not restored yet",
        "lora/r8": "not run or not finished",
    }


def test_a_dataset_that_is_not_there_is_said_to_be_missing(world: World, tmp_path: Path) -> None:
    furnish(world)
    (world.resources / "photos/hr" / f"{PICTURES[0]}.png").unlink()
    gallery = gallery_of(world, tmp_path)
    assert [picture.image for picture in gallery.pictures] == PICTURES[1:]
    assert "this picture cannot be read" in gallery.missing[0]
    (world.resources / "photos/manifest.json").unlink()
    assert gallery_of(world, tmp_path).missing == ("The test datasets are not prepared.",)


def test_a_photograph_without_hr_has_no_errors(world: World, tmp_path: Path) -> None:
    results = furnish(world).read()
    manifest = results.manifests["photos"]
    items = [item.model_copy(update={"hr": "", "hr_sha256": ""}) for item in manifest.splits["test"]]
    alone = manifest.model_copy(update={"splits": {"test": items}})
    picture = build_gallery(replace(results, manifests={"photos": alone}), tmp_path).pictures[0]
    assert [tile.title for tile in picture.references] == ["LR, enlarged bicubically"]
    assert (picture.error_scale, picture.width, picture.height) == (0, SIDE, SIDE)
    assert len(picture.tiles) == 1 + len(ROWS) * len(picture.groups)
    assert not any(tile.error for _, tile in picture.tiles)


def test_the_overview_shows_where_the_crop_is() -> None:
    shown = overview(np.zeros((512, 256, 3), dtype=np.uint8), Box(100, 200, 80))
    assert shown.shape == (256, 128, 3)
    assert shown[100, 50].any()
    assert not shown[90, 40].any()
