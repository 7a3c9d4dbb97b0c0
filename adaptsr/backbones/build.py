"""Build a backbone from a profile's entry or from its checkpoint file."""

from __future__ import annotations

import importlib
import math
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from adaptsr.backbones.architectures.edsr import EDSR_DEFAULTS
from adaptsr.backbones.architectures.names import architectures
from adaptsr.backbones.checkpoints import StateDict, load_weights, read_checkpoint
from adaptsr.config import schema
from adaptsr.data.fetch import resolve_weights
from adaptsr.errors import UserError, suggestion


def build(backbone: schema.Backbone, scale: int, lr_size: int | None = None, load: bool = True) -> nn.Module:
    """The backbone of a profile, with its checkpoint's weights, in eval mode.

    `lr_size` is the side of the LR crops it will be trained on: window attention precomputes its masks for that size.
    Without `load` the weights are random (from torch's global generator), but for architecture `auto`, which is found
    in its weights. Raises `UserError` naming the architecture, scale, option or key that does not fit.
    """
    if backbone.architecture == schema.AUTO:
        path = resolve_weights(str(backbone.weights))
        return _ready(_checked_scale(*_detected(read_checkpoint(path), str(path), lr_size), scale, path))
    state = read_checkpoint(resolve_weights(backbone.weights)) if backbone.weights and load else None
    options = dict(backbone.options)
    if not options and state is not None and backbone.architecture != "edsr":
        options = _options_of(backbone.architecture, state)
    if lr_size is not None and "img_size" in options:
        options["img_size"] = lr_size
    model = _construct(backbone.architecture, options, scale)
    if state is not None:
        load_weights(model, state, str(backbone.weights))
    return _ready(model)


def build_from_file(path: Path) -> nn.Module:
    """A backbone from nothing but its checkpoint: EDSR by its keys, anything else as spandrel detects it."""
    model, _ = _detected(read_checkpoint(resolve_weights(str(path))), str(path))
    return _ready(model)


def _ready(model: nn.Module) -> nn.Module:
    """In eval mode, and in the memory layout in which convolutions run fastest: kernels with their channels last."""
    return model.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _detected(state: StateDict, where: str, lr_size: int | None = None) -> tuple[nn.Module, int]:
    """The loaded model and its scale. Spandrel's own model: some of its classes rename the keys of a checkpoint."""
    if "conv_first.weight" in state and "body.0.conv1.weight" in state and "conv_last.weight" in state:
        width = len(state["conv_first.weight"])
        blocks = sum(bool(re.fullmatch(r"body\.\d+\.conv1\.weight", key)) for key in state)
        upsampling = [len(value) for key, value in state.items() if re.fullmatch(r"upsample\.\d+\.weight", key)]
        scale = math.isqrt(math.prod(channels // width for channels in upsampling))
        model = _construct("edsr", {"num_feat": width, "num_block": blocks}, scale)
        load_weights(model, state, where)
        return model, scale
    descriptor = _descriptor(state, where)
    if (descriptor.input_channels, descriptor.output_channels) != (3, 3):
        raise UserError(
            f"{where}: a model from {descriptor.input_channels} to {descriptor.output_channels} channels; one for colour images (3 to 3) was expected"
        )
    found: nn.Module = descriptor.model
    options = getattr(found, "hyperparameters", {})
    if lr_size is not None and options.get("img_size", lr_size) != lr_size:
        with _meshgrid_silenced():
            found = type(found)(**{**options, "img_size": lr_size})
        load_weights(found, descriptor.model.state_dict(), where)
    return found, int(descriptor.scale)


def _checked_scale(model: nn.Module, found: int, scale: int, path: Path) -> nn.Module:
    if found != scale:
        raise UserError(f"{path}: weights of a model of scale {found}, that of the profile is {scale}")
    return model


def _construct(architecture: str, options: Mapping[str, Any], scale: int) -> nn.Module:
    try:
        if architecture == "edsr":
            from adaptsr.basicsr_compat import basicsr_module

            edsr = basicsr_module("archs.edsr_arch").EDSR
            model: nn.Module = edsr(num_in_ch=3, num_out_ch=3, upscale=scale, **{**EDSR_DEFAULTS, **options})
            return model
        with _meshgrid_silenced():
            return _spandrel_class(architecture)(**options)
    except (TypeError, ValueError) as error:
        raise UserError(f"backbone {architecture}: these options do not fit the architecture: {error}") from None


@contextmanager
def _meshgrid_silenced() -> Iterator[None]:
    """Swin's window indices call torch.meshgrid in a way that torch warns about, in every process, twice."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.meshgrid")
        yield


def _spandrel_class(architecture: str) -> type[nn.Module]:
    known = architectures()
    if architecture not in known:
        raise UserError(
            f"backbone architecture {architecture!r} is unknown{suggestion(architecture, known)}; there are {', '.join(known)}"
        )
    module = importlib.import_module(f"spandrel.architectures.{architecture}")
    classes = [name for name in module.__all__ if not name.endswith("Arch")]
    found: type[nn.Module] = getattr(module, architecture if architecture in classes else classes[0])
    return found


def _options_of(architecture: str, state: StateDict) -> dict[str, Any]:
    """Constructor arguments that spandrel reads off a checkpoint's keys and shapes."""
    descriptor = _descriptor(state, f"backbone {architecture}")
    found = descriptor.architecture.id
    if found != architecture:
        raise UserError(
            f"backbone {architecture}: the checkpoint is of architecture {found!r}; set `architecture: {found}`"
        )
    return dict(descriptor.model.hyperparameters)


def _descriptor(state: StateDict, where: str) -> Any:
    import spandrel

    try:
        with _meshgrid_silenced():
            return spandrel.ModelLoader().load_from_state_dict(dict(state))
    except spandrel.UnsupportedModelError:
        raise UserError(f"{where}: spandrel knows no architecture with this checkpoint's keys") from None
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{where}: spandrel knows the keys of this checkpoint, but not its sizes: {reason}") from None
