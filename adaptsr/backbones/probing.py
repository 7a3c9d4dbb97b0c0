"""Probe how a backbone trains: which parameters its gradients reach, and in which mode they are those of training."""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from adaptsr.backbones.gate import PROBE_SIDE, facts, has_passed, restored_probe
from adaptsr.backbones.sizes import Sizes
from adaptsr.errors import UserError, one_line

_ATTRIBUTE = "adaptsr_gradients"


class _Gradients(NamedTuple):
    """dead: parameters that no gradient reaches. in_eval: whether eval mode has the gradients of training."""

    dead: frozenset[str]
    in_eval: bool


def dead_parameters(model: nn.Module) -> frozenset[str]:
    """Return the names of parameters that the forward of training does not use, such as heads of another task.

    A model that has not passed the gate has none. Raises `UserError` if the model cannot be trained.
    """
    return _gradients(model).dead


def measuring_mode(model: nn.Module) -> None:
    """Call `model.eval()`, or `without_chance` where eval mode has other gradients than training.

    Some models overwrite features in place in eval mode, run other layers, or take one image at a time.
    """
    model.eval()
    if not _gradients(model).in_eval:
        without_chance(model)


def without_chance(model: nn.Module) -> None:
    """Call `model.train()`, but keep dropout, dropped branches and batch statistics as in eval mode."""
    model.train()
    for module in model.modules():
        if isinstance(module, _BatchNorm | _DropoutNd) or hasattr(module, "drop_prob"):
            module.eval()


def recompute(model: nn.Module) -> None:
    """Restore a small image, so that a model which computes some of its weights from the trained ones does so now."""
    if dead_parameters(model):
        restored_probe(model.eval(), facts(model).sizes)


def trainable_copy(model: nn.Module) -> nn.Module:
    """Return a copy `without_chance` in which every parameter requires a gradient."""
    probed = copy.deepcopy(model).requires_grad_(True)
    without_chance(probed)
    return probed


def restored_pair(model: nn.Module) -> torch.Tensor:
    """Restore two random images with gradients, of a small size that the model takes."""
    sizes = facts(model).sizes if has_passed(model) else Sizes()
    images = torch.rand(2, 3, *sizes.fitted(PROBE_SIDE, PROBE_SIDE), generator=torch.Generator().manual_seed(0))
    with torch.random.fork_rng(devices=[]):
        restored: torch.Tensor = model(images.to(next(model.parameters())))
    return restored


def _gradients(model: nn.Module) -> _Gradients:
    """Measure once, before anything is attached; the model and its copies keep the result."""
    if not has_passed(model):
        return _Gradients(frozenset(), True)
    if not hasattr(model, _ATTRIBUTE):
        probed = trainable_copy(model)
        try:
            reached = _reached(probed)
        except Exception as error:
            reason = one_line(error)
            raise UserError(
                f"{facts(model).where}: cannot be trained: its forward fails in training mode: {reason}; use it only to restore images"
            ) from None
        try:
            in_eval = _reached(probed.eval()) == reached
        except Exception:
            in_eval = False
        dead = frozenset(name for name, _ in model.named_parameters()) - reached
        setattr(model, _ATTRIBUTE, _Gradients(dead, in_eval))
    found: _Gradients = getattr(model, _ATTRIBUTE)
    return found


def _reached(model: nn.Module) -> frozenset[str]:
    """Return the names of the parameters that get a gradient from two small images."""
    parameters = dict(model.named_parameters())
    gradients = torch.autograd.grad(restored_pair(model).sum(), list(parameters.values()), allow_unused=True)
    reached = zip(parameters, gradients, strict=True)
    return frozenset(name for name, gradient in reached if gradient is not None and gradient.numel())
