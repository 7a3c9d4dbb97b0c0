"""Check every new backbone, whatever built it, and attach the facts that the check measured."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import nn

from adaptsr.backbones.architectures.known import share_constants
from adaptsr.backbones.sizes import Sizes
from adaptsr.errors import UserError, one_line

PROBE_SIDE = 16
"""Side in pixels of the image that measures a model's scale and channels; enlarged if the model needs it."""

CHANNELS = (3, 3)

_ATTRIBUTE = "adaptsr_facts"


@dataclass(frozen=True)
class Facts:
    """The measured facts about a backbone that passed the gate."""

    scale: int
    sizes: Sizes
    where: str = field(default="", compare=False)
    """The file or backbone, for messages."""
    notes: tuple[str, ...] = field(default=(), compare=False)
    """What reading its file decided, one line each."""


@dataclass(frozen=True)
class Stated:
    """The scale and channels (input, output) that checkpoint detection reports."""

    scale: int
    channels: tuple[int, int] = CHANNELS


def gate(
    model: nn.Module,
    where: str,
    sizes: Sizes,
    scale: int | None = None,
    stated: Stated | None = None,
    notes: Sequence[str] = (),
) -> nn.Module:
    """Check a new model and return it in eval mode, with its facts attached.

    All tensors and outputs must be finite and a color image must come out `scale` times as large; without `scale`, any whole number
    passes. Raises `UserError` naming `where`, the file or backbone.
    """
    model = model.eval()
    share_constants(model)
    if stated is not None:
        _check_channels(where, stated.channels)
        _check_scale(where, stated.scale, scale)
    _check_finite(where, model)
    if all(parameter.dim() <= 4 for parameter in model.parameters()):
        # Convolutions run fastest with channels-last kernels. Torch refuses this layout for 5-D weights, and models that
        # view their features as contiguous ones fail with it.
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if not _restores(model, sizes):
            model = model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    found = _measured_scale(where, model, sizes)
    _check_scale(where, found, scale)
    setattr(model, _ATTRIBUTE, Facts(found, _smallest(model, sizes), where, tuple(notes)))
    return model


def has_passed(model: nn.Module) -> bool:
    """Tell whether a model, or the model it is a copy of, has passed the gate."""
    return isinstance(getattr(model, _ATTRIBUTE, None), Facts)


def facts(model: nn.Module) -> Facts:
    """Return the facts that the gate attached; copies and adapted models keep them. Raises `TypeError` if it has none."""
    found = getattr(model, _ATTRIBUTE, None)
    if not isinstance(found, Facts):
        raise TypeError(f"{type(model).__name__} has not passed adaptsr.backbones.gate.gate")
    return found


def with_note(model: nn.Module, note: str) -> nn.Module:
    """Return a model that has passed the gate with one more note among its facts."""
    known = facts(model)
    setattr(model, _ATTRIBUTE, replace(known, notes=(*known.notes, note)))
    return model


def _check_channels(where: str, channels: tuple[int, int]) -> None:
    if channels != CHANNELS:
        raise UserError(
            f"{where}: the model maps {channels[0]} channels to {channels[1]}; give one for color images (3 to 3)"
        )


def _check_scale(where: str, found: int, scale: int | None) -> None:
    if scale is not None and found != scale:
        raise UserError(
            f"{where}: the model's scale is {found}, but the profile's is {scale}; give weights and options of scale {scale}, or set `scale: {found}` in a copy of the profile"
        )


def _check_finite(where: str, model: nn.Module) -> None:
    for name, tensor in itertools.chain(model.named_parameters(), model.named_buffers()):
        if tensor.is_floating_point() and not bool(tensor.detach().isfinite().all()):
            raise UserError(f"{where}: {name!r} holds values that are not finite; give an undamaged checkpoint")


def _measured_scale(where: str, model: nn.Module, sizes: Sizes) -> int:
    """Return the scale, measured by restoring a small image. The same image must come out the same twice."""
    height, width = sizes.fitted(PROBE_SIDE, PROBE_SIDE)
    try:
        first, second = (restored_probe(model, sizes, draw=draw) for draw in range(2))
    except Exception as error:
        reason = one_line(error)
        raise UserError(
            f"{where}: fails on a color image (3 channels, {height} x {width}): {reason}; "
            "give a model with 3 input and 3 output channels, and options that fit together"
        ) from None
    shape = tuple(first.shape) if isinstance(first, torch.Tensor) else ()
    if len(shape) != 4:
        raise UserError(f"{where}: the output is not an image (1, 3, height, width); give a super-resolution model")
    _check_channels(where, (CHANNELS[0], shape[1]))
    if not bool(first.isfinite().all()):
        raise UserError(f"{where}: restores an image to values that are not finite; give an undamaged checkpoint")
    if not torch.equal(first, second):
        raise UserError(f"{where}: restores one image in two ways: it draws random numbers; give a model that does not")
    found = shape[-1] // width
    if found < 1 or shape[-2:] != (found * height, found * width):
        raise UserError(
            f"{where}: turns {height} x {width} pixels into {shape[-2]} x {shape[-1]}; give a model with a whole-number scale"
        )
    return found


def restored_probe(model: nn.Module, sizes: Sizes, side: int = PROBE_SIDE, draw: int = 0) -> torch.Tensor:
    """Restore the same random image of this side, or the next that fits; numbers the model draws are keyed by `draw`."""
    image = torch.rand(1, CHANNELS[0], *sizes.fitted(side, side), generator=torch.Generator().manual_seed(0))
    # Not inference_mode: some models cache tensors in forward, and training must be able to use them.
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(draw)
        restored: torch.Tensor = model(image.to(next(model.parameters())))
    return restored


def _smallest(model: nn.Module, sizes: Sizes) -> Sizes:
    """Return the sizes with the smallest minimum from the stated one on at which the model does not fail."""
    minima = [sizes.minimum, *(2**power for power in range(1, 9) if 2**power > sizes.minimum)]
    tried = (replace(sizes, minimum=minimum) for minimum in minima)
    return next((larger for larger in tried if _restores(model, larger, side=1)), sizes)


def _restores(model: nn.Module, sizes: Sizes, side: int = PROBE_SIDE) -> bool:
    try:
        restored_probe(model, sizes, side)
    except Exception:  # models fail in their own ways
        return False
    return True
