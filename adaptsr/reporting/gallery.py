"""Show restored pictures side by side, cropped to where the rows differ most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from adaptsr.data.manifest import Item
from adaptsr.errors import UserError
from adaptsr.reporting.metrics import metric_columns
from adaptsr.reporting.model import number_text
from adaptsr.reporting.results import NOT_FINISHED, Results
from adaptsr.reporting.significance import backbone_title
from adaptsr.runs.matrix import Row
from adaptsr.runs.run import Run
from adaptsr.scoring.pictures import Picture, find_pictures, kept_pictures, picture_path
from adaptsr.statistics import row_names

Pixels = NDArray[np.uint8]
"""RGB, shape (H, W, 3)."""

CROP = 80
OVERVIEW = 256
BOX = (255, 60, 0)
ERROR_QUANTILE = 0.995
ERROR_LEVELS = 64
BICUBIC = (None, "")
"""The key of the enlarged LR among restored images."""
LEAST_ERROR = 8.0
"""Error, in levels of 255, below which an error map never saturates: it must not magnify rounding."""


class Box(NamedTuple):
    """A square of an HR image, in pixels."""

    left: int
    top: int
    side: int

    def cut(self, image: Pixels) -> Pixels:
        """Return this part of an image."""
        return image[self.top : self.top + self.side, self.left : self.left + self.side]


@dataclass(frozen=True)
class Tile:
    """One restored crop.

    row: its name. image, error: files relative to the report's folder. scores: title and text of each metric. reason: why
    the crop is missing, else empty.
    """

    title: str
    row: str = ""
    image: str = ""
    error: str = ""
    scores: tuple[tuple[str, str], ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class TileGroup:
    """The tiles of one backbone, or of the external models."""

    title: str
    tiles: tuple[Tile, ...]


@dataclass(frozen=True)
class PictureView:
    """One test image: the whole HR image with the crop marked, the crops of HR and LR, and every restored crop.

    error_scale: the error at which its error maps saturate, in levels of 255; 0 for a photograph, which has no HR to err
    from and shows its enlarged LR as a whole.
    """

    id: str
    image: str
    dataset: str
    overview: str
    width: int
    height: int
    box: Box
    error_scale: float
    references: tuple[Tile, ...]
    groups: tuple[TileGroup, ...]

    @property
    def tiles(self) -> list[tuple[str, Tile]]:
        """Every crop that can be compared, with the title of its group."""
        grouped = [(group.title, tile) for group in self.groups for tile in group.tiles if tile.image]
        return [*(("References", tile) for tile in self.references), *grouped]


@dataclass(frozen=True)
class Gallery:
    """The pictures of a report, restored with one seed; `missing` says what could not be shown and why."""

    seed: int
    pictures: tuple[PictureView, ...]
    missing: tuple[str, ...]


def build_gallery(results: Results, folder: Path) -> Gallery:
    """Write the crops and error maps of the profile's pictures under `<folder>/pictures`.

    A run without its picture gets a tile with the reason. Raises `UserError` if no test dataset has a named picture.
    """
    items = {
        Picture(split.dataset, item.name): item
        for split in results.profile.data.test
        if split.dataset in results.manifests
        for item in results.manifests[split.dataset].splits.get(split.split, [])
    }
    named = results.profile.report.pictures
    if not items:
        return Gallery(results.profile.seeds[0], (), ("The test datasets are not prepared.",) if named else ())
    tests = [(dataset, [p.image for p in items if p.dataset == dataset]) for dataset in results.datasets]
    pictures = find_pictures(named, tests)
    views, missing = [], []
    for number, picture in enumerate(pictures, start=1):
        try:
            views.append(_Builder(results, folder, picture, items[picture], number).build())
        except UserError as error:
            missing.append(str(error))
    return Gallery(results.profile.seeds[0], tuple(views), tuple(missing))


@dataclass
class _Builder:
    """Builds the view of one picture."""

    results: Results
    folder: Path
    picture: Picture
    item: Item
    number: int

    def build(self) -> PictureView:
        lr = self._source(self.item.lr)
        factor = self.results.profile.scale
        size = (factor * lr.shape[1], factor * lr.shape[0])
        enlarged = np.asarray(Image.fromarray(lr).resize(size, Image.Resampling.BICUBIC))
        hr = self._source(self.item.hr) if self.item.hr_sha256 else None
        whole = enlarged if hr is None else hr
        found = {
            (backbone, row.name): self._restored(backbone, row, whole.shape)
            for backbone in self._backbones
            for row in self.results.rows
            if row.on(backbone)
        }
        restored = {key: image for key, image in found.items() if not isinstance(image, str)}
        side = crop_side(whole.shape, factor)
        beside = [enlarged] if hr is None else []  # so that one row alone has a place where it differs
        groups = [[*images, *beside] for images in _by_backbone(restored)]
        box = most_different(groups, side) if groups else Box(0, 0, side)
        compared = {**restored, BICUBIC: enlarged} if hr is not None else {}
        errors = {key: error_of(box.cut(image), box.cut(whole)) for key, image in compared.items()}
        scale = error_scale(list(errors.values())) if errors else 0.0
        return PictureView(
            id=f"picture-{self.number}",
            image=self.picture.image,
            dataset=self.picture.dataset,
            overview=self._write("overview", overview(whole, box)),
            width=whole.shape[1],
            height=whole.shape[0],
            box=box,
            error_scale=scale,
            references=(
                *([Tile("HR", image=self._write("hr", box.cut(hr)))] if hr is not None else []),
                Tile(
                    "LR, enlarged bicubically",
                    image=self._write("lr", box.cut(enlarged)),
                    error=self._write_error("lr-error", errors.get(BICUBIC), scale),
                ),
            ),
            groups=tuple(
                TileGroup(
                    backbone_title(self.results.profile, backbone) if backbone else "Other models",
                    tuple(
                        self._tile(backbone, row, found[backbone, row.name], box, errors, scale)
                        for row in self.results.rows
                        if row.on(backbone)
                    ),
                )
                for backbone in self._backbones
            ),
        )

    @property
    def _backbones(self) -> list[str | None]:
        """The profile's backbones, followed by None if it has external models."""
        return [*self.results.profile.backbones, *([None] if self.results.profile.external else [])]

    def _source(self, path: str) -> Pixels:
        return read_pixels(self.results.resources / self.picture.dataset / path)

    def _restored(self, backbone: str | None, row: Row, shape: tuple[int, ...]) -> Pixels | str:
        """Return the restored image, or why it is missing."""
        run = Run(backbone, row.name, self.results.profile.seeds[0] if row.trained else None)
        restored = None
        if run.trained:
            record = self.results.records.get(run)
            if record is None:
                return self.results.failures.get(run, NOT_FINISHED)
            if record.status == "diverged":
                return f"seed {run.seed} diverged at iteration {record.diverged_at}"
            restored = record.result_key
        folder = run.folder(self.results.folder)
        if self.picture not in kept_pictures(folder, self.picture.dataset, restored):
            return "not restored yet"
        image = read_pixels(picture_path(folder, self.picture))
        return image if image.shape == shape else "restored from another version of the dataset"

    def _tile(
        self,
        backbone: str | None,
        row: Row,
        found: Pixels | str,
        box: Box,
        errors: Mapping[tuple[str | None, str], NDArray[np.float64]],
        scale: float,
    ) -> Tile:
        if isinstance(found, str):
            return Tile(row.title, row.name, reason=found)
        name = Run(backbone, row.name, None).name.replace("/", "-")
        return Tile(
            title=row.title,
            row=row.name,
            image=self._write(name, box.cut(found)),
            error=self._write_error(f"{name}-error", errors.get((backbone, row.name)), scale),
            scores=self._scores(backbone, row),
        )

    def _scores(self, backbone: str | None, row: Row) -> tuple[tuple[str, str], ...]:
        """Return the scores of the whole image under this row, as far as they exist."""
        values = self._image_scores.get((backbone, row.name), {})
        return tuple(
            (metric.title, number_text(values[metric.name], self.results.decimals.get(metric.name, 4)))
            for metric in metric_columns(self.results.profile)
            if metric.name in values
        )

    @cached_property
    def _image_scores(self) -> dict[tuple[str | None, str], dict[str, float]]:
        scores = self.results.scores
        seed = self.results.profile.seeds[0]
        here = (scores["dataset"] == self.picture.dataset) & (scores["image"] == self.picture.image)
        shown = scores[here & (scores["seed"].isna() | (scores["seed"] == seed)).fillna(True)].dropna(subset="value")
        found: dict[tuple[str | None, str], dict[str, float]] = {}
        for backbone, row, metric, value in zip(
            shown["backbone"], row_names(shown), shown["metric"], shown["value"], strict=True
        ):
            found.setdefault((backbone or None, row), {})[metric] = value
        return found

    def _write(self, name: str, pixels: Pixels) -> str:
        return self._save(name, Image.fromarray(pixels))

    def _write_error(self, name: str, error: NDArray[np.float64] | None, scale: float) -> str:
        """Write an error map: 0 to `scale` in `ERROR_LEVELS` colors of one palette. Without an error, write nothing."""
        if error is None:
            return ""
        levels = np.clip(error / scale * (ERROR_LEVELS - 1), 0, ERROR_LEVELS - 1).round().astype(np.uint8)
        image = Image.fromarray(levels)
        image.putpalette(error_palette())
        return self._save(name, image)

    def _save(self, name: str, image: Image.Image) -> str:
        path = Path("pictures") / f"{self.number}-{self.picture.image}" / f"{name}.png"
        (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        image.save(self.folder / path, format="PNG", optimize=True)
        return path.as_posix()


def read_pixels(path: Path) -> Pixels:
    """Read an image as RGB. Raises `UserError` if the file is missing or unreadable."""
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except OSError as error:
        raise UserError(f"{path}: this picture cannot be read: {error}") from None


def crop_side(shape: tuple[int, ...], scale: int) -> int:
    """Return half the shorter side of an image, at most `CROP`, as a multiple of the scale."""
    side = min(CROP, min(shape[:2]) // 2)
    return max(1, side - side % scale)


def _by_backbone(restored: Mapping[tuple[str | None, str], Pixels]) -> list[list[Pixels]]:
    backbones = dict.fromkeys(backbone for backbone, _ in restored)
    return [[image for (of, _), image in restored.items() if of == backbone] for backbone in backbones]


def most_different(groups: Sequence[Sequence[Pixels]], side: int) -> Box:
    """Find the square with the greatest sum, over pixels and groups, of the variance between the images of a group.

    groups: images of one shape, (H, W, 3). Of equal squares the first is taken, row by row.
    """
    height, width = groups[0][0].shape[:2]
    variance = np.zeros((height, width))
    for group in groups:
        grey = np.stack([image.mean(axis=2) for image in group])
        variance += grey.var(axis=0)
    sums = np.pad(variance.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    inside = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    top, left = np.unravel_index(int(inside.round(6).argmax()), inside.shape)
    return Box(int(left), int(top), side)


def error_of(image: Pixels, reference: Pixels) -> NDArray[np.float64]:
    """Return the absolute difference in levels of 255, mean over the colors, (H, W)."""
    error: NDArray[np.float64] = np.abs(image.astype(float) - reference.astype(float)).mean(axis=2)
    return error


def error_scale(errors: Sequence[NDArray[np.float64]]) -> float:
    """Return the error at which all maps of one picture saturate, in levels of 255."""
    return max(LEAST_ERROR, float(np.quantile(np.concatenate([e.ravel() for e in errors]), ERROR_QUANTILE)))


def error_palette() -> list[int]:
    """Return a palette from dark (small error) to bright (large error) that does not depend on color vision."""
    from matplotlib import colormaps

    colors = colormaps["cividis"].resampled(ERROR_LEVELS)(range(ERROR_LEVELS))
    return [round(255 * level) for color in colors for level in color[:3]]


def overview(image: Pixels, box: Box) -> Pixels:
    """Shrink an image to at most `OVERVIEW` pixels and mark the crop."""
    picture = Image.fromarray(image)
    factor = min(1.0, OVERVIEW / max(picture.size))
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    picture = picture.resize(size, Image.Resampling.LANCZOS) if factor < 1 else picture
    corner = (box.left * factor, box.top * factor)
    far = ((box.left + box.side) * factor - 1, (box.top + box.side) * factor - 1)
    ImageDraw.Draw(picture).rectangle([corner, far], outline=BOX, width=2)
    return np.asarray(picture)
