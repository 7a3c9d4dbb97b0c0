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
from adaptsr.errors import UserError, suggestion


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
            return spandrel.ModelLoader().load_from_state_dict(dict(state))
    except spandrel.UnsupportedModelError:
        raise UserError(
            f"{where}: no known architecture has this checkpoint's keys; give a checkpoint of an architecture that spandrel knows"
        ) from None
    except Exception as error:  # sizes that cannot be end in errors of every kind
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{where}: spandrel recognises this checkpoint's keys but cannot read its sizes: {reason}; set `architecture` and `options`"
        ) from None


def sizes_of(descriptor: Any) -> Sizes:
    """Return the sizes that spandrel states for a model it loaded."""
    stated = descriptor.size_requirements
    return Sizes(stated.minimum, stated.multiple_of, stated.square)


def stated_sizes(architecture: str, model: nn.Module) -> Sizes:
    """Return the sizes that spandrel states for a model constructed here.

    Spandrel states them only for checkpoints, so it loads this model's state. If it cannot infer the options from the
    tensors, the window size decides.
    """
    _, detector = _classes(architecture)
    try:
        with meshgrid_silenced(), torch.random.fork_rng(devices=[]):
            return sizes_of(detector().load(dict(model.state_dict())))
    except Exception:
        window = getattr(model, "window_size", 1)
        return Sizes(multiple_of=window if isinstance(window, int) else 1)


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
