"""The contract of a baseline file, as checks that say what is broken.

Every file of `baselines/` keeps it, and so does one that a user drops in: it plans and attaches as a function of its
seed, trains what it declares and nothing else, merges into the plain architecture, and comes back from disk the same.
The checks run on small backbones with random weights: the paper's four architectures, and one of our own with
everything that has been seen to go wrong (batch normalisation, layers without a bias, grouped convolutions).
"""

from __future__ import annotations

import copy
import inspect
import json
import os
import random
import string
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode

from adaptsr import config, randomness, records
from adaptsr.allocation import Batch
from adaptsr.backbones import Site, build, find_sites
from adaptsr.baselines import BaselineFile, Variant, discover, import_baseline, read_literals, resolve_variant
from adaptsr.errors import UserError
from adaptsr.reparametrization import (
    Plan,
    adaptation_state,
    freeze,
    load_adaptation,
    load_tensors,
    merged_state,
    save_tensors,
    trainable_count,
    trainable_parameters,
    training_mode,
)

SCALE = 4
LR_SIZE = 8
STEPS = 3
LEARNING_RATE = 1e-3
SEED, OTHER_SEED = 1, 2
START_TOLERANCE = 1e-5
MERGE_TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-10}
RELOAD_TOLERANCE = 1e-6
"""Largest difference of two outputs, relative to the largest absolute value of the expected one."""

_SWIN = {"upscale": SCALE, "img_size": LR_SIZE, "embed_dim": 12, "num_heads": [2], "window_size": 4, "mlp_ratio": 2}
ARCHITECTURES: Mapping[str, config.Backbone] = {
    "edsr": config.Backbone(architecture="edsr", options={"num_feat": 8, "num_block": 2}),
    "safmn": config.Backbone(architecture="SAFMN", options={"dim": 8, "n_blocks": 2, "upscaling_factor": SCALE}),
    "swinir": config.Backbone(
        architecture="SwinIR",
        options={**_SWIN, "depths": [2, 2], "num_heads": [2, 2], "upsampler": "pixelshuffledirect"},
    ),
    "drct": config.Backbone(
        architecture="DRCT", options={**_SWIN, "depths": [6], "gc": 4, "upsampler": "pixelshuffle"}
    ),
}
BACKBONES = ("batchnorm", *ARCHITECTURES)

Progress = Callable[[str], None]


class ContractBroken(AssertionError):
    """A baseline file does not keep the contract; the message says in one line what it does and what was expected."""


class CannotMerge(Exception):
    """The baseline's own `merge` says, with a `UserError`, that there is no plain model of what it does."""


@dataclass(frozen=True)
class CheckResult:
    """The outcome of one check; `variant` and `backbone` are empty for a check of the file as a whole."""

    check: str
    status: Literal["passed", "failed", "skipped"]
    message: str = ""
    variant: str = ""
    backbone: str = ""

    def __str__(self) -> str:
        where = " on ".join(part for part in (self.variant, self.backbone) if part)
        said = f": {self.message}" if self.message else ""
        return f"{self.status}: {f'{where}: ' if where else ''}{self.check}{said}"


class _Attention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(tokens).chunk(3, dim=-1)
        output: torch.Tensor = self.proj((q @ k.mT).softmax(dim=-1) @ v)
        return output


