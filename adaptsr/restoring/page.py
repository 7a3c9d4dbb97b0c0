"""Write a page that compares restored photographs with bicubic enlargement, at the place with the most detail."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from adaptsr import files
from adaptsr.progress import Progress
from adaptsr.reporting.gallery import Box, PictureView, Pixels, Tile, most_different, overview
from adaptsr.reporting.render import render
from adaptsr.restoring.folders import Job, restore_levels
from adaptsr.restoring.models import Restorer
from adaptsr.restoring.naturalness import NAME, measure_naturalness
from adaptsr.restoring.photographs import KINDS, read_photograph

PAGE = "compare.html"
MOST = 50
_SIDE = 96
_AROUND = 64
"""LR pixels around the crop that are restored with it."""


def write_comparison(restorer: Restorer, jobs: Sequence[Job], out: Path, progress: Progress) -> Path:
    """Write `compare.html` and its crops into the folder of the restored photographs; return the page's path."""
    shown = jobs[:MOST]
    score, missing = measure_naturalness()
    about = (
        f"{missing}."
        if missing
        else (
            "NIQE, of the part around the crop, says without HR how natural a picture looks (lower is better), not how true it is."
        )
    )
    hidden = f" The first {MOST} of {len(jobs)} photographs are shown." if len(jobs) > MOST else ""
    render(
        "compared.html",
        out / PAGE,
        title=f"Restored with {restorer.name}",
        text="Left of the divider: enlarged bicubically. Right: restored. Each crop is where its photograph has the most "
        f"detail, enlarged without smoothing. {about}{hidden}",
        pictures=[_compare(restorer, job, out, number, score) for number, job in enumerate(shown, start=1)],
    )
    progress(f"{out / PAGE}: compares {len(shown)} photographs")
    return out / PAGE


def _compare(
    restorer: Restorer, job: Job, out: Path, number: int, score: Callable[[Pixels], str]
) -> tuple[PictureView, str]:
    photograph = read_photograph(job.source)
    channels = list(KINDS[photograph.mode].pictures[0])
    levels = np.ascontiguousarray(photograph.levels[..., channels])
    pixels = _seen(levels, photograph.mode)
    box = _detailed(pixels)
    left, top = (max(0, start - _AROUND) // _AROUND * _AROUND for start in (box.left, box.top))
    around = Box(left, top, box.side + 3 * _AROUND)
    kind = KINDS[photograph.mode]._replace(pictures=(tuple(range(len(channels))),), alpha=None)
    restored = _seen(restore_levels(restorer, kind, around.cut(levels)), photograph.mode)
    scale = restorer.scale
    inside = Box((box.left - around.left) * scale, (box.top - around.top) * scale, box.side * scale)
    enlarged = np.asarray(Image.fromarray(around.cut(pixels)).resize(restored.shape[1::-1], Image.Resampling.BICUBIC))

    def write(name: str, image: Pixels) -> str:
        path = Path("compare") / f"{number}-{name}.png"
        with files.refusal_explained(out / path):
            (out / path).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(out / path)
        return path.as_posix()

    height, width = pixels.shape[:2]
    view = PictureView(
        id=f"picture-{number}",
        image=job.source.name,
        dataset="",
        overview=write("overview", overview(pixels, box)),
        width=width,
        height=height,
        box=box,
        error_scale=0,
        references=(
            Tile("Restored", image=write("restored", inside.cut(restored)), scores=((NAME, score(restored)),)),
            Tile(
                "Enlarged bicubically", image=write("bicubic", inside.cut(enlarged)), scores=((NAME, score(enlarged)),)
            ),
        ),
        groups=(),
    )
    return view, f"{width}x{height} pixels, restored to {width * scale}x{height * scale}."


def _seen(levels: Pixels, mode: str) -> Pixels:
    """Return levels of 8 or 16 bit, grey, RGB or CMY, as 8-bit RGB for the page."""
    eight = levels if levels.dtype == np.uint8 else (levels >> 8).astype(np.uint8)
    light = 255 - eight if KINDS[mode].inverted else eight
    return np.repeat(light, 3, axis=2) if light.shape[2] == 1 else light


def _detailed(pixels: Pixels) -> Box:
    """Find the square that smoothing changes most."""
    smooth = np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(2)))
    return most_different([[pixels, smooth]], min(_SIDE, *pixels.shape[:2]))
