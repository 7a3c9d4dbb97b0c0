"""Score a folder of restored images, from any model, against a folder of references, or without any."""

from __future__ import annotations

import importlib.metadata
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptsr.config.schema import Metric, Scoring
from adaptsr.data.matching import Side, list_images, match, read, read_matched
from adaptsr.errors import raise_all
from adaptsr.metrics.conventions import Convention
from adaptsr.scoring.scorer import Scorer, ScoreRow

if TYPE_CHECKING:
    import torch

_GPU_PIXELS = 16 * 512 * 512
"""Pixels of the pairs that are scored together on a GPU, in batches. On a CPU it is one pair, to need less memory."""


def standard_scoring() -> Scoring:
    """Return the metrics of `adaptsr score`: PSNR-Y, SSIM-Y, LPIPS (AlexNet) and DISTS."""
    return Scoring(
        metrics={
            "psnr_y": Metric(name="psnr", title="PSNR-Y (dB)"),
            "ssim_y": Metric(name="ssim", title="SSIM-Y"),
            "lpips": Metric(name="lpips", title="LPIPS (AlexNet)"),
            "dists": Metric(name="dists", title="DISTS"),
        }
    )


def named_scoring(names: Sequence[str]) -> Scoring:
    """Return a scoring with these metrics of pyiqa, each under its own name."""
    return Scoring(
        metrics={re.sub(r"[^a-z0-9_.-]", "_", name.lower()): Metric(name=name, title=name) for name in names}
    )


def score_folders(sr: Path, hr: Path | None, scoring: Scoring, crop_border: int, device: str = "cpu") -> dict[str, Any]:
    """Score every image of `sr` against the image of the same name, whatever its extension, in `hr`; alone if that is None.

    Returns a dict for `json.dumps`: `conventions` per metric, `mean` and `images` (`name`, one key per metric). A value
    that is missing, or infinite because the images are identical, is None with its reason under `reasons`, and so is a
    mean over such a value.

    Raises one `UserError` that names every image without a partner, unreadable, or of another size than its partner.
    """
    pairs = matched_folders(sr, hr) if hr else _listed(sr)
    # Every reference is scored once: nothing of it is worth remembering.
    scorer = Scorer(scoring.model_copy(update={"crop_border": crop_border}), device, feature_memory=0)
    names = sorted(pairs)
    rows = list(_score_pairs(scorer, pairs, names, _GPU_PIXELS if device.startswith("cuda") else 0))
    columns = [convention.column for convention in scorer.conventions]
    return {
        "conventions": {convention.column: _describe(convention, crop_border) for convention in scorer.conventions},
        "mean": _means(rows, columns),
        "images": [
            _image_entry(name, rows[start : start + len(columns)])
            for name, start in zip(names, range(0, len(rows), len(columns)), strict=True)
        ],
    }


def as_text(scored: Mapping[str, Any]) -> str:
    """Format the result of `score_folders` as a table, one line an image and one for the mean."""
    heads = {name: name if about["reference"] else about["title"] for name, about in scored["conventions"].items()}
    width = max(len("mean"), *(len(image["name"]) for image in scored["images"]))
    lines = [f"{'image':<{width}}  " + "  ".join(f"{head:>9}" for head in heads.values())]
    for image in [*scored["images"], {"name": "mean", **scored["mean"]}]:
        cells = ("-" if image[name] is None else f"{image[name]:.4f}" for name in heads)
        columns = zip(cells, heads.values(), strict=True)
        lines.append(
            f"{image['name']:<{width}}  " + "  ".join(f"{cell:>{max(9, len(head))}}" for cell, head in columns)
        )
    return "\n".join(lines)


def _listed(sr: Path) -> dict[str, tuple[Path, ...]]:
    """List restored images and check that each can be read."""
    problems: list[str] = []
    found = list_images(Side("restored", sr), problems)
    for image in found.values():
        read(image, problems, converting=True)
    raise_all(str(sr), problems)
    return {name: (image.path,) for name, image in found.items()}


def matched_folders(sr: Path, hr: Path) -> dict[str, tuple[Path, ...]]:
    """Match restored images and references by name and check that every pair can be read and is of one size."""
    from adaptsr.data.images import say_second_pictures

    problems: list[str] = []
    pairs = match(Side("restored", sr), Side("reference", hr), problems)
    for restored, reference in pairs.values():
        read_matched(reference, restored, 1, problems, converting=True)
    raise_all(f"{sr} and {hr}", problems)
    for side in zip(*pairs.values(), strict=True):
        say_second_pictures(image.path for image in side)
    return {name: (restored.path, reference.path) for name, (restored, reference) in pairs.items()}


def _score_pairs(
    scorer: Scorer, pairs: Mapping[str, tuple[Path, ...]], names: Sequence[str], most_pixels: int
) -> Iterator[ScoreRow]:
    """Score the pairs in order, as many at a time as it takes to reach `most_pixels`."""
    from adaptsr.data.images import read_image

    held: list[tuple[str, list[torch.Tensor]]] = []
    for name in names:
        held.append((name, [read_image(path, converting=True) for path in pairs[name]]))
        if name == names[-1] or sum(images[0][0].numel() for _, images in held) >= most_pixels:
            of_names = [name for name, _ in held]
            restored, *references = zip(*(images for _, images in held), strict=True)
            held.clear()
            yield from scorer.score(restored, references[0] if references else None, of_names)


def _describe(convention: Convention, crop_border: int) -> dict[str, Any]:
    return {
        "title": convention.heading,
        "metric": f"pyiqa {importlib.metadata.version('pyiqa')} {convention.name}",
        "options": dict(convention.options),
        "reference": convention.reference,
        "weights": convention.weights,
        "color_space": convention.color_space,
        "crop_border": crop_border,
        "lower_is_better": convention.lower_is_better,
    }


def _image_entry(name: str, rows: Sequence[ScoreRow]) -> dict[str, Any]:
    values = {row.metric: _finite(row.value) for row in rows}
    return _with_reasons({"name": name, **values}, {row.metric: _reason(row) for row in rows})


def _means(rows: Sequence[ScoreRow], columns: Sequence[str]) -> dict[str, Any]:
    means: dict[str, Any] = {}
    reasons: dict[str, str | None] = {}
    for column in columns:
        of_column = [row for row in rows if row.metric == column]
        values = [row.value for row in of_column if _reason(row) is None and row.value is not None]
        complete = len(values) == len(of_column)
        means[column] = math.fsum(values) / len(values) if complete else None
        reasons[column] = None if complete else _mean_reason(of_column)
    return _with_reasons(means, reasons)


def _mean_reason(rows: Sequence[ScoreRow]) -> str:
    missing = [reason for row in rows if (reason := _reason(row))]
    return missing[0] if len(missing) == len(rows) else f"{len(missing)} of {len(rows)} images: {missing[0]}"


def _with_reasons(values: dict[str, Any], reasons: Mapping[str, str | None]) -> dict[str, Any]:
    given = {column: reason for column, reason in reasons.items() if reason}
    return {**values, "reasons": given} if given else values


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _reason(row: ScoreRow) -> str | None:
    return "infinite: the images are identical" if row.value == math.inf else row.reason
