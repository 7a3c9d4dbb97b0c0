"""The checks of the baseline contract; each raises `ContractBroken` with a one-line message."""

from __future__ import annotations

import copy
import fnmatch
import inspect
import json
import string
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from adaptsr import randomness
from adaptsr.adaptation.attaching import plan_variant
from adaptsr.adaptation.baseline_files import BaselineFile, import_baseline
from adaptsr.adaptation.contract.backbones import chance_state, restore_chance
from adaptsr.adaptation.contract.subjects import LEARNING_RATE, OTHER_SEED, SEED, STEPS, Subject, all_tensors
from adaptsr.adaptation.reparametrization import (
    Plan,
    adaptation_state,
    trainable_count,
    trainable_parameters,
)
from adaptsr.config import schema
from adaptsr.tensors import load_tensors, save_tensors

START_TOLERANCE = 1e-5


MERGE_TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-10}


RELOAD_TOLERANCE = 1e-6
"""Largest difference of two outputs, relative to the largest absolute value of the expected one."""


class ContractBroken(AssertionError):
    """A baseline file breaks the contract; the message says in one line what it does and what was expected."""


def check_literals(file: BaselineFile) -> None:
    """Check that running the file gives the literals read from it, and that its functions take the right arguments."""
    module = import_baseline(file.path)
    for name, read in (
        ("OPTIONS", file.options),
        ("VARIANTS", file.variants),
        ("ROWS", file.rows),
        ("PROTOCOL", file.protocol),
        ("RECIPE", file.recipe),
    ):
        if getattr(module, name, read) != read:
            raise ContractBroken(f"{name} changes while the file runs; it must stay the literal that the file states")
    for name, takes in (
        ("plan", ("backbone", "sites", "options", "calibration", "seed")),
        ("attach", ("model", "plan")),
        ("merge", ("model", "plan")),
    ):
        function = getattr(module, name, None)
        if function is None:
            continue
        try:
            inspect.signature(function).bind(*takes)
        except TypeError:
            raise ContractBroken(f"{name} must take ({', '.join(takes)})") from None
    placeholders = {field for _, field, _, _ in string.Formatter().parse(file.title) if field}
    unknown = sorted(placeholders - set(file.options))
    if unknown:
        raise ContractBroken(f"TITLE: {{{unknown[0]}}} is not in OPTIONS; use the name of an option")


def check_plan(subject: Subject) -> None:
    """Check that a plan depends on the seed alone and is plain JSON, and that planning changes no global state."""
    first = subject.planned
    backbone = subject.fresh()
    before = all_tensors(backbone)
    with _watched("plan"):
        second = plan_variant(subject.variant, lambda: backbone, subject.sites, subject.batch, SEED, subject.budget)
    _refuse_changes(before, all_tensors(backbone), "plan changes {} of the backbone; it may only read it")
    if json.loads(json.dumps(first.settings)) != first.settings:
        raise ContractBroken("plan: settings are not plain JSON; use lists instead of tuples, and strings as keys")
    if first.settings != second.settings or _differing(first.tensors, second.tensors):
        raise ContractBroken(
            "plan gives two plans for one seed; draw only from adaptsr.randomness.generator(seed, ...)"
        )


def check_attach(subject: Subject) -> None:
    """Check that attaching depends on the plan alone, also if read from disk, and changes no global generator."""
    with tempfile.TemporaryDirectory() as folder:
        subject.planned.save(Path(folder))
        loaded = Plan.load(Path(folder))
    with _watched("attach"):
        model = subject.attach(loaded)
    if list(trainable_parameters(model)) != list(trainable_parameters(subject.attached)):
        raise ContractBroken("attach trains different parameters when the plan comes from disk")
    _refuse_changes(
        all_tensors(subject.attached),
        all_tensors(model),
        "attach gives {} two values for one plan; key every generator by the plan's seed",
    )


def check_seeds(subject: Subject) -> None:
    """Check that different seeds differ if planning or initialisation is random."""
    if _same(subject, subject.attached, subject.attach(subject.plan(OTHER_SEED))):
        with _ShiftedDraws():  # type: ignore[no-untyped-call]
            shifted = subject.attach(subject.plan(SEED))
        if not _same(subject, subject.attached, shifted):
            raise ContractBroken(
                f"plan and attach draw random numbers but give the same result for seeds {SEED} and {OTHER_SEED}; "
                "key every generator by the seed"
            )


def _same(subject: Subject, first: nn.Module, second: nn.Module) -> bool:
    """Tell whether two attached models start at the same values and give the same output after the same change."""
    outputs = []
    for model in (first, second):
        moved = copy.deepcopy(model)
        for name, parameter in trainable_parameters(moved).items():
            step = torch.randn(parameter.shape, generator=randomness.generator("contract", "moved", name))
            parameter.data.add_(0.1 * step)
        outputs.append(subject.output(moved))
    return not _differing(adaptation_state(first), adaptation_state(second)) and torch.equal(*outputs)


def check_start(subject: Subject) -> None:
    """Check that the attached model equals the backbone before the first step, unless STARTS_AT_BACKBONE is False."""
    if not subject.variant.baseline.starts_at_backbone:
        return
    apart = difference(subject.output(subject.attached), subject.output(subject.backbone))
    if not apart <= START_TOLERANCE:
        raise ContractBroken(
            f"the attached model's output differs from the backbone's by {apart:.1e} before the first step; "
            "start at zero, or set STARTS_AT_BACKBONE = False"
        )


