"""Count the parameters of a variant on a backbone."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from adaptsr.adaptation.allocation import Batch, Calibration
from adaptsr.adaptation.attaching import attach, plan_variant
from adaptsr.adaptation.baseline_files import Variant
from adaptsr.adaptation.reparametrization import merged_state, parameter_count, trainable_count, trainable_parameters
from adaptsr.backbones.gate import Facts, facts
from adaptsr.backbones.sites import Site

SEED = 0
CALIBRATION_SIDE = 32
"""LR side in pixels of the random calibration batch, enlarged if the model needs it."""


@dataclass(frozen=True)
class Count:
    """Parameters of one variant on one backbone."""

    backbone: str
    row: str
    total: int
    trainable: int
    merged_total: int
    by_kind: dict[str, int]
    """Trainable parameters by kind of site, `other` outside sites. Shared parameters count at their first use."""
    left_out: list[str]
    """Sites that the variant does not touch, such as grouped convolutions."""
    notes: list[str]
    """What the plan says about this row on this backbone."""


def count(model: nn.Module, sites: Sequence[Site], variant: Variant, name: str) -> Count:
    """Count a variant's parameters on the backbone called `name` by attaching it to a copy.

    Random images replace calibration data: no count of the paper depends on them.
    """

    def fresh() -> nn.Module:
        return copy.deepcopy(model)

    plan = plan_variant(variant, fresh, sites, _random_images(facts(model)), SEED)
    attached = attach(fresh(), variant, plan)
    keys = list(model.state_dict())
    parameters = {path for path, _ in model.named_parameters()}
    merged = merged_state(attached, keys)
    kinds = {site.name: site.kind for site in sites}
    by_kind: dict[str, int] = {}
    touched = set()
    for path, parameter in trainable_parameters(attached).items():
        site = next((s for s in kinds if path.startswith(f"{s}.")), None)
        kind = kinds[site] if site else "other"
        by_kind[kind] = by_kind.get(kind, 0) + parameter.numel()
        touched.add(site)
    return Count(
        backbone=name,
        row=variant.row,
        total=parameter_count(model),
        trainable=trainable_count(attached),
        merged_total=sum(tensor.numel() for key, tensor in merged.items() if key in parameters),
        by_kind=dict(sorted(by_kind.items())),
        left_out=[site.name for site in sites if site.name not in touched],
        notes=plan.notes,
    )


def sites_as_text(sites: Sequence[Site]) -> str:
    """Format one line per site: name, kind, shape, bias and anything special."""
    lines = []
    for site in sites:
        marks = [
            *(["feeds a pixel shuffle"] if site.upsampling else []),
            *([f"{site.groups} groups"] if site.grouped else []),
        ]
        shape, bias = "x".join(map(str, site.shape)), "bias" if site.bias else "-"
        lines.append(f"{site.name:<52} {site.kind:<10} {shape:<16} {bias:<5} {', '.join(marks)}".rstrip())
    return "\n".join(lines)


def as_text(counted: Count) -> str:
    """Format the counts of a variant for a terminal."""
    lines = [
        f"{counted.row} on {counted.backbone}",
        f"  total      {counted.total:>12,}",
        f"  trainable  {counted.trainable:>12,}  ({100 * counted.trainable / counted.total:.2f}% of the total)",
        f"  merged     {counted.merged_total:>12,}",
        *(f"  trainable, {kind:<10} {number:>11,}" for kind, number in counted.by_kind.items()),
        *([f"  untouched sites: {', '.join(counted.left_out)}"] if counted.left_out else []),
        *(f"  {note}" for note in counted.notes),
    ]
    return "\n".join(lines)


def _random_images(known: Facts) -> Calibration:
    generator = torch.Generator().manual_seed(SEED)
    height, width = known.sizes.fitted(CALIBRATION_SIDE, CALIBRATION_SIDE)

    def batch(_: int) -> Batch:
        lr = torch.rand(1, 3, height, width, generator=generator)
        return lr, torch.rand(1, 3, height * known.scale, width * known.scale, generator=generator)

    return batch
