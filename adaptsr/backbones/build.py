"""Build a backbone from a profile's entry or from its checkpoint file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from adaptsr.backbones.architectures.family import Family, StateDict
from adaptsr.backbones.architectures.from_spandrel import (
    UNSEEN,
    as_called,
    detected,
    meshgrid_silenced,
    sizes_of,
    spandrel_class,
    stated,
)
from adaptsr.backbones.architectures.from_spandrel import unseen as unseen_options
from adaptsr.backbones.architectures.known import FAMILIES, class_names, family_of, is_rebuilt, translated
from adaptsr.backbones.checkpoints import load_weights, read_checkpoint
from adaptsr.backbones.gate import Stated, gate, with_note
from adaptsr.backbones.sizes import Sizes
from adaptsr.backbones.trial import tried
from adaptsr.config import schema
from adaptsr.data.fetch import resolve_weights
from adaptsr.errors import UserError, one_line
from adaptsr.files import file_sha256


def build(backbone: schema.Backbone, scale: int, lr_size: int | None = None, load: bool = True) -> nn.Module:
    """Build a profile's backbone, load its checkpoint, pass it through the gate and return it in eval mode.

    `lr_size` is the side of the LR training crops in pixels: window attention precomputes its masks for that size.
    Without `load` the weights are random, from torch's global generator; architecture `auto` always reads the checkpoint.
    Raises `UserError` naming the architecture, scale, option or key that does not fit.
    """
    architecture, options = backbone.architecture, dict(backbone.options)
    path = resolve_weights(backbone.weights) if backbone.weights and (load or architecture == schema.AUTO) else None
    if path and (architecture == schema.AUTO or options.keys() <= _unseen(architecture).keys()):
        return _from_checkpoint(path, scale, lr_size, architecture, options)
    where = str(path or f"backbone {architecture}")
    model = _for_crops(lambda at: _construct(architecture, at, scale), options, lr_size)
    notes: tuple[str, ...] = ()
    if path:
        learned = {key for key in model.state_dict() if not is_rebuilt(key)}
        checkpoint = read_checkpoint(path, lambda state: learned <= class_names(state).keys())
        load_weights(model, translated(checkpoint.state), where)
        notes = checkpoint.notes
    if known := family_of(architecture):
        return gate(model, where, known.sizes(model), scale, notes=notes)
    descriptor = stated(architecture, model)
    return gate(as_called(descriptor, model), where, sizes_of(descriptor, model), scale, notes=notes)


def build_from_file(path: Path) -> nn.Module:
    """Build a backbone of any scale from its checkpoint alone; return it as `build` does."""
    return _from_checkpoint(resolve_weights(str(path)))


_TRIED: dict[tuple[str, ...], tuple[dict[str, Any], str]] = {}
"""Options found by trial in this process and the note on them, by the file's content and their names."""


class _Detected(NamedTuple):
    make: Callable[[Mapping[str, Any]], nn.Module]
    """Builds the loaded model with options in place of those that were detected."""
    unseen: Mapping[str, tuple[Any, ...]]
    sizes: Callable[[nn.Module], Sizes]
    stated: Stated


def _from_checkpoint(
    path: Path,
    scale: int | None = None,
    lr_size: int | None = None,
    architecture: str = schema.AUTO,
    declared: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Build the model of a checkpoint; find the options that it does not show and that are not declared by trial."""
    declared, where, checkpoint = declared or {}, str(path), read_checkpoint(path)
    found = _detect(checkpoint.state, where, lr_size, architecture)

    def make(options: Mapping[str, Any]) -> nn.Module:
        model = found.make({**options, **declared})
        return gate(model, where, found.sizes(model), scale, found.stated, checkpoint.notes)

    unseen = {name: values for name, values in found.unseen.items() if name not in declared}
    if not unseen:
        return make({})
    key = (file_sha256(path), repr(sorted(declared.items())), *unseen)
    if key not in _TRIED:
        _TRIED[key] = tried(make, unseen)
    options, note = _TRIED[key]
    return with_note(make(options), f"{where}: {note}")


def _detect(state: StateDict, where: str, lr_size: int | None, architecture: str) -> _Detected:
    """Detect a checkpoint's architecture. Raises `UserError` if `architecture` differs."""
    for family in FAMILIES:
        if (read := family.detect(state)) is not None:
            _check_architecture(where, family.architecture, architecture)
            return _of_family(family, state, where, *read)
    descriptor = detected(state, where)
    _check_architecture(where, descriptor.architecture.id, architecture)
    return _of_spandrel(descriptor, state, where, lr_size)


def _of_family(family: Family, state: StateDict, where: str, options: Mapping[str, Any], scale: int) -> _Detected:
    def make(changes: Mapping[str, Any]) -> nn.Module:
        model = _construct(family.architecture, {**options, **changes}, scale)
        load_weights(model, translated(state), where)
        return model

    unseen = {name: values for name, values in family.unseen.items() if name not in options}
    return _Detected(make, unseen, family.sizes, Stated(scale))


def _of_spandrel(descriptor: Any, state: StateDict, where: str, lr_size: int | None) -> _Detected:
    name = descriptor.architecture.id
    kind, options = type(descriptor.model), dict(getattr(descriptor.model, "hyperparameters", {}))
    # Keep spandrel's model instead of building a new one: some classes rename the keys of a checkpoint.
    plain = as_called(descriptor, descriptor.model)
    resized = lr_size is not None and options.get("img_size", lr_size) not in (None, lr_size)

    def make(changes: Mapping[str, Any]) -> nn.Module:
        if not (resized or any(map(is_rebuilt, state)) or any(options.get(key) != changes[key] for key in changes)):
            return plain
        model = _for_crops(lambda at: _built(name, lambda: kind(**at)), {**options, **changes}, lr_size)
        load_weights(model, plain.state_dict(), where)
        return as_called(descriptor, model)

    channels = (descriptor.input_channels, descriptor.output_channels)
    return _Detected(
        make,
        unseen_options(options),
        lambda model: sizes_of(descriptor, model),
        Stated(int(descriptor.scale), channels),
    )


def _for_crops(
    make: Callable[[Mapping[str, Any]], nn.Module], options: Mapping[str, Any], lr_size: int | None
) -> nn.Module:
    """Make a model with the masks of the training crops, or of its own `img_size` if no whole windows fit the crops."""
    if lr_size is None or options.get("img_size", lr_size) == lr_size:
        return make(options)
    try:
        return make({**options, "img_size": lr_size})
    except Exception:
        return make(options)


def _unseen(architecture: str) -> Mapping[str, tuple[Any, ...]]:
    known = family_of(architecture)
    return known.unseen if known and known.unseen else UNSEEN


def _check_architecture(where: str, found: str, expected: str) -> None:
    if expected not in (schema.AUTO, found):
        raise UserError(
            f"{where}: the checkpoint is of architecture {found!r}, not {expected!r}; set `architecture: {found}`"
        )


def _construct(architecture: str, options: Mapping[str, Any], scale: int) -> nn.Module:
    known = family_of(architecture)
    return _built(
        architecture,
        lambda: known.construct(options, scale) if known else spandrel_class(architecture)(**options),
    )


def _built(architecture: str, make: Callable[[], nn.Module]) -> nn.Module:
    try:
        with meshgrid_silenced():
            return make()
    except UserError:
        raise
    except Exception as error:  # each architecture rejects options with its own exceptions
        reason = one_line(error)
        raise UserError(f"backbone {architecture}: these options do not fit the architecture: {reason}") from None
