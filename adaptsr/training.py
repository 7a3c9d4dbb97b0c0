"""One training loop for every baseline: schedule, checkpoint, resume, record.

Everything random in iteration i is a function of (seed, purpose, i), so a run that was killed and resumed ends with the
same bits as one that was not.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import os
import re
import resource
import shutil
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from adaptsr import config, randomness, records
from adaptsr.acceleration import accelerate
from adaptsr.backbones import Site, build, find_sites, restore
from adaptsr.baselines import Variant
from adaptsr.data.pairs import PairSet, load_split
from adaptsr.data.sampling import WeightedSource, sample_batch
from adaptsr.devices import claim_gpu
from adaptsr.errors import UserError
from adaptsr.matrix import Matrix, manifest_path
from adaptsr.reparametrization import (
    Plan,
    adaptation_state,
    damage,
    load_adaptation,
    load_tensors,
    parameter_count,
    save_tensors,
    trainable_count,
    trainable_parameters,
    training_mode,
)
from adaptsr.scoring import psnr_y

LOSS_POINTS = 50
CHECKPOINTS_KEPT = 2

Progress = Callable[[str], None]
DERIVED = ("record.json", "scores.parquet", "pictures/pictures.json")
"""What is made of a run's weights, and goes when they are made anew."""


class Terminated(Exception):
    """SIGTERM came; what is done is kept, and the rest goes on from there when it is started again."""


@dataclass
class History:
    """What the loop has seen so far; part of every checkpoint."""

    losses: list[records.LossPoint] = field(default_factory=list)
    validation: list[records.ValidationPoint] = field(default_factory=list)
    pending: list[float] = field(default_factory=list)
    seconds: float = 0.0

    def dump(self) -> dict[str, Any]:
        return {
            "losses": [point.model_dump() for point in self.losses],
            "validation": [point.model_dump() for point in self.validation],
            "pending": self.pending,
            "seconds": self.seconds,
        }

    def record_divergence(self, iteration: int, loss: float) -> None:
        """The losses since the last point one by one, then the one that is no number or too large."""
        first = iteration - len(self.pending)
        for index, value in enumerate([*self.pending, loss]):
            self.losses.append(records.LossPoint(iteration=first + index, loss=value if math.isfinite(value) else None))
        self.pending.clear()

    @staticmethod
    def load(content: Mapping[str, Any]) -> History:
        return History(
            losses=[records.LossPoint(**point) for point in content["losses"]],
            validation=[records.ValidationPoint(**point) for point in content["validation"]],
            pending=list(content["pending"]),
            seconds=content["seconds"],
        )


@dataclass(frozen=True)
class Outcome:
    history: History
    resumed_from: int
    diverged_at: int | None
    undetermined: tuple[str, ...] = ()
    """Operators that have no deterministic form on the device."""


