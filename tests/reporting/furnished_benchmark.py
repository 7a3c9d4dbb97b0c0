"""The made-up benchmark with all that a whole report shows: validation curves, plans with ranks, restored pictures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from adaptsr.reporting.page import write_report
from adaptsr.runs.records import ValidationPoint
from adaptsr.runs.run import Run
from tests.reporting.made_up_benchmark import BACKBONES, IMAGES, SEEDS, World

SIDE = 64
PICTURES = ["cat-0", "sky-1"]
COMMAND = "adaptsr report --profile toy.yaml"
CHANGED = (slice(8, 24), slice(32, 48))
"""Rows and columns of HR in which the rows of the benchmark differ from each other."""


def furnish(world: World) -> World:
    """Write a world, then everything else that its report is made of."""
    world.content["report"]["pictures"] = PICTURES
    for key, record in world.records.items():
        world.records[key] = record.model_copy(
            update={
                "validation": _curve(key[1]),
                "wall_seconds": 7200.0,
                "processor_seconds": 7000.0,
                "step_memory_bytes": 2**20,
            }
        )
    world.write()
    random = np.random.default_rng(1)
    hr = {image: random.integers(60, 180, (SIDE, SIDE, 3), dtype=np.uint8) for image in IMAGES}
    _write_dataset(world.resources / "photos", hr)
    for backbone in BACKBONES:
        _write_pictures(world.results / backbone / "unadapted", hr, 0, "any key")
        for place, row in enumerate(world.rows[1:], start=1):
            run = world.results / backbone / row.name / f"seed{SEEDS[0]}"
            _write_pictures(run, hr, place, world.records[Run(backbone, row.name, SEEDS[0])].result_key)
        for seed in SEEDS:
            _write_plan(world.results / backbone / "rank_aware/gradient" / f"seed{seed}", seed)
    return world


def report(world: World, out: Path | None = None, *, partial: bool = False) -> Path:
    """Write the page of a world; returns it."""
    folder = out or world.reports / "toy"
    write_report(world.read(partial=partial), folder, COMMAND)
    return folder / "index.html"


def _curve(row: str) -> list[ValidationPoint]:
    level = 26.5 + 0.01 * len(row)
    points = ((0, 26.0, 0.0), (5, level - 0.1, 3600.0), (10, level, 7200.0))
    return [ValidationPoint(iteration=i, psnr_y=value, seconds=seconds) for i, value, seconds in points]


def _write_dataset(folder: Path, hr: dict[str, np.ndarray]) -> None:
    for image, pixels in hr.items():
        _save(folder / f"hr/{image}.png", pixels)
        _save(folder / f"lr/{image}.png", pixels[::4, ::4])


def _write_pictures(run: Path, hr: dict[str, np.ndarray], place: int, key: str) -> None:
    for image in PICTURES:
        restored = hr[image].copy()
        restored[CHANGED] += np.uint8(5 * place)
        _save(run / "pictures/photos" / f"{image}.png", restored)
    listed = {"restored": key, "pictures": PICTURES}
    (run / "pictures/photos/pictures.json").write_text(json.dumps(listed), encoding="utf-8")


def _write_plan(run: Path, seed: int) -> None:
    sites = ["conv_first", *(f"body.{i}.conv{j}" for i in range(3) for j in (1, 2))]
    plan = {
        "ranks": {site: 1 + (i + seed) % 4 for i, site in enumerate(sites)},
        "scores": {site: 0.1 / (i + 1) for i, site in enumerate(sites)},
    }
    (run / "plan.json").write_text(json.dumps(plan), encoding="utf-8")


def _save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(pixels)).save(path)
