"""Form the weights of many adapted layers at once: adapters of one form in a few batched operators, not a few operators each."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import torch
from torch import nn
from torch.func import functional_call
from torch.nn.utils import parametrize

Place = tuple[nn.Module, str]
"""A layer and the name of its weight."""


class Merges:
    """The adapted weights of a model in a training step; they are formed when the model's forward begins."""

    def __init__(self, model: nn.Module) -> None:
        forms: dict[Hashable, list[Place]] = {}
        for layer in model.modules():
            if parametrize.is_parametrized(layer):
                for key, attached in layer.parametrizations.items():  # type: ignore[union-attr, operator]
                    if len(attached) == 1:
                        forms.setdefault(_form(attached[0], attached.original), []).append((layer, key))
        self._groups = [_Group(places) for places in forms.values() if len(places) > 1]
        self._groups = [group for group in self._groups if group.works()]
        self._formed: dict[Place, torch.Tensor] = {}
        model.register_forward_pre_hook(self._begin)
        model.register_forward_hook(self._end)

    def tensor(self, module: nn.Module, key: str) -> torch.Tensor:
        """Return a tensor that a module reads, formed with others where it could be."""
        formed = self._formed.get((module, key))
        return getattr(module, key) if formed is None else formed

    def _begin(self, *_: Any) -> None:
        if torch.is_grad_enabled():
            for group in self._groups:
                self._formed.update(group.formed())

    def _end(self, *_: Any) -> None:
        self._formed.clear()


class _Group:
    """Weights whose reparametrizations are of one form."""

    def __init__(self, places: list[Place]) -> None:
        self._places = places
        attached: list[Any] = [layer.parametrizations[key] for layer, key in places]  # type: ignore[index]
        self._template: nn.Module = attached[0][0]
        self._tensors = {name: [_named(each[0])[name] for each in attached] for name in _named(self._template)}
        self._originals = [each.original for each in attached]

    def formed(self) -> dict[Place, torch.Tensor]:
        """Form the weights, as `reparametrization(weight)` would one by one."""

        def one(tensors: dict[str, torch.Tensor], original: torch.Tensor) -> Any:
            return functional_call(self._template, tensors, (original,))

        tensors = {name: torch.stack(values) for name, values in self._tensors.items()}
        weights = torch.vmap(one)(tensors, torch.stack(self._originals))
        return dict(zip(self._places, weights.unbind(), strict=True))

    def works(self) -> bool:
        """Tell whether the operators of these reparametrizations may be batched."""
        try:
            with torch.no_grad():
                self.formed()
        except RuntimeError:
            return False
        return True


def _named(module: nn.Module) -> dict[str, torch.Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _form(module: nn.Module, original: torch.Tensor) -> Hashable:
    own = tuple((name, tensor.shape, tensor.dtype) for name, tensor in _named(module).items())
    return own, original.shape, original.stride(), original.dtype, constants(module)


def constants(module: nn.Module) -> Hashable:
    """Return the classes of a module's parts and the constants that they hold."""
    plain = (bool, int, float, str, tuple, type(None))
    return tuple(
        (
            path,
            parametrize.type_before_parametrizations(part),
            *sorted((k, v) for k, v in vars(part).items() if isinstance(v, plain)),
        )
        for path, part in module.named_modules()
        if "parametrizations" not in path.split(".")
    )
