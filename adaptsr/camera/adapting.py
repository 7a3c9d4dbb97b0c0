"""Adapt a model to a folder of pairs: choose split, crop and schedule, write a profile, and let the workflow run it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic
import torch
import yaml
from torch import nn
from torch.nn import functional

from adaptsr import files
from adaptsr.backbones.build import build_from_file
from adaptsr.backbones.gate import facts
from adaptsr.camera.splitting import scenes_of, split_scenes
from adaptsr.config import schema
from adaptsr.config.mistakes import validate
from adaptsr.data.fetch import resolve_weights
from adaptsr.data.images import read_image
from adaptsr.data.manifest import SplitName
from adaptsr.data.matching import Side, match, size_mismatch
from adaptsr.data.scenes import Sight
from adaptsr.errors import UserError, raise_all
from adaptsr.progress import Progress
from adaptsr.runs.exporting import export_run
from adaptsr.runs.matrix import Matrix
from adaptsr.runs.run import Run

TEMPLATE = Path("config/pilot.yaml")
FOLDER = Path("resources/adapt")
BACKBONE = "given"
_CROP = 32
"""LR pixels of a training crop, as in the template."""
_TRAINING_SHARE = 0.7
"""Of the time that is given; the rest is for starting, validating and scoring."""
_TIMED_STEPS = 3
_PICTURES = 6


@dataclass(frozen=True)
class Request:
    """What a user asks for. method: a row. minutes: decides the iterations unless they are given."""

    name: str
    pairs: Path
    weights: str
    method: str
    iterations: int | None
    minutes: float | None
    cores: int
    baselines: tuple[Path, ...]


def adapt(request: Request, progress: Progress) -> Path:
    """Adapt a model and return the folder to take away. Repeated, it goes on where it stopped.

    Raises `UserError` for pairs, weights or a method that cannot be used, before anything trains.
    """
    _check_name(request.name)
    weights = resolve_weights(request.weights)
    model = build_from_file(weights)
    profile = _profile(request, model, weights, progress)
    path = FOLDER / request.name / "profile.yaml"
    checked = validate(profile, path)
    matrix = Matrix.of(checked, str(path), request.baselines)
    matrix.variant(request.method)
    with files.atomic_write(path) as temporary:
        temporary.write_text(yaml.safe_dump(profile, sort_keys=False, allow_unicode=True), encoding="utf-8")
    command = ["snakemake", "--cores", str(request.cores), "all", "--configfile", str(path)]
    if extra := request.baselines[1:]:
        command += ["--config", f"baselines={extra[0]}"]
    progress(" ".join(command))
    if subprocess.run([sys.executable, "-m", *command], check=False).returncode:
        raise UserError(f"{request.name}: the workflow has stopped; its last lines say why; run the same command again")
    run = Run(BACKBONE, request.method, matrix.profile.seeds[0])
    folder = matrix.results / "model"
    export_run(run.folder(matrix.results), folder, folders=request.baselines)
    return folder


def _check_name(name: str) -> None:
    try:
        pydantic.TypeAdapter(schema.Name).validate_python(name)
    except pydantic.ValidationError as error:
        raise UserError(f"-o {name}: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from None
    if (TEMPLATE.parent / f"{name}.yaml").exists():
        raise UserError(f"-o {name}: config/{name}.yaml is another profile of this name; give another")


def _profile(request: Request, model: nn.Module, weights: Path, progress: Progress) -> dict[str, Any]:
    """Choose what the user leaves open, say it, and return a profile made of the template."""
    scale = facts(model).scale
    splits, smallest = _place_pairs(request, scale, progress)
    multiple = max(8, facts(model).sizes.multiple_of)
    crop = min(_CROP, smallest) // multiple * multiple
    if crop == 0:
        raise UserError(
            f"{request.pairs}: the smallest LR image has {smallest} pixels a side; expected at least {multiple}"
        )
    content: dict[str, Any] = yaml.safe_load(TEMPLATE.read_text(encoding="utf-8"))
    del content["paper"]
    training = {**content["training"], "crop": scale * crop}
    training["iterations"] = request.iterations or training["iterations"]
    if request.minutes and not request.iterations:
        step = _seconds_of_a_step(model, crop, training["batch_size"])
        waves = -(-len(content["seeds"]) // request.cores)
        training["iterations"] = max(20, int(60 * request.minutes * _TRAINING_SHARE / step / waves))
        progress(f"a step takes about {step:.2f} s: {training['iterations']} iterations in {request.minutes:g} minutes")
    training["validate_every"] = max(1, training["iterations"] // 4)
    progress(
        f"crops of {crop} LR pixels, batch {training['batch_size']}, {training['iterations']} iterations; {request.method}"
    )
    baseline, _, variant = request.method.partition("/")
    changes: dict[str, Any] = {path.stem: {"rows": []} for folder in request.baselines for path in folder.glob("*.py")}
    own = content["baselines"].get(baseline, {})
    changes[baseline] = {**own, "rows": [variant]}
    datasets = {split: _dataset(request.name, split) for split in splits}
    return {
        **content,
        "name": request.name,
        "title": f"{weights.stem}, adapted to {request.pairs.name}",
        "scale": scale,
        "datasets": datasets,
        "data": {
            "train": [{"dataset": "train", "split": "train"}],
            "validation": {"dataset": "validation", "split": "validation"},
            "test": [{"dataset": "test", "split": "test"}],
        },
        "backbones": {BACKBONE: {"architecture": "auto", "weights": str(weights.resolve())}},
        "training": training,
        "baselines": changes,
        "report": {
            "comparable_with_paper": False,
            "pictures": splits["test"][:_PICTURES],
            "tables": {"adaptation": {"title": "Before and after", "rows": ["unadapted", request.method]}},
            "comparisons": [{"title": "What was gained", "rows": [request.method], "compared_with": "unadapted"}],
        },
    }


def _dataset(name: str, split: str) -> dict[str, Any]:
    folder = FOLDER / name / split
    return {"kind": "pairs", "lr": str(folder / "lr"), "hr": str(folder / "hr"), "split": {split: "all"}}


def _place_pairs(request: Request, scale: int, progress: Progress) -> tuple[Mapping[SplitName, list[str]], int]:
    """Put every pair into the folder of its split, and return the splits and the smallest side of an LR image."""
    problems: list[str] = []
    matched = match(Side("LR", request.pairs / "lr"), Side("HR", request.pairs / "hr"), problems)
    sights, smallest = {}, 10**9
    for name, (lr, hr) in matched.items():
        small, large = read_image(lr.path), read_image(hr.path)
        if mismatch := size_mismatch(small, large, scale):
            problems.append(f"{hr}: {mismatch.replace('the profile', 'the model')}")
        sights[name] = Sight.of(large)
        smallest = min(smallest, *small.shape[1:])
    raise_all(str(request.pairs), problems)
    splits = split_scenes(sights, str(request.pairs))
    told = ", ".join(f"{len(names)} for {split}" for split, names in splits.items())
    progress(f"{len(sights)} pairs of {len(scenes_of(sights))} scenes: {told}")
    for split, names in splits.items():
        for side in (0, 1):
            folder = FOLDER / request.name / split / ("lr", "hr")[side]
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            for name in names:
                source = matched[name][side].path.resolve()
                _place(source, folder / f"{name}{source.suffix}")
    return splits, smallest


def _place(source: Path, target: Path) -> None:
    """Link a file, or copy it where the disk is another; times are kept, which tell the workflow that nothing changed."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _seconds_of_a_step(model: nn.Module, crop: int, batch: int) -> float:
    """Return how long a step of full fine-tuning takes here; methods that train less are a little faster."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = model.to(device).train()
    lr = torch.rand(batch, 3, crop, crop, device=device)
    for step in range(_TIMED_STEPS + 1):
        if step == 1:  # the first one warms up
            started = time.monotonic()
        restored = model(lr)
        functional.l1_loss(restored, torch.zeros_like(restored)).backward()  # type: ignore[no-untyped-call]
        float(restored.detach().sum())  # wait for a GPU
    return (time.monotonic() - started) / _TIMED_STEPS