def check_training(subject: Subject) -> None:
    """Check that three steps change every trainable parameter and not a bit of anything else, buffers included."""
    _check_trained(subject, subject.trained)


def check_recipe(subject: Subject) -> None:
    """Check the same with another optimizer and weight decay, and that the groups of RECIPE match what trains."""
    from timm.optim import Lion

    _check_trained(subject, subject.train(partial(Lion, lr=LEARNING_RATE, weight_decay=0.1)))
    for pattern in schema.Recipe.model_validate(subject.variant.recipe).groups:
        if not fnmatch.filter(trainable_parameters(subject.attached), pattern):
            raise ContractBroken(f"RECIPE: groups: {pattern!r} matches no trained parameter")


def _check_trained(subject: Subject, model: nn.Module) -> None:
    before, after = all_tensors(subject.attached), all_tensors(model)
    trained = adaptation_state(subject.attached)
    frozen = {name: tensor for name, tensor in before.items() if name not in trained}
    _refuse_changes(frozen, after, "{} is frozen but changes in training; it would be lost when the run is saved")
    for name in trainable_parameters(subject.attached):
        if torch.equal(before[name], after[name]):
            raise ContractBroken(f"{name} is trainable but does not move within {STEPS} steps")
        if not after[name].isfinite().all():
            raise ContractBroken(f"{name} is no longer finite after {STEPS} steps")


def check_merge(subject: Subject) -> None:
    """Check that merging gives the backbone's keys in order, differs from the backbone and keeps the output."""
    expected = subject.backbone.state_dict()
    for precision, tolerance in MERGE_TOLERANCE.items():
        model = copy.deepcopy(subject.trained).to(precision)
        merged = subject.merged(model)
        if list(merged) != list(expected):
            raise ContractBroken("the merged state's keys or their order differ from the backbone's")
        wrong = [key for key, value in merged.items() if value.shape != expected[key].shape]
        if wrong:
            raise ContractBroken(
                f"merged {wrong[0]} has shape {tuple(merged[wrong[0]].shape)}, the backbone has {tuple(expected[wrong[0]].shape)}"
            )
        plain = copy.deepcopy(subject.backbone).to(precision)
        if not _differing(merged, plain.state_dict()):
            raise ContractBroken("the merged state equals the backbone's; it must contain the adaptation")
        plain.load_state_dict(merged)
        apart = difference(subject.output(plain), subject.output(model))
        if not apart <= tolerance:
            raise ContractBroken(
                f"the merged model's output differs by {apart:.1e} in {precision}; expected at most {tolerance:.0e}"
            )


def check_count(subject: Subject) -> None:
    """Check that trainable parameters count once, are all saved, and match the plan's `trainable` if declared."""
    parameters = trainable_parameters(subject.attached)
    counted = trainable_count(subject.attached)
    distinct = {(p.data_ptr(), p.numel()): p.numel() for p in parameters.values() if p.numel()}
    if sum(distinct.values()) != counted:
        raise ContractBroken(
            f"{counted} parameters are counted, but some share memory: only {sum(distinct.values())} are distinct"
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "adaptation.safetensors"
        save_tensors(path, adaptation_state(subject.attached), {})
        saved = sum(tensor.numel() for name, tensor in load_tensors(path)[0].items() if name in parameters)
    if saved != counted:
        raise ContractBroken(f"{counted} parameters are counted, {saved} are saved")
    declared = subject.planned.settings.get("trainable", counted)
    if declared != counted:
        raise ContractBroken(f"the plan declares {declared} trainable parameters, {counted} train")


CHECKS: Mapping[str, Callable[[Subject], None]] = {
    "plan is a function of the seed": check_plan,
    "attach is a function of the plan": check_attach,
    "seeds differ": check_seeds,
    "starts at the backbone": check_start,
    "only what is declared trains": check_training,
    "trains by a recipe": check_recipe,
    "merges": check_merge,
    "counts": check_count,
}


class _ShiftedDraws(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Make every random draw of torch come out differently by drawing one number from the same source first."""

    def __torch_dispatch__(
        self, func: Any, types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if torch.Tag.nondeterministic_seeded in func.tags:
            torch.rand(1, generator=(kwargs or {}).get("generator"))
        return func(*args, **(kwargs or {}))


class _watched:
    """Seed the global generators inside the block; raise `ContractBroken` if the block draws from them."""

    def __init__(self, function: str) -> None:
        self.function = function

    def __enter__(self) -> None:
        self.outside = chance_state()
        randomness.seed_globals("contract", "inside")
        self.inside = chance_state()

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        after = chance_state()
        restore_chance(self.outside)
        if kind is not None:
            return
        for name, before, now in zip(("python", "numpy", "torch"), self.inside, after, strict=True):
            if before != now:
                raise ContractBroken(
                    f"{self.function} draws from {name}'s global generator; use adaptsr.randomness.generator(seed, ...)"
                )


def _differing(first: Mapping[str, torch.Tensor], second: Mapping[str, torch.Tensor]) -> list[str]:
    """Return the names that are missing on one side or differ in a bit."""
    return [
        name
        for name in dict.fromkeys([*first, *second])
        if name not in first or name not in second or not torch.equal(first[name], second[name])
    ]


def _refuse_changes(before: Mapping[str, torch.Tensor], after: Mapping[str, torch.Tensor], message: str) -> None:
    changed = _differing(before, {name: after[name] for name in before if name in after})
    if changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise ContractBroken(message.format(changed[0] + more))


def difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Return the largest difference relative to the largest expected value; NaN if either is not finite."""
    return float((found - expected).abs().max() / expected.abs().max())
