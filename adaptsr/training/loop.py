"""The training loop that every baseline shares.

Everything random in iteration i is a function of (seed, purpose, i), so a run that was killed and resumed ends with the
same bits as one that was not.
"""

from __future__ import annotations

import math
import re
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from adaptsr.backbones.inference import restore
from adaptsr.config import schema
from adaptsr.errors import UserError
from adaptsr.metrics.psnr import psnr_y
from adaptsr.progress import Progress
from adaptsr.runs import records
from adaptsr.training.checkpoints import Checkpoints, History
from adaptsr.training.context import TrainingContext
from adaptsr.training.losses import Losses
from adaptsr.training.pace import Pace
from adaptsr.training.step import Step
from adaptsr.training.termination import Terminated

LOOK_EVERY = 20
"""Steps between two looks at the losses of a GPU, each of which waits for it."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    diverged_at: the iteration whose loss was too large or not finite; None for a finished run. undetermined: operators
    that have no deterministic form on the device. step_memory_bytes: what the first step held (`memory.StepMemory`).
    """

    history: History
    resumed_from: int
    diverged_at: int | None
    undetermined: tuple[str, ...] = ()
    step_memory_bytes: int | None = None


def optimise(
    context: TrainingContext,
    model: nn.Module,
    training: schema.Training,
    seed: int,
    checkpoints: Checkpoints,
    progress: Progress = lambda line: None,
    terminated: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Minimise the schedule's objective over what has `requires_grad`, from the newest undamaged checkpoint on.

    terminated: asked after each iteration; once it is true, a checkpoint is written and `Terminated` raised, except
    after the last iteration. Raises `UserError` if memory runs out.
    """
    step = Step(context, model, training, seed)
    trainer, best = step.trainer, step.best
    start, history = checkpoints.resume(model, trainer, progress)
    if not history.validation:
        with memory_explained(training):
            history.validation.append(_validate(context, model, training, 0, history.seconds))
    losses = Losses(history, training)
    look_every = LOOK_EVERY if context.device.type == "cuda" else 1

    def outcome(diverged_at: int | None) -> Outcome:
        return Outcome(history, start, diverged_at, tuple(sorted(undetermined)), step.memory.bytes)

    saved_at = time.monotonic()
    pace = Pace(checkpoints.folder, training.iterations, start, progress)
    with memory_explained(training), _undetermined_noted() as undetermined, context.ahead(training, seed, start):
        for iteration in range(start, training.iterations):
            began, worked = time.monotonic(), time.process_time()
            losses.add(*step(iteration))
            done = iteration + 1
            last = done == training.iterations
            validated = done % training.validate_every == 0 or last
            finite = not last or _all_finite(trainer.parameters.values())
            diverged_at = losses.read(done, finite) if validated or done % look_every == 0 else None
            history.seconds += time.monotonic() - began
            history.processor_seconds += time.process_time() - worked
            if diverged_at is not None:
                return outcome(diverged_at)
            if validated:
                with trainer.scored_weights():
                    history.validation.append(_validate(context, model, training, done, history.seconds))
                    if best and records.best_point(history.validation).iteration == done:
                        best.note()
            if not last:
                by_time = time.monotonic() - saved_at > 60 * training.checkpoint_minutes
                by_count = done % (training.checkpoint_iterations or training.iterations) == 0
                stop = terminated()
                if by_time or by_count or stop:
                    if (diverged_at := losses.read(done)) is not None:
                        return outcome(diverged_at)
                    checkpoints.save(done, model, trainer, history)
                    saved_at = time.monotonic()
                if stop:
                    raise Terminated(f"stopped by SIGTERM after iteration {done}; a checkpoint is written")
            # Log only after saving: a closed pipe must not cost the checkpoint.
            if validated:
                progress(
                    f"iteration {done} of {training.iterations}: validation PSNR-Y {history.validation[-1].psnr_y:.2f} dB"
                )
            pace.tick(done, history)
    trainer.finish()
    if best:
        best.settle()
    return outcome(None)


def _all_finite(tensors: Iterable[torch.Tensor]) -> bool:
    """Check the weights: the last loss was measured before the last step changed them."""
    return all(bool(tensor.isfinite().all()) for tensor in tensors)


def _validate(
    context: TrainingContext, model: nn.Module, training: schema.Training, iteration: int, seconds: float
) -> records.ValidationPoint:
    model.eval()
    values = []
    pairs = context.validation
    for index in training.validated(len(pairs)):
        restored = restore(model, pairs.lr[index][None])
        values.append(float(psnr_y(restored, pairs.hr[index][None])))
    return records.ValidationPoint(iteration=iteration, psnr_y=math.fsum(values) / len(values), seconds=seconds)


@contextmanager
def memory_explained(training: schema.Training) -> Iterator[None]:
    """Turn running out of memory into a `UserError` that says which keys of the profile to lower."""
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
    """Collect the operators that torch warns have no deterministic form; show other warnings as usual."""
    names: set[str] = set()
    with warnings.catch_warnings():
        show = warnings.showwarning

        def note(message: Warning | str, *others: Any, **more: Any) -> None:
            found = re.match(r"(\S+) does not have a deterministic|(.+) defaults to a non-deterministic", str(message))
            if found:
                names.add(found[1] or found[2])
            else:
                show(message, *others, **more)

        warnings.showwarning = note
        yield names
