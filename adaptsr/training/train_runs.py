"""Train the missing runs of one variant on one backbone, and write what each leaves."""

from __future__ import annotations

import resource
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from adaptsr import files
from adaptsr.adaptation.baseline_files import Variant
from adaptsr.adaptation.reparametrization import (
    Plan,
    adaptation_state,
    parameter_count,
    trainable_count,
)
from adaptsr.errors import UserError
from adaptsr.progress import Progress
from adaptsr.runs import provenance, records
from adaptsr.runs.loading import damage
from adaptsr.runs.matrix import Matrix
from adaptsr.tensors import save_tensors
from adaptsr.training.acceleration import accelerate
from adaptsr.training.checkpoints import Checkpoints
from adaptsr.training.context import Workbench
from adaptsr.training.loop import memory_explained, optimise
from adaptsr.training.termination import Terminated, sigterm_noted

DERIVED = ("record.json", "scores.parquet", "pictures/pictures.json")
"""What is made of a run's weights, and goes when they are made anew."""


def ensure_runs(
    matrix: Matrix, backbone: str, row: str, seeds: Sequence[int], progress: Progress
) -> list[dict[str, Any]]:
    """Train the runs of one variant on one backbone that are not there yet; return what is there, one entry a seed."""
    variant = matrix.variant(row)
    bench = Workbench.of(matrix, backbone)
    entries: list[dict[str, Any]] = []
    with sigterm_noted() as terminated:
        for seed in seeds:
            if terminated():
                raise Terminated(f"stopped by SIGTERM with {len(entries)} of {len(seeds)} runs done")
            folder = matrix.run_folder(backbone, row, seed)
            key = bench.run_key(variant, seed)
            with files.locked(folder, lambda folder=folder: progress(f"{folder}: waiting for another process")):  # type: ignore[misc]
                record = finished_record(folder, key)
                if record is None:
                    record = train_run(bench, variant, seed, folder, progress, terminated)
                    progress(_summary(record))
            entries.append({"seed": seed, "key": key, "status": record.status})
    return entries


def finished_record(folder: Path, key: str) -> records.RunRecord | None:
    """The record of a run that is complete and of this key, or None."""
    try:
        record = records.read_record(folder / "record.json")
    except UserError:
        return None
    if record.key != key:
        return None
    return record if damage(folder, record) is None else None


def train_run(
    bench: Workbench,
    variant: Variant,
    seed: int,
    folder: Path,
    progress: Progress,
    terminated: Callable[[], bool],
) -> records.RunRecord:
    """Plan, attach, train and write one run: plan.json, adaptation.safetensors and, last, record.json."""
    for name in DERIVED:
        (folder / name).unlink(missing_ok=True)
    files.remove_torn(folder)
    training = bench.matrix.training(variant)
    key = bench.run_key(variant, seed)
    with memory_explained(training):
        plan = bench.plan(variant, seed)
    plan.save(folder)
    model = bench.fresh_backbone()
    variant.attach(model, plan)
    model.to(bench.device)
    accelerate(model)
    checkpoints = Checkpoints(folder / "checkpoints", key)
    name = f"{bench.name} {variant.row} seed {seed}"
    outcome = optimise(bench, model, training, seed, checkpoints, lambda line: progress(f"{name}: {line}"), terminated)
    finished = outcome.diverged_at is None
    adaptation = folder / "adaptation.safetensors"
    if finished:
        identity = {"backbone": bench.name, "baseline": variant.baseline.name, "variant": variant.name, "seed": seed}
        save_tensors(adaptation, adaptation_state(model), {**identity, "key": key})
    else:
        adaptation.unlink(missing_ok=True)
    record = records.RunRecord(
        job=bench.matrix.job_key(bench.name, variant),
        data=bench.data_key,
        status="finished" if finished else "diverged",
        profile=bench.matrix.profile.name,
        backbone=bench.name,
        baseline=variant.baseline.name,
        variant=variant.name,
        seed=seed,
        config={
            "options": dict(variant.options),
            "training": training.model_dump(mode="json"),
            "backbone": bench.matrix.profile.backbones[bench.name].model_dump(mode="json"),
            "scale": bench.matrix.profile.scale,
            "data": bench.matrix.profile.data.model_dump(mode="json", include={"train", "validation"}),
        },
        title=variant.title,
        extension=variant.extension(bench.sites),
        notes=[*_notes(plan), *_undetermined_note(outcome.undetermined), *_sharing_note(bench)],
        total_parameters=parameter_count(bench.backbone),
        trainable_parameters=trainable_count(model),
        iterations=training.iterations,
        resumed_from=outcome.resumed_from,
        wall_seconds=outcome.history.seconds,
        peak_memory_bytes=_peak_memory(bench.device),
        start_psnr_y=outcome.history.validation[0].psnr_y,
        losses=outcome.history.losses,
        validation=outcome.history.validation,
        diverged_at=outcome.diverged_at,
        adaptation_sha256=files.file_sha256(adaptation) if finished else None,
        plan_sha256=Plan.sha256(folder),
        provenance=provenance.provenance(_device_name(bench.device)),
    )
    record.write(folder / "record.json")
    checkpoints.clear()
    return record


def _undetermined_note(operators: Sequence[str]) -> list[str]:
    if not operators:
        return []
    return [f"run again, the last bits differ: no deterministic form on this device of {', '.join(operators)}"]


def _sharing_note(bench: Workbench) -> list[str]:
    jobs = bench.matrix.profile.compute.jobs_per_gpu
    if bench.device.type != "cuda" or jobs == 1:
        return []
    return [f"up to {jobs} processes shared the GPU: the time is not that of a run alone"]


def _peak_memory(device: torch.device) -> int:
    """Peak of the process in bytes, of the GPU where there is one."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def _notes(plan: Plan) -> list[str]:
    above = plan.settings.get("above_useful_rank")
    return [f"the rank exceeds what the layer can use at {len(above)} sites: {', '.join(above)}"] if above else []


def _summary(record: records.RunRecord) -> str:
    last = record.validation[-1].psnr_y
    gain = f"validation PSNR-Y {record.start_psnr_y:.2f} -> {last:.2f} dB"
    where = f"{record.backbone} {record.baseline}/{record.variant} seed {record.seed}"
    if record.status == "diverged":
        return f"{where}: diverged at iteration {record.diverged_at}"
    return f"{where}: {gain}, {record.trainable_parameters:,} trainable, {record.wall_seconds:.1f} s"
