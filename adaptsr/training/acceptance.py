"""Accept a backbone and its variants before anything trains: one step of each, saved, merged and compared, in seconds."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from adaptsr import files, randomness
from adaptsr.adaptation.allocation import Batch, Calibration
from adaptsr.adaptation.attaching import attach, plan_variant
from adaptsr.adaptation.baseline_files import Variant
from adaptsr.adaptation.merging import merge
from adaptsr.adaptation.reparametrization import (
    adaptation_state,
    load_adaptation,
    trainable_count,
    training_mode,
)
from adaptsr.backbones.gate import facts
from adaptsr.backbones.inference import restore
from adaptsr.backbones.sites import Site, dead_sites
from adaptsr.backbones.trial import check_start
from adaptsr.config import schema
from adaptsr.data.fetch import resolve_weights
from adaptsr.data.images import to_uint8
from adaptsr.data.store import PairSet
from adaptsr.errors import UserError
from adaptsr.progress import Progress
from adaptsr.runs.matrix import Matrix
from adaptsr.training.acceleration import accelerate
from adaptsr.training.loop import memory_explained
from adaptsr.training.recipe import Trainer

SEED = 0
TOLERANCE = 1
"""Largest difference, in levels of 8 bit, of an attached model's and its merged form's images: a tie may round both ways."""
LARGEST_CROP = 256
"""The largest LR side in pixels that is tried to say which crop a backbone takes."""


@dataclass(frozen=True)
class Accepted:
    """A backbone and the variants that take a step on it.

    dead_sites: layers that its forward does not use. rows: the key of each variant; trainable: its parameters. start: trained
    weights compared with bicubic enlargement on the validation pairs, in dB.
    """

    backbone: str
    scale: int
    lr_crop: int
    smallest: tuple[int, int]
    sites: dict[str, int]
    dead_sites: list[str]
    rows: dict[str, str]
    trainable: dict[str, int]
    start: dict[str, float] | None = None


def path_of(matrix: Matrix, backbone: str) -> Path:
    """Return the file that remembers the acceptance of a profile's backbone."""
    return matrix.results / "accepted" / f"{backbone}.json"


def remembered(matrix: Matrix, backbone: str, row: str) -> bool:
    """Tell whether a variant was accepted with these options on these weights."""
    path = path_of(matrix, backbone)
    if not path.is_file():
        return False
    content = files.read_json(path, "what check-backbone writes")
    same_row = content.get("rows", {}).get(row) == matrix.untuned.variant_key(backbone, row)
    return same_row and content.get("weights") == _weights(matrix, backbone)


def accept(
    matrix: Matrix,
    name: str,
    model: nn.Module,
    sites: Sequence[Site],
    rows: Sequence[str],
    device: torch.device,
    validation: PairSet | None = None,
    say: Progress | None = None,
) -> Accepted:
    """Check a backbone with every row; return what is known of it. Raises one `UserError` for all that fail.

    With validation pairs, trained weights are compared with bicubic enlargement first. say: told if they restore far worse,
    which is a refusal otherwise.
    """
    model, matrix = model.to(device), matrix.untuned  # before tuning, nothing is chosen
    variants = {row: matrix.variant(row) for row in rows}
    lr_crop = matrix.profile.schedule.crop // facts(model).scale
    where = f"{matrix.source}: backbone {name}"
    start = _start(matrix, name, model, validation, where, say)
    _check_crop(model, lr_crop, where)
    trainable: dict[str, int] = {}
    problems = []
    for row, variant in variants.items():
        training = matrix.training(variant, name)
        try:
            with memory_explained(training):
                trainable[row] = _one_step(model, sites, variant, training)
        except UserError as refusal:
            problems.append(f"{row}: {refusal}")
        except Exception as error:
            problems.append(f"{row}: a training step fails: {_reason(error)}{_batch_hint(error)}")
    if problems:
        raise UserError(
            f"{where}: {'; '.join(problems)}; leave these rows out on this backbone (`only` or `rows` under baselines), or give another"
        )
    kinds = [site.kind for site in sites]
    return Accepted(
        backbone=name,
        scale=facts(model).scale,
        lr_crop=lr_crop,
        smallest=facts(model).sizes.fitted(1, 1),
        sites={kind: kinds.count(kind) for kind in sorted(set(kinds))},
        dead_sites=dead_sites(model),
        rows={row: matrix.variant_key(name, row) if name in matrix.profile.backbones else "" for row in rows},
        trainable=trainable,
        start=start,
    )


def write(matrix: Matrix, accepted: Accepted, out: Path) -> None:
    """Write what `remembered` reads."""
    files.write_json(out, {**asdict(accepted), "weights": _weights(matrix, accepted.backbone)})


def _weights(matrix: Matrix, backbone: str) -> str | None:
    weights = matrix.profile.backbones[backbone].weights
    return files.file_sha256(resolve_weights(weights)) if weights else None


