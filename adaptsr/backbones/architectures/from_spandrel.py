"""Ask spandrel about an architecture: its class, its checkpoints and the image sizes it accepts."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from adaptsr.backbones.architectures.names import architectures
from adaptsr.backbones.sizes import Sizes
from adaptsr.errors import UserError, one_line, suggestion


def spandrel_class(architecture: str) -> type[nn.Module]:
    """Return the class of an architecture. Raises `UserError` for an unknown name."""
    model, _ = _classes(architecture)
    return model


UNSEEN: Mapping[str, tuple[Any, ...]] = {
    "img_range": (1.0, 255.0),
    "rgb_range": (255, 1),
    "res_scale": (1, 0.1),
    "rgb_mean": ((0.4488, 0.4371, 0.4040), (0.0, 0.0, 0.0)),
}
"""Usual values of options that no checkpoint shows: spandrel takes one of them."""


def recognises(state: Mapping[str, torch.Tensor]) -> bool:
    """Tell whether spandrel knows an architecture with these keys."""
    import spandrel

    return any(known.detect(dict(state)) for known in spandrel.MAIN_REGISTRY.architectures("detection"))


def unseen(options: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    """Return the options of a detected model that its file does not show, with their usual values, the present one first."""
    return {
        name: (options[name], *(value for value in values if value != options[name]))
        for name, values in UNSEEN.items()
        if name in options
    }


def detected(state: Mapping[str, torch.Tensor], where: str) -> Any:
    """Return spandrel's descriptor of a checkpoint, with its model loaded. Raises `UserError` if spandrel cannot load it."""
    import spandrel

    try:
        with meshgrid_silenced():
            descriptor = spandrel.ModelLoader().load_from_state_dict(dict(state))
    except spandrel.UnsupportedModelError:
        raise UserError(
            f"{where}: no known architecture has this checkpoint's keys; give a checkpoint of an architecture that spandrel knows"
        ) from None
    except Exception as error:  # sizes that cannot be end in errors of every kind
        reason = one_line(error)
        if "Unexpected key(s)" in reason or "Missing key(s)" in reason:
            raise UserError(
                f"{where}: not a whole checkpoint of the architecture that its keys name: {reason}"
            ) from None
        raise UserError(
            f"{where}: spandrel recognises this checkpoint's keys but cannot read its sizes: {reason}; give an undamaged checkpoint, or in a profile `architecture` and `options`"
        ) from None
    if not isinstance(descriptor, spandrel.ImageModelDescriptor):
        raise UserError(
            f"{where}: {descriptor.architecture.name} fills a marked part of an image; give a model that maps an image to an image"
        )
    return descriptor


def stated(architecture: str, model: nn.Module) -> Any | None:
    """Return spandrel's descriptor of a model constructed here; None if spandrel cannot read it back from its tensors."""
    _, detector = _classes(architecture)
    try:
        with meshgrid_silenced(), torch.random.fork_rng(devices=[]):
            return detector().load(dict(model.state_dict()))
    except Exception:
        return None


def sizes_of(descriptor: Any | None, model: nn.Module) -> Sizes:
    """Return the sizes that spandrel states for a model; without a descriptor, the window that the model names decides."""
    if descriptor is not None:
        required = descriptor.size_requirements
        return Sizes(required.minimum, required.multiple_of, required.square)
    window = getattr(model, "window_size", 1)
    return Sizes(multiple_of=max(window) if isinstance(window, tuple | list) else int(window))


def as_called(descriptor: Any | None, model: nn.Module) -> nn.Module:
    """Return the model as an `nn.Module` whose call is the descriptor's: some take a noise map too, or return several images.

    Only the class changes: the state dict stays that of the architecture.
    """
    call = getattr(descriptor, "_call_fn", None)
    if call is None or call.__qualname__.startswith("ImageModelDescriptor."):
        return model
    plain = type(model)

    def forward(self: nn.Module, images: torch.Tensor) -> torch.Tensor:
        # One by one: spandrel calls its models with one image at a time.
        return torch.cat([call(_Plain(self, plain), image) for image in images.split(1)])  # type: ignore[no-untyped-call]

    model.__class__ = type(plain.__name__, (plain,), {"forward": forward, "__module__": plain.__module__})
    return model


class _Plain:
    """A model as its own class calls it."""

    def __init__(self, model: nn.Module, plain: type[nn.Module]) -> None:
        self._model, self._plain = model, plain

    def __call__(self, *images: torch.Tensor) -> Any:
        return self._plain.forward(self._model, *images)

    forward = __call__

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


@contextmanager
def meshgrid_silenced() -> Iterator[None]:
    """Silence torch's warning about torch.meshgrid in window indices: every process would show it twice."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.meshgrid")
        yield


def _classes(architecture: str) -> tuple[type[nn.Module], type[Any]]:
    """Return the model class and the class that detects and loads its checkpoints."""
    known = architectures()
    if architecture not in known:
        raise UserError(
            f"backbone architecture {architecture!r} is unknown{suggestion(architecture, known)}; there are {', '.join(known)}"
        )
    module = importlib.import_module(f"spandrel.architectures.{architecture}")
    models = [name for name in module.__all__ if not name.endswith("Arch")]
    detectors = [name for name in module.__all__ if name.endswith("Arch")]
    model = architecture if architecture in models else models[0]
    return getattr(module, model), getattr(module, detectors[0])