class _Feedforward(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 2 * width, bias=False)
        self.fc2 = nn.Linear(2 * width, width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.fc2(functional.gelu(self.fc1(tokens)))
        return output


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(width)
        self.attn = _Attention(width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = _Feedforward(width)
        self.depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.norm1(x).flatten(2).movedim(1, 2)
        tokens = tokens + self.attn(tokens)
        tokens = tokens + self.mlp(self.norm2(tokens))
        output: torch.Tensor = x + self.depthwise(tokens.movedim(2, 1).view_as(x))
        return output


class BatchNormBackbone(nn.Module):
    """Convolutions, attention and MLP with batch normalisation, layers without a bias and a grouped convolution."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.conv_first = nn.Conv2d(3, width, 3, padding=1)
        self.layers = nn.Sequential(_Block(width), _Block(width))
        self.norm = nn.BatchNorm2d(width)
        self.conv_after_body = nn.Conv2d(width, width, 3, padding=1)
        self.upsample = nn.Sequential(nn.Conv2d(width, 3 * SCALE**2, 3, padding=1), nn.PixelShuffle(SCALE))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = self.conv_first(x)
        body = self.conv_after_body(functional.gelu(self.norm(self.layers(features))))
        output: torch.Tensor = self.upsample(features + body)
        return output


@cache
def small_backbone(name: str) -> nn.Module:
    """One of `BACKBONES` with random weights, the same in every process; frozen, in eval mode. Copy it to change it."""
    chance = _chance()
    try:
        randomness.seed_globals("contract", "backbone", name)
        model = BatchNormBackbone() if name == "batchnorm" else build(ARCHITECTURES[name], SCALE)
    finally:
        _restore_chance(chance)
    generator = randomness.generator("contract", "weights", name)
    with torch.no_grad():
        # Initialisations leave biases at zero and norms at one, where a mistake in them would not show.
        for parameter in model.parameters():
            parameter.add_(0.03 * torch.randn(parameter.shape, generator=generator))
        for module in model.modules():
            if isinstance(module, _BatchNorm) and module.running_mean is not None and module.running_var is not None:
                module.running_mean.normal_(0, 0.1, generator=generator)
                module.running_var.uniform_(0.5, 1.5, generator=generator)
    freeze(model)
    return model.eval()


@cache
def calibration(index: int) -> Batch:
    """The i-th batch of made-up data, LR (2, 3, 8, 8) and HR (2, 3, 32, 32) in [0, 1]; the same for every seed."""
    generator = randomness.generator("contract", "data", index)
    return (
        torch.rand(2, 3, LR_SIZE, LR_SIZE, generator=generator),
        torch.rand(2, 3, SCALE * LR_SIZE, SCALE * LR_SIZE, generator=generator),
    )


@dataclass(eq=False)
class Subject:
    """One variant on one backbone, planned, attached and trained once for all checks."""

    variant: Variant
    name: str
    backbone: nn.Module
    batch: Callable[[int], Batch]

    @staticmethod
    def of(variant: Variant, backbone: str) -> Subject:
        return Subject(variant, backbone, small_backbone(backbone), calibration)

    @cached_property
    def sites(self) -> list[Site]:
        return find_sites(self.backbone)

    @cached_property
    def options(self) -> dict[str, Any]:
        """The variant's options; a budget that names another variant becomes what that one trains here."""
        options = dict(self.variant.options)
        if isinstance(options.get("budget"), str):
            reference = Subject(_named(options["budget"], self.variant), self.name, self.backbone, self.batch)
            options["budget"] = trainable_count(reference.attach(reference.planned))
        return options

    def plan(self, seed: int) -> Plan:
        return self.variant.plan(copy.deepcopy(self.backbone), self.sites, self.options, self.batch, seed)

    @cached_property
    def planned(self) -> Plan:
        return self.plan(SEED)

    def attach(self, plan: Plan) -> nn.Module:
        model = copy.deepcopy(self.backbone)
        self.variant.attach(model, plan)
        return model.eval()

    @cached_property
    def attached(self) -> nn.Module:
        return self.attach(self.planned)

    @cached_property
    def trained(self) -> nn.Module:
        """A copy of the attached model after three steps of Adam on L1."""
        model = copy.deepcopy(self.attached)
        optimizer = torch.optim.Adam(trainable_parameters(model).values(), lr=LEARNING_RATE)
        chance = _chance()
        try:
            for step in range(STEPS):
                randomness.seed_globals("contract", "step", step)
                lr, hr = self.batch(step)
                training_mode(model)
                optimizer.zero_grad()
                functional.l1_loss(model(lr), hr).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
        finally:
            _restore_chance(chance)
        return model.eval()

    def output(self, model: nn.Module) -> torch.Tensor:
        """What the model makes of the first LR batch, in the model's own precision."""
        precision = next(model.parameters()).dtype
        with torch.no_grad():
            output: torch.Tensor = model(self.batch(0)[0].to(precision))
        return output

    def merged(self, model: nn.Module) -> dict[str, torch.Tensor]:
        """The plain state of a copy of the model, by the baseline's own `merge` where it has one."""
        model = copy.deepcopy(model)
        module = import_baseline(self.variant.baseline.path)
        if hasattr(module, "merge"):
            try:
                with torch.no_grad():
                    model = module.merge(model, self.planned)
            except UserError as refusal:
                raise CannotMerge(str(refusal)) from None
        return merged_state(model, list(self.backbone.state_dict()))

    def save(self, folder: Path) -> None:
        """Leave behind what a run does, and the output that it has to give again."""
        self.planned.save(folder)
        save_tensors(folder / "adaptation.safetensors", adaptation_state(self.trained), {})
        save_tensors(folder / "output.safetensors", {"output": self.output(self.trained)}, {})
        variant = self.variant
        records.write_json(
            folder / "subject.json",
            {
                "path": str(variant.baseline.path),
                "variant": variant.name,
                "options": dict(variant.options),
                "backbone": self.name,
            },
        )


def _named(row: str, variant: Variant) -> Variant:
    name, _, chosen = row.partition("/")
    files = {**discover(), variant.baseline.name: variant.baseline}
    if name not in files:
        raise UserError(f"{variant.row}: budget: no baseline {name!r}; there are {config.listing(files)}")
    return resolve_variant(files[name], None, chosen, f"{variant.row}: budget")


def subjects(file: BaselineFile) -> list[tuple[Variant, str]]:
    """What is checked: the chosen variants on all small backbones, those that differ in numbers alone on the first."""
    seen: set[str] = set()
    pairs = []
    for variant in chosen_variants(file):
        kinds = _option_kinds(variant.options)
        pairs += [(variant, backbone) for backbone in (BACKBONES if kinds - seen else BACKBONES[:1])]
        seen |= kinds
    return pairs


def chosen_variants(file: BaselineFile) -> list[Variant]:
    """The variants of ROWS, and of the others the first that has an option at a value which none before it has.

    All numbers count as one value: r = 2 shows nothing that r = 1 does not.
    """
    seen: set[str] = set()
    chosen = []
    for name in [*file.rows, *(name for name in file.variants if name not in file.rows)]:
        options = {**file.options, **file.variants[name]}
        kinds = _option_kinds(options)
        if name in file.rows or kinds - seen:
            chosen.append(Variant(file, name, options))
        seen |= kinds
    return chosen


def _option_kinds(options: Mapping[str, Any]) -> set[str]:
    """Every option with its value, a number told from others only by being zero or not."""
    kinds = set()
    for key, value in options.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        kind = str(value != 0) if number else json.dumps(value, sort_keys=True, default=str)
        if key != "title":
            kinds.add(f"{key}={kind}")
    return kinds


def check_literals(file: BaselineFile) -> None:
    """What was read without running the file is what running it gives, and the functions take what they are given."""
    module = import_baseline(file.path)
    for name, read in (
        ("OPTIONS", file.options),
        ("VARIANTS", file.variants),
        ("ROWS", file.rows),
        ("PROTOCOL", file.protocol),
    ):
        if getattr(module, name, read) != read:
            raise ContractBroken(f"{name} is changed while the file runs; it has to be the literal that stands there")
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
            raise ContractBroken(f"{name} was expected to take ({', '.join(takes)})") from None
    placeholders = {field for _, field, _, _ in string.Formatter().parse(file.title) if field}
    unknown = sorted(placeholders - set(file.options))
    if unknown:
        raise ContractBroken(f"TITLE: {{{unknown[0]}}} is none of OPTIONS, so that no row can fill it in")


def check_plan(subject: Subject) -> None:
    """Planning is a function of the seed, leaves the backbone and all global chance alone, and gives plain JSON."""
    first = subject.planned
    backbone = copy.deepcopy(subject.backbone)
    before = _tensors(backbone)
    with _watched("plan"):
        second = subject.variant.plan(backbone, subject.sites, copy.deepcopy(subject.options), subject.batch, SEED)
    _refuse_changes(before, _tensors(backbone), "plan changes {} of the backbone; it may only read it")
    if json.loads(json.dumps(first.settings)) != first.settings:
        raise ContractBroken(
            "plan: settings are not plain JSON (tuples and numbers as keys come back as something else)"
        )
    if first.settings != second.settings or _differing(first.tensors, second.tensors):
        raise ContractBroken(
            "plan gives two plans for one seed; draw from adaptsr.randomness.generator(seed, ...) and nothing else"
        )


def check_attach(subject: Subject) -> None:
    """Attaching is a function of the plan, also of one read from disk, and leaves all global chance alone."""
    with tempfile.TemporaryDirectory() as folder:
        subject.planned.save(Path(folder))
        loaded = Plan.load(Path(folder))
    with _watched("attach"):
        model = subject.attach(loaded)
    if list(trainable_parameters(model)) != list(trainable_parameters(subject.attached)):
        raise ContractBroken("attach trains other parameters when the plan comes from disk")
    _refuse_changes(
        _tensors(subject.attached),
        _tensors(model),
        "attach gives {} two values for one plan; key every generator by the plan's seed",
    )


def check_seeds(subject: Subject) -> None:
    """Where chance decides anything, another seed decides otherwise."""
    if _same(subject, subject.attached, subject.attach(subject.plan(OTHER_SEED))):
        with _ShiftedDraws():  # type: ignore[no-untyped-call]
            shifted = subject.attach(subject.plan(SEED))
        if not _same(subject, subject.attached, shifted):
            raise ContractBroken(
                f"plan and attach depend on chance, but come to the same for seeds {SEED} and {OTHER_SEED}; "
                "key every generator by the seed"
            )


def _same(subject: Subject, first: nn.Module, second: nn.Module) -> bool:
    """Whether two attached models start from the same values, and compute the same once those are moved alike."""
    outputs = []
    for model in (first, second):
        moved = copy.deepcopy(model)
        for name, parameter in trainable_parameters(moved).items():
            step = torch.randn(parameter.shape, generator=randomness.generator("contract", "moved", name))
            parameter.data.add_(0.1 * step)
        outputs.append(subject.output(moved))
    return not _differing(adaptation_state(first), adaptation_state(second)) and torch.equal(*outputs)


def check_start(subject: Subject) -> None:
    """Before the first step the attached model is the backbone, unless the file says otherwise."""
    if not subject.variant.baseline.starts_at_backbone:
        return
    difference = _difference(subject.output(subject.attached), subject.output(subject.backbone))
    if not difference <= START_TOLERANCE:
        raise ContractBroken(
            f"the attached model's output differs from the backbone's by {difference:.1e} before the first step; "
            "start at zero, or say STARTS_AT_BACKBONE = False"
        )


def check_training(subject: Subject) -> None:
    """Three steps move every trainable parameter and not one bit of anything else, buffers included."""
    before, after = _tensors(subject.attached), _tensors(subject.trained)
    trained = adaptation_state(subject.attached)
    frozen = {name: tensor for name, tensor in before.items() if name not in trained}
    _refuse_changes(frozen, after, "{} is frozen but changes in training; it would be lost when the run is saved")
    for name in trainable_parameters(subject.attached):
        if torch.equal(before[name], after[name]):
            raise ContractBroken(f"{name} is trainable but does not move within {STEPS} steps")
        if not after[name].isfinite().all():
            raise ContractBroken(f"{name} is no longer finite after {STEPS} steps")


def check_merge(subject: Subject) -> None:
    """Merging gives the architecture's own keys in their order, another model than the backbone, and the same output."""
    expected = subject.backbone.state_dict()
    for precision, tolerance in MERGE_TOLERANCE.items():
        model = copy.deepcopy(subject.trained).to(precision)
        merged = subject.merged(model)
        if list(merged) != list(expected):
            raise ContractBroken("the merged state's keys are not those of the backbone in their order")
        wrong = [key for key, value in merged.items() if value.shape != expected[key].shape]
        if wrong:
            raise ContractBroken(
                f"merged {wrong[0]} has shape {tuple(merged[wrong[0]].shape)}, the backbone has {tuple(expected[wrong[0]].shape)}"
            )
        plain = copy.deepcopy(subject.backbone).to(precision)
        if not _differing(merged, plain.state_dict()):
            raise ContractBroken("the merged state is that of the backbone: nothing of the adaptation is in it")
        plain.load_state_dict(merged)
        difference = _difference(subject.output(plain), subject.output(model))
        if not difference <= tolerance:
            raise ContractBroken(
                f"the merged model's output differs by {difference:.1e} in {precision}; at most {tolerance:.0e} was expected"
            )


def check_count(subject: Subject) -> None:
    """What trains is counted once, is what is saved, and is what the plan says where it says so (`trainable`)."""
    parameters = trainable_parameters(subject.attached)
    counted = trainable_count(subject.attached)
    distinct = {(p.data_ptr(), p.numel()): p.numel() for p in parameters.values() if p.numel()}
    if sum(distinct.values()) != counted:
        raise ContractBroken(
            f"{counted} parameters are counted, but they share memory and are {sum(distinct.values())}"
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
    "merges": check_merge,
    "counts": check_count,
}


def check_subject(subject: Subject) -> Iterator[CheckResult]:
    """All checks of one variant on one backbone; a single skipped one where the backbone is refused."""
    try:
        _ = subject.attached
    except UserError as refusal:
        yield _result(subject, "takes this backbone", "skipped", str(refusal))
        return
    except Exception as error:
        yield _result(subject, "takes this backbone", "failed", _one_line(error))
        return
    for name, check in CHECKS.items():
        try:
            check(subject)
            yield _result(subject, name, "passed", "")
        except CannotMerge as refusal:
            yield _result(subject, name, "skipped", str(refusal))
        except Exception as error:
            yield _result(subject, name, "failed", _one_line(error))


def _result(subject: Subject, check: str, status: Literal["passed", "failed", "skipped"], message: str) -> CheckResult:
    return CheckResult(check, status, message, subject.variant.row, subject.name)


def check_baseline(path: Path, progress: Progress = lambda line: None) -> list[CheckResult]:
    """The whole contract of one file: its literals, its variants on the small backbones, and a fresh process.

    A backbone that the file refuses with a `UserError` is skipped, but one at least has to be taken.
    `UserError` when the file cannot be read at all.
    """
    file = read_literals(path.resolve())
    results = [_file_check("literals", lambda: check_literals(file))]
    with tempfile.TemporaryDirectory() as temporary:
        folders = []
        for variant, backbone in subjects(file):
            subject = Subject.of(variant, backbone)
            found = list(check_subject(subject))
            if any(r.status == "passed" for r in found) and not any(r.status == "failed" for r in found):
                folders.append(Path(temporary) / variant.name / backbone)
                subject.save(folders[-1])
            results += found
            progress(_summary(variant, backbone, found))
        results += check_fresh_process(folders)
    results.append(_file_check("takes a backbone", lambda: check_takes_a_backbone(results)))
    return results


def check_takes_a_backbone(results: Sequence[CheckResult]) -> None:
    planned = [result for result in results if result.backbone]
    if planned and all(result.status == "skipped" for result in planned):
        raise ContractBroken(f"no backbone is taken; {planned[0].backbone} is refused with: {planned[0].message}")


def _file_check(name: str, check: Callable[[], None]) -> CheckResult:
    try:
        check()
    except Exception as error:
        return CheckResult(name, "failed", _one_line(error))
    return CheckResult(name, "passed")


def _summary(variant: Variant, backbone: str, results: Iterable[CheckResult]) -> str:
    wrong = [result for result in results if result.status != "passed"]
    said = "; ".join(f"{result.status}: {result.check}: {result.message}" for result in wrong)
    return f"{variant.row} on {backbone}: {said or 'ok'}"


def check_fresh_process(folders: Sequence[Path]) -> list[CheckResult]:
    """Load saved subjects in a new process, which has no data, and compare their outputs. One process for all."""
    if not folders:
        return []
    package = str(Path(__file__).resolve().parent.parent)
    paths = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-m", "adaptsr.contract", str(torch.get_num_threads()), *map(str, folders)],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        return [CheckResult("fresh process", "failed", f"it ended with status {done.returncode}: {last}")]
    results = []
    for folder in folders:
        saved = records.read_json(folder / "subject.json", "what a contract check left behind")
        row = f"{Path(saved['path']).stem}/{saved['variant']}"
        outcome = records.read_json(folder / "reloaded.json", "what a contract check left behind")
        message = str(outcome["message"])
        results.append(CheckResult("fresh process", "failed" if message else "passed", message, row, saved["backbone"]))
    return results


def reload_saved(folder: Path) -> None:
    """Attach and load one saved subject and compare its output; the side of `check_fresh_process` that is fresh."""
    saved = records.read_json(folder / "subject.json", "what a contract check left behind")
    variant = Variant(read_literals(Path(saved["path"])), saved["variant"], saved["options"])
    message = ""
    try:
        subject = Subject(variant, saved["backbone"], small_backbone(saved["backbone"]), calibration)
        model = subject.attach(Plan.load(folder))
        load_adaptation(model, load_tensors(folder / "adaptation.safetensors")[0], "the saved adaptation")
        expected = load_tensors(folder / "output.safetensors")[0]["output"]
        difference = _difference(subject.output(model), expected)
        if not difference <= RELOAD_TOLERANCE:
            message = f"the output differs by {difference:.1e} when the adaptation is loaded in a fresh process"
    except Exception as error:
        message = _one_line(error)
    records.write_json(folder / "reloaded.json", {"message": message})


class _ShiftedDraws(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Everything random that torch draws comes out differently: one number is drawn before it from the same source."""

    def __torch_dispatch__(
        self, func: Any, types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if torch.Tag.nondeterministic_seeded in func.tags:
            torch.rand(1, generator=(kwargs or {}).get("generator"))
        return func(*args, **(kwargs or {}))


class _watched:
    """Global generators at a state of their own inside, which nothing inside may change."""

    def __init__(self, function: str) -> None:
        self.function = function

    def __enter__(self) -> None:
        self.outside = _chance()
        randomness.seed_globals("contract", "inside")
        self.inside = _chance()

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        after = _chance()
        _restore_chance(self.outside)
        if kind is not None:
            return
        for name, before, now in zip(("python", "numpy", "torch"), self.inside, after, strict=True):
            if before != now:
                raise ContractBroken(
                    f"{self.function} draws from {name}'s global generator; use adaptsr.randomness.generator(seed, ...)"
                )


def _chance() -> tuple[Any, Any, Any]:
    """The states of the global generators of python, numpy and torch, in forms that compare."""
    name, keys, *rest = np.random.get_state(legacy=True)
    return random.getstate(), (name, np.asarray(keys).tobytes(), *rest), torch.get_rng_state().numpy().tobytes()


def _restore_chance(state: tuple[Any, Any, Any]) -> None:
    python, (name, keys, *rest), torchs = state
    random.setstate(python)
    np.random.set_state((name, np.frombuffer(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(torch.frombuffer(bytearray(torchs), dtype=torch.uint8))


def _tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """Copies of all parameters and buffers, those included that no state dict shows."""
    named: dict[str, torch.Tensor] = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {name: tensor.detach().clone() for name, tensor in named.items()}


def _differing(first: Mapping[str, torch.Tensor], second: Mapping[str, torch.Tensor]) -> list[str]:
    """Names that are on one side only or differ in a bit."""
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


def _difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest difference relative to the largest expected value; not a number where either is not finite."""
    return float((found - expected).abs().max() / expected.abs().max())


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())[:400]
    return text if isinstance(error, ContractBroken | UserError) else f"{type(error).__name__}: {text}"


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[1]))
    for argument in sys.argv[2:]:
        reload_saved(Path(argument))
