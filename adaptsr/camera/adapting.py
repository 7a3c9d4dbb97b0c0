"""Adapt a model to pairs or photographs: choose split, crop and schedule, write a profile, and let the workflow run it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic
from torch import nn

from adaptsr import devices, files
from adaptsr.backbones.build import build_from_file
from adaptsr.backbones.gate import facts
from adaptsr.camera.placing import Placed, place_pairs, place_photographs
from adaptsr.camera.schedule import FACTORS, VALIDATIONS, Schedule, measure, schedule
from adaptsr.camera.summary import Summary, write_summary
from adaptsr.config import schema, strict_yaml
from adaptsr.config.mistakes import validate
from adaptsr.config.reading import load_profile
from adaptsr.data.fetch import resolve_weights
from adaptsr.errors import UserError
from adaptsr.progress import Progress
from adaptsr.runs.exporting import export_run
from adaptsr.runs.matrix import Matrix
from adaptsr.runs.run import Run

PROFILES = Path("config")
FOLDER = Path("resources/adapt")
BACKBONE = "given"
_CROP = 32
"""LR pixels of a training crop, as in the template."""
_PICTURES = 6
_SEEDS = [1, 2, 3]
"""With two, Student's quantile is 12.7: a gain of 1 dB on the tests' RealSR pairs stayed undecided."""
_TUNING_SEED = 101


@dataclass(frozen=True)
class Request:
    """What a user asks for. method: a row. iterations: None chooses as many as `minutes` allow. template: a profile, whose
    schedule and metrics are used.

    degradation: None for `source` with pairs; else `source` holds HR photographs alone, from which LR is made.
    """

    name: str
    source: Path
    degradation: schema.Degradation | None
    weights: str
    method: str
    iterations: int | None
    minutes: float
    cores: int
    device: str
    template: Path
    baselines: tuple[Path, ...]


@dataclass(frozen=True)
class Adapted:
    """The folder to take away, and what was gained."""

    folder: Path
    summary: Summary


def adapt(request: Request, progress: Progress) -> Adapted:
    """Adapt a model. Repeated, it goes on where it stopped.

    Raises `UserError` for pairs, photographs, weights or a method that cannot be used, before anything trains.
    """
    _check_name(request.name)
    content, weights = _template(request.template), resolve_weights(request.weights)
    path = FOLDER / request.name / "profile.yaml"
    asked, note = files.digest(_asked(request, weights)), FOLDER / request.name / "asked.json"
    if path.is_file() and note.is_file() and (known := files.read_json(note, "what was asked for"))["asked"] == asked:
        progress(f"{path}: going on with what was chosen before")
        cores = int(known["cores"])
    else:
        note.unlink(missing_ok=True)
        profile, cores = _profile(content, request, build_from_file(weights), weights, progress)
        Matrix.of(validate(profile, path), str(path), request.baselines).variant(request.method)
        with files.atomic_write(path) as temporary:
            temporary.write_text(strict_yaml.text_of(profile), encoding="utf-8")
    matrix = Matrix.of(load_profile(path), str(path), request.baselines)
    files.write_json(note, {"asked": asked, "cores": cores})  # once the profile is known to be read back
    _run_workflow(request, path, min(cores, request.cores), progress)
    folder = matrix.results / "model"
    run = Run(BACKBONE, request.method, matrix.profile.seeds[0])
    export_run(run.folder(matrix.results), folder, folders=request.baselines, command=_command(request, matrix))
    return Adapted(folder, write_summary(matrix, folder))


def _asked(request: Request, weights: Path) -> dict[str, Any]:
    """Return what choices depend on, as JSON: the model, the files and the options, but not the number of cores."""
    images = sorted(path for path in request.source.rglob("*") if path.is_file())
    states = [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in images]
    degradation = request.degradation.model_dump(mode="json") if request.degradation else None
    options = [request.method, request.iterations, request.minutes, request.device, degradation]
    options.append(files.file_sha256(request.template))
    return {"weights": files.file_sha256(weights), "images": states, "options": options}


def _run_workflow(request: Request, path: Path, cores: int, progress: Progress) -> None:
    command = ["snakemake", "--cores", str(cores), "all", "--configfile", str(path)]
    if extra := request.baselines[1:]:
        command += ["--config", f"baselines={':'.join(map(str, extra))}"]
    progress(" ".join(command))
    if subprocess.run([sys.executable, "-m", *command], check=False).returncode:
        raise UserError(f"{request.name}: the workflow has stopped; its last lines say why; run the same command again")


def _command(request: Request, matrix: Matrix) -> str:
    """Return the command that makes the model again, without the paths of this machine."""
    given = "--photographs PHOTOGRAPHS --degradation ..." if request.degradation else "--pairs PAIRS"
    weights = Path(request.weights).name
    iterations = matrix.profile.schedule.iterations
    return f"adaptsr adapt {given} --weights {weights} -o {request.name} --method {request.method} --iterations {iterations}"


def _check_name(name: str) -> None:
    try:
        pydantic.TypeAdapter(schema.Name).validate_python(name)
    except pydantic.ValidationError as error:
        raise UserError(f"-o {name}: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from None
    if (PROFILES / f"{name}.yaml").exists():
        raise UserError(f"-o {name}: config/{name}.yaml is another profile of this name; give another")


def _profile(
    content: dict[str, Any], request: Request, model: nn.Module, weights: Path, progress: Progress
) -> tuple[dict[str, Any], int]:
    """Choose what the user leaves open and say it; return a profile made of the template, and the cores to use."""
    scale = facts(model).scale
    into, seeds, batch = FOLDER / request.name, len(content["seeds"]), content["training"]["batch_size"]
    threads = max(1, request.cores // seeds)
    compute = schema.Compute(device=request.device, threads=threads)
    device = devices.usable(compute.device)
    if request.degradation:
        placed = place_photographs(request.source, into, scale, request.degradation, progress)
    else:
        placed = place_pairs(request.source, into, scale, progress)
    crop = _crop(request.source, placed, max(8, facts(model).sizes.multiple_of))
    cost = measure(model, crop, batch, threads, device)
    chosen = schedule(cost, placed, seeds, request.cores, device, request.iterations, request.minutes)
    progress(f"{request.method} on {device.type}, crops of {crop} LR pixels, batch {batch}, {chosen.text}")
    if request.iterations is None and chosen.seconds > 60 * request.minutes:
        progress(
            f"--minutes {request.minutes:g}: too few for this model on this machine; with more, the learning rate is tuned and more is gained"
        )
    return _filled(content, request, weights, scale, crop, placed, chosen, compute), threads * chosen.processes


def _template(path: Path) -> dict[str, Any]:
    """Read and check another profile, and return what is taken from it; the interval of a gain needs a few seeds."""
    if not path.is_file():
        raise UserError(f"--profile {path}: no such profile; give one of {PROFILES}/ or your own")
    profile = load_profile(path, partly=True)
    if profile.training is None:
        raise UserError(f"--profile {path}: trains nothing; expected a profile with `training`")
    given = profile.model_dump(mode="json", exclude_unset=True, include=set(_TAKEN))
    seeds = list(profile.seeds) if len(profile.seeds) >= len(_SEEDS) else _SEEDS
    return {"compute": {}, "baselines": {}, **given, "seeds": seeds}


_TAKEN = ("protocol", "seeds", "compute", "training", "baselines", "scoring")


def _crop(source: Path, placed: Placed, multiple: int) -> int:
    crop = min(_CROP, placed.smallest) // multiple * multiple
    if crop == 0:
        raise UserError(
            f"{source}: the smallest LR image has {placed.smallest} pixels a side; expected at least {multiple}"
        )
    return crop


def _filled(
    content: dict[str, Any],
    request: Request,
    weights: Path,
    scale: int,
    crop: int,
    placed: Placed,
    chosen: Schedule,
    compute: schema.Compute,
) -> dict[str, Any]:
    training = {
        **content["training"],
        "crop": scale * crop,
        "iterations": chosen.iterations,
        "validate_every": max(1, chosen.iterations // VALIDATIONS),
        "keep": "best",
        "checkpoint_minutes": 1.0,
    }
    baseline, _, variant = request.method.partition("/")
    changes: dict[str, Any] = {path.stem: {"rows": []} for folder in request.baselines for path in folder.glob("*.py")}
    own = content["baselines"].get(baseline, {})
    changes[baseline] = {**own, "rows": [variant]}
    lr = own.get("training", {}).get("lr", training["lr"])
    named = {split: f"{request.name}-{split}" for split in placed.splits}  # names of datasets belong to all profiles
    train: dict[str, Any] = {"dataset": named["train"], "split": "train"}
    if request.degradation:
        train["degradation"] = request.degradation.model_dump(mode="json")
    tried = {
        "grid": {"lr": [float(f"{lr * factor:.2g}") for factor in FACTORS]},
        "seeds": [_TUNING_SEED],
        "training": {"iterations": chosen.tried, "validate_every": max(1, chosen.tried)},
        "metric": next(iter(content["scoring"]["metrics"])),
    }
    return {
        **content,
        "name": request.name,
        "title": f"{weights.stem}, adapted to {request.source.name}",
        "scale": scale,
        "compute": {**content["compute"], "device": compute.device, "threads": compute.threads},
        "datasets": {named[split]: _dataset(request.name, split) for split in placed.splits},
        "data": {
            "train": [train],
            "validation": {"dataset": named["validation"], "split": "validation"},
            "test": [{"dataset": named["test"], "split": "test"}],
        },
        "backbones": {BACKBONE: {"architecture": "auto", "weights": str(weights.resolve())}},
        "training": training,
        "baselines": changes,
        **({"tuning": tried} if chosen.tried else {}),
        "report": {
            "comparable_with_paper": False,
            "note": _note(request.degradation),
            "pictures": placed.splits["test"][:_PICTURES],
            "tables": {"adaptation": {"title": "Before and after", "rows": ["unadapted", request.method]}},
            "comparisons": [{"title": "What was gained", "rows": [request.method], "compared_with": "unadapted"}],
        },
    }


def _note(degradation: schema.Degradation | None) -> str:
    kept = "Each run ends with the weights that did best on the validation split."
    return f"{kept} LR was made from HR: gains are of that degradation." if degradation else kept


def _dataset(name: str, split: str) -> dict[str, Any]:
    folder = FOLDER / name / split
    return {"kind": "pairs", "lr": str(folder / "lr"), "hr": str(folder / "hr"), "split": {split: "all"}}


RANGES = {
    "blur_sigma": "pixels",
    "resize_range": "factors",
    "gaussian_sigma": "levels",
    "poisson_scale": "scales",
    "jpeg_quality": "qualities",
}
"""Ranges of the degradation that can be given, with their units."""


def degradation_of(words: Sequence[str]) -> schema.Degradation:
    """Read `NAME=LOW-HIGH` words as a degradation whose two orders have these ranges, otherwise as published."""
    given: dict[str, tuple[float, float]] = {}
    for word in words:
        name, _, values = word.partition("=")
        try:
            if name not in RANGES:
                raise ValueError
            low, high = (float(value) for value in values.split("-"))
            given[name] = (low, high)
        except ValueError:
            raise UserError(
                f"--degradation {word}: expected NAME=LOW-HIGH, such as blur_sigma=0.2-1.5; names are {', '.join(RANGES)}"
            ) from None
    published = schema.Degradation()
    try:
        orders = {
            order: schema.Blur.model_validate({**getattr(published, order).model_dump(), **given})
            for order in ("first", "second")
        }
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"--degradation {first['loc'][0]}: {first['msg'].removeprefix('Value error, ')}") from None
    return published.model_copy(update=orders)


def degradation_text(degradation: schema.Degradation) -> str:
    """Name the ranges of both orders."""
    parts = []
    for name, unit in RANGES.items():
        low, high = ("{:g}-{:g}".format(*getattr(order, name)) for order in (degradation.first, degradation.second))
        parts.append(f"{name} {low if low == high else f'{low}, then {high}'} {unit}")
    return f"LR is made from HR by Real-ESRGAN's degradation in two orders: {'; '.join(parts)}"