@dataclass(frozen=True, eq=False)
class Workbench:
    """What the runs of one backbone share: the backbone, its sites, and the decoded data."""

    matrix: Matrix
    name: str
    backbone: nn.Module
    sites: list[Site]
    sources: list[WeightedSource]
    validation: PairSet
    device: torch.device
    data_key: str

    @staticmethod
    def of(matrix: Matrix, name: str) -> Workbench:
        profile = matrix.profile
        device = prepare_device(profile.compute)
        declared = profile.backbones[name]
        backbone = build(declared, profile.scale, profile.training.crop // profile.scale)
        validation = profile.data.validation
        return Workbench(
            matrix=matrix,
            name=name,
            backbone=backbone.to(device),
            sites=find_sites(backbone, declared.kinds),
            sources=load_sources(profile),
            validation=load_split(manifest_path(validation.dataset), validation.split),
            device=device,
            data_key=matrix.data_key(name),
        )

    def run_key(self, variant: Variant, seed: int) -> str:
        return records.run_key(self.matrix.job_key(self.name, variant), self.data_key, seed)

    def fresh_backbone(self) -> nn.Module:
        return copy.deepcopy(self.backbone)

    def calibration(self, training: config.Training, seed: int) -> Callable[[int], tuple[torch.Tensor, torch.Tensor]]:
        """Batches of the training data for plans, another stream than training's."""

        def batch(index: int) -> tuple[torch.Tensor, torch.Tensor]:
            return self.sample(training, seed, index, "calibration")

        return batch

    def sample(
        self, training: config.Training, seed: int, index: int, purpose: str
    ) -> tuple[torch.Tensor, torch.Tensor]:
        scale = self.matrix.profile.scale
        return sample_batch(self.sources, seed, index, training.batch_size, training.crop, scale, purpose, self.device)

    def plan(self, variant: Variant, seed: int) -> Plan:
        """The plan of a run; options that name another variant become the number of parameters that one trains."""
        training = self.matrix.training(variant)
        options = dict(variant.options)
        for key, other in self.matrix.references(variant).items():
            model = self.fresh_backbone()
            other.attach(model, self.plan(other, seed))
            options[key] = trainable_count(model)
        return variant.plan(self.fresh_backbone(), self.sites, options, self.calibration(training, seed), seed)


def load_sources(profile: config.Profile) -> list[WeightedSource]:
    return [
        WeightedSource(load_split(manifest_path(source.dataset), source.split), source.weight, source.degradation)
        for source in profile.data.train
    ]


def prepare_device(compute: config.Compute) -> torch.device:
    """The device of a profile, with threads and determinism set as it says.

    A GPU is held until the process ends, and waited for where others hold all of them (`adaptsr.devices`).
    """
    if compute.device != "cpu" and not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        slot = claim_gpu(compute.jobs_per_gpu, _say)
        if slot and not torch.cuda.is_available() and compute.device == "auto":
            _say("there is a GPU, but this torch cannot use it (an older driver?): going on on the CPU")
    if compute.device == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "compute.device: cuda was asked for, but this torch can use none here; look at the driver, or use `auto` or `cpu`"
        )
    torch.set_num_threads(compute.threads)
    # cuBLAS reads it when its first handle is made.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # An operator without a deterministic form is named in the record; refusing it would leave out whole backbones.
    torch.use_deterministic_algorithms(compute.deterministic, warn_only=True)
    # Shift masks of window attention leave numbers of 1e-44, with which processors calculate very slowly.
    torch.set_flush_denormal(True)
    # Filling fresh memory with NaN is a debugging aid that costs every operator a pass over its output.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    use_cuda = compute.device != "cpu" and torch.cuda.is_available()
    return torch.device("cuda" if use_cuda else "cpu")


@cache
def _say(line: str) -> None:
    """On standard error, each line once: a process prepares its device more than once."""
    print(line, file=sys.stderr, flush=True)


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
            with records.locked(folder, lambda folder=folder: progress(f"{folder}: waiting for another process")):  # type: ignore[misc]
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
    records.remove_torn(folder)
    training = bench.matrix.training(variant)
    key = bench.run_key(variant, seed)
    with _memory_explained(training):
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
        adaptation_sha256=records.file_sha256(adaptation) if finished else None,
        plan_sha256=Plan.sha256(folder),
        provenance=records.provenance(_device_name(bench.device)),
    )
    record.write(folder / "record.json")
    checkpoints.clear()
    return record


