"""Remember what networks see of reference images."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


class FeaturePasses:
    """Replaces a network's feature extractor: of the two passes of a comparison, it remembers the reference's."""

    def __init__(
        self,
        column: str,
        extract: Callable[[torch.Tensor], Sequence[torch.Tensor]],
        memory: FeatureMemory,
        *,
        reference_first: bool,
    ) -> None:
        self._column = column
        self._extract = extract
        self._memory = memory
        self._reference_first = reference_first
        self._keys: list[str] = []
        self._next_is_reference = reference_first
        self.of_reference: Callable[[Sequence[torch.Tensor]], Sequence[torch.Tensor]] = list
        """Reduces a reference's features to what is remembered."""

    def begin(self, keys: list[str]) -> None:
        """Start a comparison with the references of these keys."""
        self._keys = [f"{self._column} {key}" for key in keys]
        self._next_is_reference = self._reference_first

    def __call__(self, images: torch.Tensor) -> Sequence[torch.Tensor]:
        import torch

        is_reference, self._next_is_reference = self._next_is_reference, not self._next_is_reference
        if not images.is_cuda:
            images = images.contiguous(memory_format=torch.channels_last)
        if not is_reference:
            return self._extract(images)
        return self._memory.recall(self._keys, lambda: self.of_reference(self._extract(images)))


class FeatureMemory:
    """Remembers features of reference images by key; forgets the least recently used above `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._bytes = 0
        self._kept: OrderedDict[str, list[torch.Tensor]] = OrderedDict()

    def recall(self, keys: list[str], extract: Callable[[], Sequence[torch.Tensor]]) -> Sequence[torch.Tensor]:
        """Return the features of a batch, (N, C, H, W) per layer; extract them unless every image is remembered."""
        import torch

        if all(key in self._kept for key in keys):
            for key in keys:
                self._kept.move_to_end(key)
            if len(keys) == 1:
                return self._kept[keys[0]]
            return [torch.cat(layers) for layers in zip(*(self._kept[key] for key in keys), strict=True)]
        layers = list(extract())
        for position, key in enumerate(keys):
            self._keep(key, [layer[position : position + 1] for layer in layers])
        return layers

    def _keep(self, key: str, features: list[torch.Tensor]) -> None:
        if key in self._kept or _size(features) > self.limit:
            return
        self._kept[key] = [feature.clone() for feature in features]
        self._bytes += _size(features)
        while self._bytes > self.limit:
            self._bytes -= _size(self._kept.popitem(last=False)[1])


def _size(features: list[torch.Tensor]) -> int:
    return sum(feature.numel() * feature.element_size() for feature in features)
