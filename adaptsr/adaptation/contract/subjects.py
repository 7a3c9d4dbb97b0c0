"""The subjects of the contract: variants, each planned, attached and trained once on a small backbone."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from adaptsr import files, randomness
from adaptsr.adaptation.allocation import Batch
from adaptsr.adaptation.attaching import attach, budget_option, plan_variant
from adaptsr.adaptation.baseline_files import BaselineFile, Variant, discover, resolve_variant
from adaptsr.adaptation.contract.backbones import BACKBONES, calibration, chance_state, restore_chance, small_backbone
from adaptsr.adaptation.merging import merge
from adaptsr.adaptation.reparametrization import Plan, adaptation_state, trainable_parameters, training_mode
from adaptsr.backbones.sites import Site, find_sites
from adaptsr.errors import UserError
from adaptsr.tensors import save_tensors

STEPS = 3


LEARNING_RATE = 1e-3


SEED, OTHER_SEED = 1, 2


class CannotMerge(Exception):
    """The baseline's own `merge` raised a `UserError`: the method has no plain model."""


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

    def fresh(self) -> nn.Module:
        return copy.deepcopy(self.backbone)

    @cached_property
    def budget(self) -> dict[str, int]:
        """The variant's budget on this backbone, counted once for all seeds."""
        return budget_option(self.variant, self.fresh, self.sites, self.batch, SEED)

    def plan(self, seed: int) -> Plan:
        return plan_variant(self.variant, self.fresh, self.sites, self.batch, seed, self.budget)

    @cached_property
    def planned(self) -> Plan:
        return self.plan(SEED)

    def attach(self, plan: Plan) -> nn.Module:
        return attach(self.fresh(), self.variant, plan).eval()

    @cached_property
    def attached(self) -> nn.Module:
        return self.attach(self.planned)

    @cached_property
    def trained(self) -> nn.Module:
        """A copy of the attached model after three steps of Adam on L1."""
        return self.train(partial(torch.optim.Adam, lr=LEARNING_RATE))

    def train(self, make_optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]) -> nn.Module:
        """Return a copy of the attached model after three steps on L1."""
        model = copy.deepcopy(self.attached)
        optimizer = make_optimizer(trainable_parameters(model).values())
        chance = chance_state()
        try:
            for step in range(STEPS):
                randomness.seed_globals("contract", "step", step)
                lr, hr = self.batch(step)
                training_mode(model)
                optimizer.zero_grad()
                functional.l1_loss(model(lr), hr).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
        finally:
            restore_chance(chance)
        return model.eval()

    def output(self, model: nn.Module) -> torch.Tensor:
        """Return the model's output for the first LR batch, in the model's own precision."""
        precision = next(model.parameters()).dtype
        with torch.no_grad():
            output: torch.Tensor = model(self.batch(0)[0].to(precision))
        return output

    def merged(self, model: nn.Module) -> dict[str, torch.Tensor]:
        """Merge a copy of the model into a plain state dict. Raises `CannotMerge` if the baseline's `merge` refuses."""
        try:
            return merge(copy.deepcopy(model), self.variant.baseline, self.planned, list(self.backbone.state_dict()))
        except UserError as refusal:
            raise CannotMerge(str(refusal)) from None

    def save(self, folder: Path) -> None:
        """Save what a run saves, and the output that a reload must reproduce."""
        self.planned.save(folder)
        save_tensors(folder / "adaptation.safetensors", adaptation_state(self.trained), {})
        save_tensors(folder / "output.safetensors", {"output": self.output(self.trained)}, {})
        variant = self.variant
        files.write_json(
            folder / "subject.json",
            {
                "path": str(variant.baseline.path),
                "variant": variant.name,
                "options": dict(variant.options),
                "backbone": self.name,
            },
        )


def subjects(file: BaselineFile) -> list[tuple[Variant, str]]:
    """List what to check: variants on all small backbones, or on the first if they differ only in numbers."""
    seen: set[str] = set()
    pairs = []
    for variant in chosen_variants(file):
        kinds = option_kinds(variant.options)
        pairs += [(variant, backbone) for backbone in (BACKBONES if kinds - seen else BACKBONES[:1])]
        seen |= kinds
    return pairs


def chosen_variants(file: BaselineFile) -> list[Variant]:
    """Return the variants of ROWS, then each other variant with an option value that none before it has.

    All numbers but zero count as one value: r = 2 shows nothing that r = 1 does not.
    """
    known = {**discover(), file.name: file}
    seen: set[str] = set()
    chosen = []
    for name in [*file.rows, *(name for name in file.variants if name not in file.rows)]:
        variant = resolve_variant(known, {}, f"{file.name}/{name}", str(file.path))
        kinds = option_kinds(variant.options)
        if name in file.rows or kinds - seen:
            chosen.append(variant)
        seen |= kinds
    return chosen


def option_kinds(options: Mapping[str, Any]) -> set[str]:
    """Return every option with its value; numbers differ only in being zero or not."""
    kinds = set()
    for key, value in options.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        kind = str(value != 0) if number else json.dumps(value, sort_keys=True, default=str)
        if key != "title":
            kinds.add(f"{key}={kind}")
    return kinds


def all_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """Copy all parameters and buffers, including those outside the state dict."""
    named: dict[str, torch.Tensor] = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {name: tensor.detach().clone() for name, tensor in named.items()}
