"""Train the missing runs of one variant on one backbone, and write what each leaves."""

from __future__ import annotations

import resource
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from adaptsr import files
from adaptsr.adaptation.attaching import attach
from adaptsr.adaptation.baseline_files import Variant
from adaptsr.adaptation.reparametrization import (
    Plan,
    adaptation_state,
    load_adaptation,
    parameter_count,
    trainable_count,
)
from adaptsr.backbones.gate import facts
from adaptsr.config import schema
from adaptsr.data.kinds import kind_of
from adaptsr.errors import UserError
from adaptsr.progress import Progress
from adaptsr.runs import provenance, records
from adaptsr.runs.keys import run_key
from adaptsr.runs.loading import damage
from adaptsr.runs.matrix import Matrix
from adaptsr.runs.origins import ORIGIN
from adaptsr.runs.run import Run
from adaptsr.runs.superseded import bring_back, set_aside
from adaptsr.tensors import load_tensors, save_tensors
from adaptsr.training.acceleration import accelerate
from adaptsr.training.acceptance import accept, remembered
from adaptsr.training.checkpoints import Checkpoints
from adaptsr.training.context import TrainingContext
from adaptsr.training.loop import memory_explained, optimise
from adaptsr.training.objectives import objective_of
from adaptsr.training.recipe import as_used, unused_groups
from adaptsr.training.regions import compile_regions
from adaptsr.training.termination import Terminated, sigterm_noted

ADAPTATION = "adaptation.safetensors"
DERIVED = ("record.json", "scores", "pictures", ORIGIN)
"""Files made from a run's weights, removed before the weights are trained again."""


def ensure_runs(
    matrix: Matrix, backbone: str, row: str, seeds: Sequence[int], progress: Progress
) -> list[dict[str, Any]]:
    """Train the missing runs of one variant on one backbone; return one entry for each seed.

    A run is missing unless its folder, or the folder of superseded runs, holds a finished one with its key and
    undamaged files. A finished run with another key is set aside. A variant that was not accepted on this backbone is checked
    first, with a `UserError` if it fails. Raises `Terminated` on SIGTERM, after a checkpoint,
    and `RecordTooNew` for a run of newer code, which is left alone.
    """
    variant = matrix.variant(row, backbone)
    variant_key = matrix.variant_key(backbone, row)
    context = TrainingContext.of(matrix, backbone)
    for note in facts(context.backbone).notes:
        progress(note)
    entries: list[dict[str, Any]] = []
    with sigterm_noted() as terminated:
        for seed in seeds:
            if terminated():
                raise Terminated(f"stopped by SIGTERM with {len(entries)} of {len(seeds)} runs done")
            run = Run(backbone, row, seed)
            key = run_key(variant_key, context.inputs, seed)
            with _held(run, matrix.results, progress):
                record = finished_record(run, matrix.results, key, progress)
                if record is None or _can_be_completed(record, context, variant, progress):
                    if not remembered(matrix, backbone, row):
                        checked = context.backbone, context.sites, [row], context.device, context.validation
                        accept(matrix, backbone, *checked, say=progress)  # the workflow has refused them before
                    record = train_run(context, variant, seed, run.folder(matrix.results), progress, terminated)
                    progress(_summary(record))
            entries.append({"seed": seed, "key": key, "status": record.status})
    return entries


def _can_be_completed(
    record: records.RunRecord, context: TrainingContext, variant: Variant, progress: Progress
) -> bool:
    """Tell whether losses were left out of a run whose network weights are here now."""
    if not record.left_out:
        return False
    missing = objective_of(context.matrix.training(variant, context.name), context.device).left_out
    found = sorted(record.left_out.keys() - missing.keys())
    if found:
        progress(f"{variant.row}: trained without {', '.join(found)}, whose weights are here now; training it again")
    return bool(found)


def _held(run: Run, results: Path, progress: Progress) -> AbstractContextManager[None]:
    """Hold a run against other processes. The lock lies beside its folder, which may be moved."""
    folder = run.folder(results)
    return files.locked(
        folder.parent, lambda: progress(f"{folder}: waiting for another process"), name=f".{folder.name}.lock"
    )


