"""Build a backbone from a profile's entry or from its checkpoint file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from adaptsr.backbones.architectures.family import StateDict
from adaptsr.backbones.architectures.from_spandrel import (
    detected,
    meshgrid_silenced,
    sizes_of,
    spandrel_class,
    stated_sizes,
)
from adaptsr.backbones.architectures.known import FAMILIES, family_of, is_rebuilt
from adaptsr.backbones.checkpoints import load_weights, read_checkpoint
from adaptsr.backbones.gate import Stated, gate
from adaptsr.backbones.sizes import Sizes
from adaptsr.config import schema
from adaptsr.data.fetch import resolve_weights
from adaptsr.errors import UserError


def build(backbone: schema.Backbone, scale: int, lr_size: int | None = None, load: bool = True) -> nn.Module:
    """Build a profile's backbone, load its checkpoint, pass it through the gate and return it in eval mode.

    `lr_size` is the side of the LR training crops in pixels: window attention precomputes its masks for that size.
    Without `load` the weights are random, from torch's global generator; architecture `auto` always reads the checkpoint.
    Raises `UserError` naming the architecture, scale, option or key that does not fit.
    """
    architecture, options = backbone.architecture, dict(backbone.options)
    path = resolve_weights(backbone.weights) if backbone.weights and (load or architecture == schema.AUTO) else None
    state = read_checkpoint(path) if path else None
    where = str(path or f"backbone {architecture}")
    if state is not None and not options:
        return _pass(_detect(state, where, lr_size, architecture), where, scale)
    if lr_size is not None and "img_size" in options:
        options["img_size"] = lr_size
    model = _construct(architecture, options, scale)
    if state is not None:
        load_weights(model, state, where)
    return gate(model, where, _sizes(architecture, model), scale)


def build_from_file(path: Path) -> nn.Module:
    """Build a backbone of any scale from its checkpoint alone; return it as `build` does."""
    path = resolve_weights(str(path))
    return _pass(_detect(read_checkpoint(path), str(path)), str(path))


class _Detected(NamedTuple):
    model: nn.Module
    sizes: Sizes
    stated: Stated


def _pass(found: _Detected, where: str, scale: int | None = None) -> nn.Module:
    return gate(found.model, where, found.sizes, scale, found.stated)


def _detect(state: StateDict, where: str, lr_size: int | None = None, architecture: str = schema.AUTO) -> _Detected:
    """Detect a checkpoint's architecture and return its loaded model. Raises `UserError` if `architecture` differs."""
    for family in FAMILIES:
        if (read := family.detect(state)) is not None:
            _check_architecture(where, family.architecture, architecture)
            model = _construct(family.architecture, *read)
            load_weights(model, state, where)
            return _Detected(model, family.sizes(model), Stated(read[1]))
    descriptor = detected(state, where)
    name = descriptor.architecture.id
    _check_architecture(where, name, architecture)
    # Keep spandrel's model instead of building a new one: some classes rename the keys of a checkpoint.
    model = descriptor.model
    options = dict(getattr(model, "hyperparameters", {}))
    resized = lr_size is not None and options.get("img_size", lr_size) != lr_size
    if resized or any(map(is_rebuilt, state)):
        with meshgrid_silenced():
            model = type(model)(**{**options, "img_size": lr_size} if resized else options)
        load_weights(model, descriptor.model.state_dict(), where)
    known = family_of(name)
    sizes = known.sizes(model) if known else sizes_of(descriptor)
    return _Detected(
        model, sizes, Stated(int(descriptor.scale), (descriptor.input_channels, descriptor.output_channels))
    )


def _check_architecture(where: str, found: str, expected: str) -> None:
    if expected not in (schema.AUTO, found):
        raise UserError(
            f"{where}: the checkpoint is of architecture {found!r}, not {expected!r}; set `architecture: {found}`"
        )


def _construct(architecture: str, options: Mapping[str, Any], scale: int) -> nn.Module:
    known = family_of(architecture)
    try:
        with meshgrid_silenced():
            return known.construct(options, scale) if known else spandrel_class(architecture)(**options)
    except UserError:
        raise
    except Exception as error:  # each architecture rejects options with its own exceptions
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"backbone {architecture}: these options do not fit the architecture: {reason}") from None


def _sizes(architecture: str, model: nn.Module) -> Sizes:
    known = family_of(architecture)
    return known.sizes(model) if known else stated_sizes(architecture, model)