def as_text(accepted: Accepted) -> str:
    """Format what was accepted for a terminal."""
    kinds = ", ".join(f"{number} {kind}" for kind, number in accepted.sites.items())
    lines = [
        f"{accepted.backbone}: x{accepted.scale}, from {accepted.smallest[0]} x {accepted.smallest[1]} pixels on; sites: {kinds}",
        *(
            [f"  validation pairs: {accepted.start['restored']:.2f} dB, bicubic {accepted.start['bicubic']:.2f} dB"]
            if accepted.start
            else []
        ),
        *([f"  unused by its forward: {', '.join(accepted.dead_sites)}"] if accepted.dead_sites else []),
        *(f"  {row:<34} {number:>12,} trainable" for row, number in accepted.trainable.items()),
    ]
    return "\n".join(lines)


def _start(
    matrix: Matrix, name: str, model: nn.Module, validation: PairSet | None, where: str, say: Progress | None
) -> dict[str, float] | None:
    """Compare a start with bicubic enlargement; None without trained weights, or without pairs of the model's scale."""
    declared = matrix.profile.backbones.get(name)
    if validation is None or validation.scale != facts(model).scale or (declared and not declared.weights):
        return None
    margin = declared.below_bicubic if declared else schema.Backbone.model_fields["below_bicubic"].default
    try:
        return {**check_start(model, validation, where, margin)._asdict(), "below_bicubic": margin}
    except UserError as refusal:
        if say is None:
            raise
        say(f"warning: {refusal}")
        return None


def _check_crop(model: nn.Module, side: int, where: str) -> None:
    """Raise `UserError` if the model fails on LR crops of this side, in eval or training mode."""
    reason = _failure(model, side)
    if reason is None:
        return
    scale, fitted = facts(model).scale, facts(model).sizes.fitted
    larger = sorted({*fitted(side, side), *(s for power in range(3, 9) for s in fitted(2**power, 2**power))})
    works = next((s for s in larger if side < s <= LARGEST_CROP and _failure(model, s) is None), None)
    advice = f"set training.crop to {works * scale} or more" if works else "give another backbone"
    raise UserError(f"{where}: fails on LR crops of {side} x {side} pixels (training.crop / scale): {reason}; {advice}")


def _failure(model: nn.Module, side: int) -> str | None:
    scale = facts(model).scale
    probed = copy.deepcopy(model)
    lr, _ = _batch(side, scale, 2, next(model.parameters()).device)
    for mode, images in ((probed.eval, lr[:1]), (lambda: training_mode(probed), lr)):
        mode()
        try:
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                restored = probed(images)
        except Exception as error:
            return _reason(error)
        if tuple(restored.shape[-2:]) != (side * scale, side * scale):
            return f"the output has {restored.shape[-2]} x {restored.shape[-1]} pixels"
    return None


def _one_step(model: nn.Module, sites: Sequence[Site], variant: Variant, training: schema.Training) -> int:
    """Plan, attach, train one step, save and merge; return how many parameters train. Raises `UserError` for what is wrong."""

    def fresh() -> nn.Module:
        return copy.deepcopy(model)

    device = next(model.parameters()).device
    scale = facts(model).scale
    calibration = _calibration(training, scale, device)
    plan = plan_variant(variant, fresh, sites, calibration, SEED)
    attached = attach(fresh(), variant, plan).to(device)
    accelerate(attached)
    trainer = Trainer(attached, training)
    trainer.begin(0)
    lr, hr = calibration(1)
    training_mode(attached)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        loss = functional.l1_loss(attached(lr), hr)
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]
    missing = [name for name, parameter in trainer.parameters.items() if parameter.grad is None]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise UserError(f"no gradient reaches {missing[0]}{more}")
    trainer.optimizer.step()
    trained = attach(fresh(), variant, plan).to(device)
    load_adaptation(trained, adaptation_state(attached), "the adaptation after one step")
    image = to_uint8(lr[:1])
    expected = restore(trained.eval(), image)
    plain = fresh()
    try:
        merged = merge(trained, variant.baseline, plan, list(plain.state_dict()))
    except UserError:  # the method has no plain form, and says so when a run is merged
        return trainable_count(attached)
    plain.load_state_dict(merged)
    apart = int((restore(plain.eval(), image).int() - expected.int()).abs().max())
    if apart > TOLERANCE:
        raise UserError(f"the merged model restores an image differently, by up to {apart} of 255 levels")
    return trainable_count(attached)


def _calibration(training: schema.Training, scale: int, device: torch.device) -> Calibration:
    return lambda index: _batch(training.crop // scale, scale, training.batch_size, device, index)


def _batch(side: int, scale: int, images: int, device: torch.device, index: int = 0) -> Batch:
    """Draw random LR and HR images: what is checked depends on shapes alone."""
    generator = randomness.generator("acceptance", index)
    sides = (side, side * scale)
    lr, hr = (torch.rand(images, 3, pixels, pixels, generator=generator).to(device) for pixels in sides)
    return lr, hr


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _batch_hint(error: Exception) -> str:
    return "; set training.batch_size to 2 or more" if "more than 1 value per channel" in str(error) else ""
