"""The objective of training: a weighted sum of losses between restored images and HR, both in [0, 1].

Losses are those of torch, basicsr and pyiqa.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch.nn import functional

from adaptsr.adaptation.allocation import Loss
from adaptsr.basicsr_compat import basicsr_module
from adaptsr.config import schema
from adaptsr.errors import UserError
from adaptsr.metrics.conventions import loss_convention
from adaptsr.metrics.weights import WeightsMissing, build_network


@dataclass(frozen=True)
class Objective:
    """The weighted sum of losses; called with restored images and HR, it returns one number.

    left_out: losses without their network weights, each with the reason.
    """

    terms: Mapping[str, tuple[float, Loss]]
    left_out: Mapping[str, str]

    def __call__(self, restored: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
        return torch.stack([weight * loss(restored, hr) for weight, loss in self.terms.values()]).sum()


def objective_of(training: schema.Training, device: torch.device) -> Objective:
    """Build the objective of a schedule, offline.

    Raises `UserError` if network weights are missing, unless the profile leaves such losses out, and if a loss cannot
    compare crops of this size.
    """
    return _objective(training.objective.model_dump_json(), training.crop, str(device))


@functools.lru_cache(maxsize=1)
def _objective(content: str, crop: int, device: str) -> Objective:
    """Keep what the runs of a job share: networks take seconds to load."""
    declared = schema.Objective.model_validate_json(content)
    terms: dict[str, tuple[float, Loss]] = {}
    left_out: dict[str, str] = {}
    for name, make in LOSSES.items():
        if name not in declared.terms:
            continue
        try:
            loss = make(declared, device)
        except WeightsMissing as missing:
            if declared.missing_weights == "error":
                raise weights_error(name, str(missing)) from None
            left_out[name] = str(missing)
            continue
        if name in WITH_A_SMALLEST_SIZE:
            _check_size(name, loss, crop, device)
        terms[name] = declared.terms[name], loss
    if not terms:
        raise UserError(f"training.objective.terms: nothing is left to minimise: {'; '.join(left_out.values())}")
    return Objective(terms, left_out)


def weights_error(name: str, reason: str) -> UserError:
    """Make the error for a loss whose network weights are unavailable."""
    return UserError(f"training.objective.terms.{name}: {reason}; or set objective.missing_weights to `leave_out`")


def _check_size(name: str, loss: Loss, crop: int, device: str) -> None:
    blank = torch.zeros(1, 3, crop, crop, device=device)
    try:
        finite = bool(loss(blank, blank).isfinite())
    except (RuntimeError, ValueError):
        finite = False
    if not finite:
        raise UserError(
            f"training.objective.terms.{name}: cannot compare crops of {crop} pixels; raise training.crop or leave it out"
        )


def _charbonnier(declared: schema.Objective, device: str) -> Loss:
    loss: Loss = basicsr_module("losses.basic_loss").charbonnier_loss
    return loss


def _fourier(restored: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
    ours, theirs = (torch.view_as_real(torch.fft.fft2(images)) for images in (restored, hr))
    return functional.l1_loss(ours, theirs)


def _ssim(declared: schema.Objective, device: str) -> Loss:
    from pyiqa.archs.ssim_arch import ssim

    return lambda restored, hr: 1 - torch.mean(ssim(restored, hr, data_range=1.0))


def _of_pyiqa(name: str) -> Callable[[schema.Objective, str], Loss]:
    def make(declared: schema.Objective, device: str) -> Loss:
        network = build_network(loss_convention(name, declared), device)
        return lambda restored, hr: network(restored, hr).mean()

    return make


def _perceptual(declared: schema.Objective, device: str) -> Loss:
    network = build_network(loss_convention("perceptual", declared), device)
    return lambda restored, hr: network(restored, hr)[0]


LOSSES: Mapping[str, Callable[[schema.Objective, str], Loss]] = {
    "l1": lambda declared, device: functional.l1_loss,
    "charbonnier": _charbonnier,
    "fft": lambda declared, device: _fourier,
    "ssim": _ssim,
    "lpips": _of_pyiqa("lpips"),
    "dists": _of_pyiqa("dists"),
    "perceptual": _perceptual,
}
"""Every loss that a profile can name, in the order in which they are added."""
WITH_A_SMALLEST_SIZE = ("ssim", *schema.WITH_NETWORKS)