def finished_record(run: Run, results: Path, key: str, progress: Progress) -> records.RunRecord | None:
    """Return the record of the finished run with this key, after bringing it to its place; None if there is none.

    A finished run with another key is set aside, and one with damaged files is left to be trained again.
    """
    folder = run.folder(results)
    found = _undamaged(folder, progress)
    if found is not None and found.key != key:
        kept = set_aside(run, results, found.key)
        older = " It is of older code, whose keys cannot be compared with those of this code." if found.is_older else ""
        progress(f"{folder}: holds another run than the profile asks for, which is kept in {kept}.{older}")
        found = None
    if found is None and bring_back(run, results, key):
        progress(f"{folder}: brought back, as it was trained before")
        found = _undamaged(folder, progress)
    return found


def _undamaged(folder: Path, progress: Progress) -> records.RunRecord | None:
    if not (folder / "record.json").is_file():
        return None
    try:
        record = records.read_record(folder / "record.json")
        problem = damage(folder, record)
    except records.RecordTooNew:
        raise
    except UserError as error:
        problem = str(error).partition(";")[0]
    if problem:
        progress(f"{problem}; training it again")
        return None
    return record


def train_run(
    context: TrainingContext,
    variant: Variant,
    seed: int,
    folder: Path,
    progress: Progress,
    terminated: Callable[[], bool],
) -> records.RunRecord:
    """Plan, attach, train and write one run: plan.json, adaptation.safetensors and, last, record.json."""
    for name in DERIVED:
        files.remove(folder / name)
    files.remove_torn(folder)
    matrix = context.matrix
    run = Run(context.name, variant.row, seed)
    training = matrix.training(variant, context.name)
    variant_key = matrix.variant_key(context.name, variant.row)
    key = run_key(variant_key, context.inputs, seed)
    start = _start(context, variant, seed)
    checkpoints = Checkpoints(folder / "checkpoints", key)
    if checkpoints.belong_to(Plan.sha256(folder)):  # made anew it might differ: on another card, by another library
        plan = Plan.load(folder)
    else:
        with memory_explained(training):
            plan = Plan.load(start) if start else context.plan(variant, seed)
        plan.save(folder)
    model = attach(context.fresh_backbone(), variant, plan)
    if start:
        load_adaptation(model, load_tensors(start / ADAPTATION)[0], str(start / ADAPTATION))
    model.to(context.device)
    if training.compile == "none":
        accelerate(model)
    else:
        compile_regions(model)
    checkpoints = replace(checkpoints, plan=Plan.sha256(folder))
    outcome = optimise(
        context, model, training, seed, checkpoints, lambda line: progress(f"{run.label}: {line}"), terminated
    )
    finished = outcome.diverged_at is None
    adaptation = folder / ADAPTATION
    if finished:
        identity = {"backbone": context.name, "baseline": variant.baseline.name, "variant": variant.name, "seed": seed}
        save_tensors(adaptation, adaptation_state(model), {**identity, "key": key})
    else:
        adaptation.unlink(missing_ok=True)
    record = records.RunRecord(
        variant_key=variant_key,
        inputs=context.inputs,
        status="finished" if finished else "diverged",
        profile=matrix.profile.name,
        backbone=context.name,
        baseline=variant.baseline.name,
        variant=variant.name,
        seed=seed,
        config={
            "options": dict(variant.options),
            "training": as_used(training),
            "chosen": dict(matrix.chosen(context.name, variant.row)),
            "backbone": matrix.profile.backbones[context.name].model_dump(mode="json"),
            "scale": matrix.profile.scale,
            "data": matrix.profile.data.model_dump(mode="json", include={"train", "validation"}),
            "sources": {
                name: asdict(kind_of(declared).describe(declared))
                for name, declared in matrix.profile.datasets.items()
                if name in {source.dataset for source in matrix.profile.data.train}
            },
        },
        title=variant.title,
        extension=variant.extension(context.sites),
        plan_notes=[*plan.notes, *_start_note(matrix.start(variant.row))],
        notes=[
            *facts(context.backbone).notes,
            *_notes(plan),
            *_recipe_notes(training, model, outcome.history.validation),
            *_undetermined_note(outcome.undetermined),
            *_sharing_note(context),
        ],
        left_out=dict(objective_of(training, context.device).left_out),
        total_parameters=parameter_count(context.backbone),
        trainable_parameters=trainable_count(model),
        iterations=training.iterations,
        resumed_from=outcome.resumed_from,
        wall_seconds=outcome.history.seconds,
        processor_seconds=outcome.history.processor_seconds,
        step_memory_bytes=outcome.step_memory_bytes,
        peak_memory_bytes=_peak_memory(context.device),
        start_psnr_y=outcome.history.validation[0].psnr_y,
        losses=outcome.history.losses,
        validation=outcome.history.validation,
        diverged_at=outcome.diverged_at,
        adaptation_sha256=files.file_sha256(adaptation) if finished else None,
        plan_sha256=Plan.sha256(folder),
        provenance=provenance.provenance(_device_name(context.device)),
    )
    record.write(folder / "record.json")
    checkpoints.clear()
    return record


