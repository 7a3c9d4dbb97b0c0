"""Check or align the pairs of two folders, and write what was found: a page, a table, the aligned pairs and those dropped."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image as Picture

from adaptsr.camera.alignment import Aligned
from adaptsr.camera.measures import FARTHEST, Checked, check_pair
from adaptsr.data.images import read_image, write_png
from adaptsr.data.matching import Image, Side, match, size_text
from adaptsr.data.scenes import Sight, find_copy
from adaptsr.errors import UserError, raise_all
from adaptsr.files import refusal_explained, remove
from adaptsr.progress import Progress
from adaptsr.reporting.gallery import Box, PictureView, Tile, overview
from adaptsr.reporting.render import render, write_frame
from adaptsr.tensors import resized

WORST = 10
_DROPPED = "dropped.csv"
"""Only aligning writes it: a folder that has it holds pairs that aligning may replace."""
_SIDE = 64
"""LR pixels of the pictures on the page."""
_FLICKER_MILLISECONDS = 500


@dataclass(frozen=True)
class Summary:
    """What the check of a folder found. verdict: one sentence each."""

    pairs: tuple[Checked, ...]
    verdict: tuple[str, ...]


def check_folders(lr: Path, hr: Path, out: Path, scale: int | None, progress: Progress) -> Summary:
    """Check every pair and write `index.html` and `pairs.csv` into `out`. Raises `UserError` for unusable folders."""
    checked, worst = [], _Worst(out)
    with refusal_explained(out):
        (out / "pictures").mkdir(parents=True, exist_ok=True)
        for pair, small, large, cut in _pairs(lr, hr, scale, progress):
            checked.append(pair)
            worst.consider(pair, small, large, cut)
    summary = Summary(tuple(checked), tuple(_verdict(checked)))
    write_frame(out / "pairs.csv", _frame(checked))
    render(
        "compared.html",
        out / "index.html",
        title=f"{len(checked)} pairs: {lr} and {hr}",
        text=" ".join(summary.verdict),
        table=_table(checked),
        pictures=worst.views(),
    )
    return summary


def align_folders(lr: Path, hr: Path, out: Path, scale: int | None, progress: Progress) -> Summary:
    """Write every pair that can be aligned to `out/lr` and `out/hr`, as PNG, and all that was found to `out/pairs.csv`.

    `out/dropped.csv` lists the dropped pairs, each with the reason. Pairs of an earlier call are replaced, once all are aligned.
    """
    if {(out / "lr").resolve(), (out / "hr").resolve()} & {lr.resolve(), hr.resolve()}:
        raise UserError(f"{out}: aligned pairs would replace the given ones; give another folder with -o")
    sides, staging = (out / "lr", out / "hr"), out / ".aligning"
    if any(side.exists() for side in sides) and not (out / _DROPPED).is_file():
        raise UserError(f"{out}: holds images that this command did not write; give another folder with -o")
    remove(staging)
    checked = []
    for pair, _, _, cut in _pairs(lr, hr, scale, progress):
        checked.append(pair)
        if cut is not None and not pair.reason:
            write_png(staging / "lr" / f"{pair.name}.png", cut.lr)
            write_png(staging / "hr" / f"{pair.name}.png", cut.hr)
    dropped = [pair for pair in checked if pair.reason]
    write_frame(out / "pairs.csv", _frame(checked))
    write_frame(out / _DROPPED, pd.DataFrame([(p.name, p.reason) for p in dropped], columns=["name", "reason"]))
    for side in sides:  # those of an earlier call may be of other pairs
        remove(side)
        if (staging / side.name).is_dir():
            (staging / side.name).rename(side)
    remove(staging)
    if len(dropped) == len(checked):
        raise UserError(f"{lr} and {hr}: no pair can be aligned; {out / _DROPPED} says why")
    kept = f"{len(checked) - len(dropped)} of {len(checked)} pairs are aligned in {out}"
    return Summary(tuple(checked), (f"{kept}{f'; {len(dropped)} are dropped' if dropped else ''}.",))


def _pairs(
    lr: Path, hr: Path, scale: int | None, progress: Progress
) -> Iterator[tuple[Checked, torch.Tensor, torch.Tensor, Aligned | None]]:
    """Yield every pair as measured, its images, and the two aligned. Copies of a photograph say so."""
    problems: list[str] = []
    matched = match(Side("LR", lr), Side("HR", hr), problems)
    raise_all(f"{lr} and {hr}", problems)
    usual = scale or _usual_scale(matched)
    if usual == 1 and scale is None:
        progress(
            "LR and HR are of one size: if HR is the nearer view, such as by N times the focal length, give --scale N"
        )
    sights: dict[str, Sight] = {}
    for number, (name, (small, large)) in enumerate(matched.items(), start=1):
        read = _read(name, small, large)
        if isinstance(read, Checked):
            yield read, torch.zeros(3, 1, 1), torch.zeros(3, 1, 1), None
            continue
        if scale is None and (own := _scale(*(image.shape[1] * image.shape[2] for image in read))) != usual:
            reason = f"HR is {own} times LR, of most pairs {usual} times: {size_text(read[1])} and {size_text(read[0])}"
            yield Checked(name, reason=reason, findings=(reason,)), *read, None
            continue
        pair, cut = check_pair(name, *read, usual)
        sight = Sight.of(read[1])
        if found := find_copy(sight, list(sights.values())):
            other = list(sights)[found[0]]
            pair = dataclasses.replace(pair, findings=(*pair.findings, f"HR shows the photograph of {other}"))
        sights[name] = sight
        progress(f"{number} of {len(matched)}: {name}: {'; '.join(pair.findings) or 'fine'}")
        yield pair, *read, cut


def _read(name: str, small: Image, large: Image) -> tuple[torch.Tensor, torch.Tensor] | Checked:
    try:
        return read_image(small.path, converting=True), read_image(large.path, converting=True)
    except UserError as error:
        return Checked(name, reason=str(error), findings=(str(error),))


def _usual_scale(matched: Mapping[str, tuple[Image, Image]]) -> int:
    """Return the ratio of sizes that most pairs have, by what their files say; 0 if none can be read."""
    found: Counter[int] = Counter()
    for pair in matched.values():
        with contextlib.suppress(Exception):  # of damaged files of any kind; said where the pair is read
            pixels = []
            for image in pair:
                with Picture.open(image.path) as opened:
                    pixels.append(opened.width * opened.height)
            found[_scale(*pixels)] += 1
    return found.most_common(1)[0][0] if found else 0


def _scale(lr_pixels: int, hr_pixels: int) -> int:
    return max(1, round(math.sqrt(hr_pixels / lr_pixels)))


def _verdict(checked: Sequence[Checked]) -> Iterator[str]:
    """Say what to do with these pairs, one sentence each."""
    useless = [pair for pair in checked if pair.reason]
    shifted = [pair for pair in checked if pair.is_misaligned]
    noted = [pair for pair in checked if pair.findings and not pair.reason and not pair.is_misaligned]
    if not useless and not shifted:
        yield f"All {len(checked)} pairs lie on one another to {FARTHEST} LR pixels."
    if shifted:
        yield (
            f"{len(shifted)} of {len(checked)} pairs are off by more than {FARTHEST} LR pixels: align them with "
            "`adaptsr pairs align`."
        )
    if useless:
        yield f"{len(useless)} of {len(checked)} pairs are of no use; `adaptsr pairs align` drops them."
    if noted:
        yield f"Other findings: {len(noted)} of {len(checked)} pairs; see the table."
    reached = [
        (pair.bicubic, pair.bicubic_aligned)
        for pair in checked
        if pair.bicubic is not None
        and pair.bicubic_aligned is not None
        and math.isfinite(pair.bicubic + pair.bicubic_aligned)
    ]
    if reached:
        now, then = (statistics.mean(values) for values in zip(*reached, strict=True))
        yield f"Bicubic enlargement reaches {now:.2f} dB PSNR-Y, and {then:.2f} dB once the pairs are aligned."


def _frame(checked: Sequence[Checked]) -> pd.DataFrame:
    rows = [{**dataclasses.asdict(pair), "findings": "; ".join(pair.findings)} for pair in checked]
    return pd.DataFrame(rows)


_COLUMNS: Mapping[str, tuple[str, int]] = {
    "farthest": ("off (LR pixels)", 2),
    "shift_x": ("right", 2),
    "shift_y": ("down", 2),
    "rotation": ("turned (degrees)", 2),
    "zoom": ("zoom", 4),
    "brightness": ("brightness (levels)", 1),
    "color": ("color (levels)", 1),
    "contrast": ("contrast", 2),
    "blur": ("blur (LR pixels)", 1),
    "detail": ("detail of HR (levels)", 1),
    "bicubic": ("bicubic (dB)", 2),
    "bicubic_aligned": ("aligned (dB)", 2),
}
"""The columns of the page: heading and decimals."""


def _table(checked: Sequence[Checked]) -> dict[str, object]:
    rows = []
    for pair in checked:
        values = [(getattr(pair, column), decimals) for column, (_, decimals) in _COLUMNS.items()]
        cells = ["-" if value is None else f"{value:.{decimals}f}" for value, decimals in values]
        rows.append((pair.name, cells, "; ".join(pair.findings)))
    return {
        "first": "Name",
        "last": "Findings",
        "headings": [heading for heading, _ in _COLUMNS.values()],
        "rows": rows,
    }


class _Worst:
    """Keeps the views of the worst pairs: those of no use first, then the farthest off."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._kept: list[tuple[tuple[bool, int, float], PictureView, str]] = []
        self._number = 0

    def consider(self, pair: Checked, lr: torch.Tensor, hr: torch.Tensor, cut: Aligned | None) -> None:
        rank = (bool(pair.reason), len(pair.findings), pair.farthest or 0.0)
        if min(lr.shape[1:]) < 8 or (len(self._kept) == WORST and rank <= self._kept[-1][0]):
            return
        self._number += 1
        self._kept.append((rank, *self._view(pair, lr, hr)))
        self._kept.sort(key=lambda kept: kept[0], reverse=True)
        del self._kept[WORST:]

    def views(self) -> list[tuple[PictureView, str]]:
        return [(view, caption) for _, view, caption in self._kept]

    def _view(self, pair: Checked, lr: torch.Tensor, hr: torch.Tensor) -> tuple[PictureView, str]:
        """Write the middle of a pair in place: HR, LR enlarged, and a picture that flickers between the two."""
        side = min(_SIDE, *lr.shape[1:])
        enlarged = resized(lr, (hr.shape[1], hr.shape[2])).round().clamp(0, 255).to(torch.uint8)
        large = min(round(side * hr.shape[1] / lr.shape[1]), *hr.shape[1:])
        box = Box((hr.shape[2] - large) // 2, (hr.shape[1] - large) // 2, large)
        high, low = (box.cut(image.permute(1, 2, 0).numpy()) for image in (hr, enlarged))
        tiles = (
            Tile("HR", image=self._write("hr", high)),
            Tile("HR and LR by turns", image=self._write("flicker", high, low)),
            Tile("LR, enlarged bicubically", image=self._write("lr", low)),
        )
        seen = overview(hr.permute(1, 2, 0).numpy(), box)
        view = PictureView(
            id=f"pair-{self._number}",
            image=pair.name,
            dataset="",
            overview=self._write("overview", seen),
            width=hr.shape[2],
            height=hr.shape[1],
            box=box,
            error_scale=0,
            references=tiles,
            groups=(),
        )
        return view, "; ".join(pair.findings) or "Nothing found."

    def _write(self, name: str, *frames: np.ndarray) -> str:
        path = Path("pictures") / f"{self._number}-{name}.png"
        (self._out / path).parent.mkdir(parents=True, exist_ok=True)
        first, *others = [Picture.fromarray(frame) for frame in frames]
        if others:
            first.save(self._out / path, save_all=True, append_images=others, duration=_FLICKER_MILLISECONDS, loop=0)
        else:
            first.save(self._out / path)
        return path.as_posix()
