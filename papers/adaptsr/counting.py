"""Count parameters by building the full-size backbones and attaching variants to them."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NoReturn

import torch
from torch import nn

from adaptsr.adaptation import baseline_files
from adaptsr.adaptation.attaching import attach, plan_variant
from adaptsr.adaptation.reparametrization import merged_state, parameter_count, trainable_count
from adaptsr.backbones.build import build
from adaptsr.backbones.sites import Site, find_sites
from adaptsr.config import reading
from adaptsr.errors import UserError, listing
from adaptsr.runs.matrix import Matrix

PAPER_PROFILE = baseline_files.FOLDER.parent / "config" / "paper.yaml"
SEED = 0
"""Seed of factors, masks and scores. Only the count of an allocation by random scores depends on it."""

Options = Mapping[str, Any]


@dataclass
class Counts:
    """Parameter counts on the backbones of a profile, made on demand and cached.

    Loads and trains nothing: weights are random. Raises `UserError` for a variant that needs calibration data.
    """

    matrix: Matrix
    _models: dict[str, nn.Module] = field(default_factory=dict, repr=False)
    _sites: dict[str, list[Site]] = field(default_factory=dict, repr=False)
    _counts: dict[tuple[str, ...], int] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if not self.matrix.profile.report.comparable_with_paper:
            raise UserError(
                f"{self.matrix.source}: report.comparable_with_paper: the audit compares counts with the paper's, but this "
                "profile's scale differs; give config/paper.yaml"
            )

    def total(self, backbone: str) -> int:
        """Count the parameters of a backbone without adaptation."""
        return self._once(("total", backbone), lambda: parameter_count(self._backbone(backbone)))

    def sites(self, backbone: str) -> list[Site]:
        if backbone not in self._sites:
            model = self._backbone(backbone)
            self._sites[backbone] = find_sites(model, self.matrix.profile.backbones[backbone].kinds)
        return self._sites[backbone]

    def trainable(self, backbone: str, row: str, changes: Options | None = None) -> int:
        """Count the trainable parameters of `<baseline>/<variant>`, with `changes` to its options for another reading."""
        changes = changes or {}
        key = ("trainable", backbone, row, repr(sorted(changes.items())))
        return self._once(key, lambda: trainable_count(self._attached(backbone, row, changes)))

    def added_at_inference(self, backbone: str, row: str) -> int:
        """Count the parameters that the merged model adds to the backbone: 0 if everything merges."""
        return self._once(("added", backbone, row), lambda: self._added(backbone, row))

    def beside(self, backbone: str, row: str) -> int:
        """Count the parameters that the attached model, left unmerged, has beyond the backbone's."""
        attached = partial(self._attached, backbone, row, {})
        return self._once(("beside", backbone, row), lambda: parameter_count(attached()) - self.total(backbone))

    def _once(self, key: tuple[str, ...], count: Callable[[], int]) -> int:
        if key not in self._counts:
            self._counts[key] = count()
        return self._counts[key]

    def _added(self, backbone: str, row: str) -> int:
        original = self._backbone(backbone)
        model = self._attached(backbone, row, {})
        own = [name for name, _ in original.named_parameters()]
        merged = sum(tensor.numel() for tensor in merged_state(model, own).values())
        outside = sum(
            parameter.numel()
            for name, parameter in model.named_parameters()
            if name not in own and ".parametrizations." not in f".{name}"
        )
        return merged + outside - parameter_count(original)

    def _backbone(self, name: str) -> nn.Module:
        if name not in self._models:
            known = self.matrix.profile.backbones
            if name not in known:
                raise UserError(
                    f"{self.matrix.source}: backbones.{name}: the audit counts the paper's backbones, but this profile has "
                    f"no {name!r}; there are {listing(known)}; give config/paper.yaml"
                )
            with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
                # torch warns once per process about a call inside an architecture.
                warnings.filterwarnings("ignore", message="torch.meshgrid")
                torch.manual_seed(SEED)
                self._models[name] = build(known[name], self.matrix.profile.scale, load=False)
        return self._models[name]

    def _attached(self, backbone: str, row: str, changes: Options) -> nn.Module:
        variant, model = self.matrix.variant(row), self._backbone(backbone)
        plan = plan_variant(variant, lambda: copy.deepcopy(model), self.sites(backbone), _no_data, SEED, changes)
        return attach(copy.deepcopy(model), variant, plan)


def paper_counts() -> Counts:
    """Return counts on the backbones of `config/paper.yaml`."""
    return Counts(Matrix.of(reading.load_profile(PAPER_PROFILE), str(PAPER_PROFILE)))


def _no_data(index: int) -> NoReturn:
    raise UserError(
        "the audit counts parameters without data; a variant that needs calibration batches cannot be counted"
    )