def _start(context: TrainingContext, variant: Variant, seed: int) -> Path | None:
    """Return the folder of the finished run that this one goes on from, if it goes on from one."""
    matrix = context.matrix
    row = matrix.start(variant.row)
    if row is None:
        return None
    folder = Run(context.name, row, seed).folder(matrix.results)
    record = records.read_record(folder / "record.json")
    key = run_key(matrix.variant_key(context.name, row), context.inputs, seed)
    if record.key != key or record.status != "finished" or damage(folder, record):
        raise UserError(
            f"{folder}: {variant.row} goes on from this run, which is diverged, damaged or of another profile; train {row} again"
        )
    return folder


def _start_note(row: str | None) -> list[str]:
    return [f"It goes on from the run of {row} with the same seed, whose steps and time come on top."] if row else []


def _recipe_notes(
    training: schema.Training, model: nn.Module, validation: Sequence[records.ValidationPoint]
) -> list[str]:
    best = records.best_point(validation)
    kept = [
        f"its weights are those of iteration {best.iteration} of {training.iterations}, which did best on the validation "
        f"split: PSNR-Y {best.psnr_y:.2f} dB (training.keep: best)"
    ]
    average = [f"its weights are the moving average of the trained parameters, decay {training.ema}"]
    unused = [
        f"training.groups: {pattern!r} matches no trained parameter" for pattern in unused_groups(training, model)
    ]
    return [*(average if training.ema else []), *(kept if training.keep == "best" else []), *unused]


def _undetermined_note(operators: Sequence[str]) -> list[str]:
    if not operators:
        return []
    return [f"a repeated run differs in its last bits: no deterministic form on this device of {', '.join(operators)}"]


def _sharing_note(context: TrainingContext) -> list[str]:
    jobs = context.matrix.profile.compute.jobs_per_gpu
    if context.device.type != "cuda" or jobs == 1:
        return []
    return [f"up to {jobs} {records.SHARED_GPU}: its time is not comparable with that of a run alone"]


def _peak_memory(device: torch.device) -> int:
    """Return the peak memory of the process in bytes, on the GPU if it uses one."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def _notes(plan: Plan) -> list[str]:
    above = plan.settings.get("above_useful_rank")
    return [f"the rank exceeds what the layer can use at {len(above)} sites: {', '.join(above)}"] if above else []


def _summary(record: records.RunRecord) -> str:
    assert record.kept
    last = record.kept.psnr_y
    gain = f"validation PSNR-Y {record.start_psnr_y:.2f} -> {last:.2f} dB"
    where = f"{record.backbone} {record.baseline}/{record.variant} seed {record.seed}"
    if record.status == "diverged":
        return f"{where}: diverged at iteration {record.diverged_at}"
    return f"{where}: {gain}, {record.trainable_parameters:,} trainable, {record.wall_seconds:.1f} s"
