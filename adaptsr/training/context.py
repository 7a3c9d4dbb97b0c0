"""What the runs of one backbone share: the backbone, its sites, and the decoded data."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import nn

from adaptsr.adaptation.allocation import CalibrationBatches
from adaptsr.adaptation.attaching import plan_variant
from adaptsr.adaptation.baseline_files import Variant
from adaptsr.adaptation.reparametrization import Plan
from adaptsr.backbones.build import build
from adaptsr.backbones.sites import Site, find_sites
from adaptsr.config import schema
from adaptsr.data.manifest import manifest_path
from adaptsr.data.prepare import check_apart, check_crop
from adaptsr.data.sampling import Cut, WeightedSource, cut_batch, finish
from adaptsr.data.store import PairSet, load_split
from adaptsr.devices import prepare_device
from adaptsr.runs.keys import Inputs
from adaptsr.runs.matrix import Matrix
from adaptsr.training.objectives import objective_of
from adaptsr.training.prefetching import made_ahead


@dataclass(frozen=True, eq=False)
class TrainingContext:
    """What the runs of one backbone share: the backbone, its sites, and the decoded data."""

    matrix: Matrix
    name: str
    backbone: nn.Module
    sites: list[Site]
    sources: list[WeightedSource]
    validation: PairSet
    device: torch.device
    inputs: Inputs
    _ahead: list[Callable[[int], Cut]] = field(default_factory=list)

    @staticmethod
    def of(matrix: Matrix, name: str) -> TrainingContext:
        profile = matrix.profile
        device = prepare_device(profile.compute)
        declared = profile.backbones[name]
        backbone = build(declared, profile.scale, profile.schedule.crop // profile.scale)
        validation = profile.validation
        return TrainingContext(
            matrix=matrix,
            name=name,
            backbone=backbone.to(device),
            sites=find_sites(backbone, declared.kinds),
            sources=load_sources(profile),
            validation=load_split(manifest_path(validation.dataset), validation.split),
            device=device,
            inputs=matrix.inputs(name),
        )

    def fresh_backbone(self) -> nn.Module:
        return copy.deepcopy(self.backbone)

    def calibration(self, training: schema.Training, seed: int) -> CalibrationBatches:
        """Return what plans are made from: training data, drawn from a stream of its own, and the objective."""

        def batch(index: int) -> tuple[torch.Tensor, torch.Tensor]:
            return self.sample(training, seed, index, "calibration")

        return CalibrationBatches(batch, objective_of(training, self.device))

    def sample(
        self, training: schema.Training, seed: int, index: int, purpose: str
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return a batch on the device, of those made `ahead` if it is one."""
        make = self._ahead[-1] if self._ahead and purpose == "train" else self.cuts(training, seed, purpose)
        return finish(make(index), self.matrix.profile.scale, self.device)

    @contextmanager
    def ahead(self, training: schema.Training, seed: int, start: int) -> Iterator[None]:
        """Let a process beside this one make the batches of a run from iteration `start` on, if a GPU would wait for them."""
        if self.device.type != "cuda":
            yield
            return
        with made_ahead(self.cuts(training, seed, "train"), start, training.iterations) as take:
            self._ahead.append(take)
            try:
                yield
            finally:
                self._ahead.remove(take)

    def cuts(self, training: schema.Training, seed: int, purpose: str) -> Callable[[int], Cut]:
        scale, batch, crop = self.matrix.profile.scale, training.batch_size, training.crop
        sources = self.sources
        if training.images:
            sources = [source.limited(training.images, seed, index) for index, source in enumerate(sources)]
        return lambda index: cut_batch(sources, seed, index, batch, crop, scale, purpose)

    def plan(self, variant: Variant, seed: int) -> Plan:
        calibration = self.calibration(self.matrix.training(variant, self.name), seed)
        return plan_variant(variant, self.fresh_backbone, self.sites, calibration, seed)


def load_sources(profile: schema.Profile) -> list[WeightedSource]:
    """Load the training images. Raises `UserError` if one is smaller than the crop or also a validation or test image."""
    check_apart(profile.data)
    for source in profile.data.train:
        check_crop(manifest_path(source.dataset), source.split, profile.schedule.crop)
    return [
        WeightedSource(load_split(manifest_path(source.dataset), source.split), source.weight, source.degradation)
        for source in profile.data.train
    ]