def optimise(
    bench: Workbench,
    model: nn.Module,
    training: config.Training,
    seed: int,
    checkpoints: Checkpoints,
    progress: Progress = lambda line: None,
    terminated: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Minimise L1 with Adam over what has `requires_grad`, resuming from the newest sound checkpoint.

    Once `terminated` says so, a checkpoint is written and `Terminated` raised, unless the last iteration is done.
    """
    parameters = trainable_parameters(model)
    optimizer = torch.optim.Adam(parameters.values(), lr=training.lr, fused=True)
    start, history = checkpoints.resume(model, optimizer, progress)
    if not history.validation:
        history.validation.append(_validate(bench, model, 0, history.seconds))
    every = max(1, training.iterations // LOSS_POINTS)
    saved_at = time.monotonic()
    with _memory_explained(training), _undetermined_noted() as undetermined:
        for iteration in range(start, training.iterations):
            began = time.monotonic()
            loss = _step(bench, model, optimizer, training, seed, iteration)
            history.seconds += time.monotonic() - began
            done = iteration + 1
            last = done == training.iterations
            if not loss <= training.diverged_above or (last and not _all_finite(parameters.values())):
                history.record_divergence(done, loss)
                return Outcome(history, start, done, tuple(sorted(undetermined)))
            history.pending.append(loss)
            if done % every == 0 or last:
                history.losses.append(
                    records.LossPoint(iteration=done, loss=math.fsum(history.pending) / len(history.pending))
                )
                history.pending.clear()
            validated = done % training.validate_every == 0 or last
            if validated:
                history.validation.append(_validate(bench, model, done, history.seconds))
            if not last:
                by_time = time.monotonic() - saved_at > 60 * training.checkpoint_minutes
                by_count = done % (training.checkpoint_iterations or training.iterations) == 0
                if by_time or by_count or terminated():
                    checkpoints.save(done, model, optimizer, history)
                    saved_at = time.monotonic()
                if terminated():
                    raise Terminated(f"stopped by SIGTERM after iteration {done}; a checkpoint is written")
            # After the checkpoint: whoever reads this may be gone.
            if validated:
                progress(
                    f"iteration {done} of {training.iterations}: validation PSNR-Y {history.validation[-1].psnr_y:.2f} dB"
                )
    return Outcome(history, start, None, tuple(sorted(undetermined)))


def _all_finite(tensors: Iterable[torch.Tensor]) -> bool:
    """A loss does not see what its own step has done to the weights."""
    return all(bool(tensor.isfinite().all()) for tensor in tensors)


def _step(
    bench: Workbench,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    training: config.Training,
    seed: int,
    iteration: int,
) -> float:
    # DropPath and the like draw from the global generators.
    randomness.seed_globals(seed, "step", iteration)
    lr, hr = bench.sample(training, seed, iteration, "train")
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(training, iteration)
    training_mode(model)
    optimizer.zero_grad(set_to_none=True)
    with torch.autocast(lr.device.type, torch.bfloat16, enabled=training.precision == "bfloat16"):
        restored = model(lr)
    loss = functional.l1_loss(restored.float(), hr)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return float(loss.detach())


def learning_rate(training: config.Training, iteration: int) -> float:
    """The learning rate of an iteration: times `decay` for each milestone behind it."""
    passed = sum(iteration >= fraction * training.iterations for fraction in training.milestones)
    return float(training.lr * training.decay**passed)


def _validate(bench: Workbench, model: nn.Module, iteration: int, seconds: float) -> records.ValidationPoint:
    model.eval()
    values = []
    for lr, hr in zip(bench.validation.lr, bench.validation.hr, strict=True):
        restored = restore(model, lr[None], bench.matrix.profile.scale)
        values.append(float(psnr_y(restored, hr[None])))
    return records.ValidationPoint(iteration=iteration, psnr_y=math.fsum(values) / len(values), seconds=seconds)


@dataclass(frozen=True)
class Checkpoints:
    """The newest checkpoints of a run; each holds parameters, Adam's state and the history, and the run's key."""

    folder: Path
    key: str

    def save(self, iteration: int, model: nn.Module, optimizer: torch.optim.Optimizer, history: History) -> None:
        tensors = {f"model.{name}": tensor for name, tensor in adaptation_state(model).items()}
        for name, parameter in trainable_parameters(model).items():
            tensors.update({f"{key}.{name}": value for key, value in optimizer.state[parameter].items()})
        metadata = {"iteration": iteration, "key": self.key, "history": history.dump()}
        checked = {**metadata, "sha256": _checksum(tensors, metadata)}
        save_tensors(self.folder / f"{iteration:09d}.safetensors", tensors, checked)
        for old in self._newest_first()[CHECKPOINTS_KEPT:]:
            old.unlink()

    def resume(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress = lambda line: None
    ) -> tuple[int, History]:
        """Load the newest checkpoint that is whole and of this run; (0, empty history) where there is none.

        The others are removed: they would take the places of those to come.
        """
        records.remove_torn(self.folder)
        for path in self._newest_first():
            try:
                tensors, metadata = self._read(path)
                load_adaptation(model, _under(tensors, "model"), str(path))
            except UserError as problem:
                progress(f"{problem}; it is removed")
                path.unlink()
                continue
            self._load_optimizer(model, optimizer, tensors)
            progress(f"going on from the checkpoint at iteration {metadata['iteration']}")
            return metadata["iteration"], History.load(metadata["history"])
        return 0, History()

    def clear(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def _read(self, path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """`UserError` for a checkpoint that is damaged or of another run."""
        tensors, metadata = load_tensors(path)
        expected = metadata.pop("sha256", None)
        if expected != _checksum(tensors, metadata):
            raise UserError(f"{path}: damaged: the content differs from its checksum")
        if metadata["key"] != self.key:
            raise UserError(f"{path}: a checkpoint of other options, data or schedule")
        return tensors, metadata

    def _newest_first(self) -> list[Path]:
        return sorted(self.folder.glob("[0-9]*.safetensors"), reverse=True)

    def _load_optimizer(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]
    ) -> None:
        state = {}
        for index, (name, parameter) in enumerate(trainable_parameters(model).items()):
            if f"step.{name}" not in tensors:
                continue
            # Adam's fused step goes through memory in order: moments lie as their parameter does.
            moments = {
                key: torch.empty_like(parameter).copy_(tensors[f"{key}.{name}"]) for key in ("exp_avg", "exp_avg_sq")
            }
            state[index] = {"step": tensors[f"step.{name}"], **moments}
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _checksum(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, Any]) -> str:
    """SHA-256 of the content; safetensors itself has no checksum."""
    digest = hashlib.sha256(json.dumps(dict(metadata), sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _under(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(f"{prefix}."): value for name, value in tensors.items() if name.startswith(f"{prefix}.")}


@contextmanager
def sigterm_noted() -> Iterator[Callable[[], bool]]:
    """Turn SIGTERM into a question that is asked between two iterations and between two runs."""
    noted = False

    def note(_signal: int, _frame: FrameType | None) -> None:
        nonlocal noted
        noted = True

    try:
        before = signal.signal(signal.SIGTERM, note)
    except ValueError:  # not the main thread: somebody else looks after signals
        yield lambda: False
        return
    try:
        yield lambda: noted
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _memory_explained(training: config.Training) -> Iterator[None]:
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        signs = ("out of memory", "allocate memory", "ALLOC_FAILED")
        if isinstance(error, RuntimeError) and not any(sign in str(error) for sign in signs):
            raise
        raise UserError(
            f"out of memory with batches of {training.batch_size} crops of {training.crop} pixels: "
            "lower training.batch_size or training.crop, or run fewer jobs at once"
        ) from error


@contextmanager
def _undetermined_noted() -> Iterator[set[str]]:
    """The names of operators that torch warns to be without a deterministic form; other warnings are shown."""
    names: set[str] = set()
    with warnings.catch_warnings():
        show = warnings.showwarning

        def note(message: Warning | str, *others: Any, **more: Any) -> None:
            found = re.match(r"(\S+) does not have a deterministic implementation", str(message))
            if found:
                names.add(found[1])
            else:
                show(message, *others, **more)

        warnings.showwarning = note
        yield names


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
