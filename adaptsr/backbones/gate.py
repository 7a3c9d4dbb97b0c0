"""The gate: every backbone passes it after construction, whatever built it, and carries what it found from then on."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import nn

from adaptsr.backbones.sizes import Sizes
from adaptsr.errors import UserError

PROBE_SIDE = 16
"""Side of the black image that tells a model's scale and channels, before it is fitted to the model's sizes."""

CHANNELS = (3, 3)

_ATTRIBUTE = "adaptsr_facts"


@dataclass(frozen=True)
class Facts:
    """What holds for a backbone that passed the gate."""

    scale: int
    sizes: Sizes


@dataclass(frozen=True)
class Stated:
    """What the detection of a checkpoint says of its model."""

    scale: int
    channels: tuple[int, int] = CHANNELS


def gate(
    model: nn.Module, where: str, sizes: Sizes, scale: int | None = None, stated: Stated | None = None
) -> nn.Module:
    """Check a new model and return it in eval mode, with its facts attached.

    Its tensors must be finite, and it must turn a color image into one that is `scale` times as large; without `scale`,
    any whole number is taken. `where` is the file or the backbone that a `UserError` names.
    """
    # Convolutions run fastest with the channels of their kernels last.
    model = model.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if stated is not None:
        _check_channels(where, stated.channels)
        _check_scale(where, stated.scale, scale)
    _check_finite(where, model)
    found = _measured_scale(where, model, sizes)
    _check_scale(where, found, scale)
    setattr(model, _ATTRIBUTE, Facts(found, sizes))
    return model


def facts(model: nn.Module) -> Facts:
    """Return what the gate found; copies of a model and models with an adaptation attached keep it."""
    found = getattr(model, _ATTRIBUTE, None)
    if not isinstance(found, Facts):
        raise TypeError(f"{type(model).__name__} has not passed adaptsr.backbones.gate.gate")
    return found


def _check_channels(where: str, channels: tuple[int, int]) -> None:
    if channels != CHANNELS:
        raise UserError(
            f"{where}: a model from {channels[0]} to {channels[1]} channels; give one for color images (3 to 3)"
        )


def _check_scale(where: str, found: int, scale: int | None) -> None:
    if scale is not None and found != scale:
        raise UserError(
            f"{where}: a model of scale {found}, but the profile's scale is {scale}; give weights and options of scale {scale}"
        )


def _check_finite(where: str, model: nn.Module) -> None:
    for name, tensor in itertools.chain(model.named_parameters(), model.named_buffers()):
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise UserError(f"{where}: {name!r} holds values that are not finite; give an undamaged checkpoint")


def _measured_scale(where: str, model: nn.Module, sizes: Sizes) -> int:
    """Return the scale, measured by restoring a small black image."""
    height, width = sizes.fitted(PROBE_SIDE, PROBE_SIDE)
    device = next(model.parameters()).device
    try:
        # No inference mode: some models keep tensors of a forward, and training must be able to use those.
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            restored = model(torch.zeros(1, CHANNELS[0], height, width, device=device))
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{where}: fails on a color image (3 channels, {height} x {width}): {reason}; "
            "give a model from 3 to 3 channels and options that fit together"
        ) from None
    shape = tuple(restored.shape) if isinstance(restored, torch.Tensor) else ()
    if len(shape) != 4:
        raise UserError(f"{where}: returns no image (1, 3, height, width); give a super-resolution model")
    _check_channels(where, (CHANNELS[0], shape[1]))
    found = shape[-1] // width
    if found < 1 or shape[-2:] != (found * height, found * width):
        raise UserError(
            f"{where}: makes {shape[-2]} x {shape[-1]} pixels of {height} x {width}; give a model whose scale is a whole number"
        )
    return found
