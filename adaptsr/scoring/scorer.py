"""Scoring in memory: batches of one shape, reference features computed once.

Networks are pyiqa's. On a CPU the distance between DISTS features, and everywhere SSIM, is computed here in a faster order;
the values stay within 1e-6 of pyiqa's own, those of SSIM within 1e-9.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from adaptsr.config.schema import Scoring
from adaptsr.devices import TF32
from adaptsr.errors import UserError, one_line
from adaptsr.metrics.conventions import Convention, conventions
from adaptsr.metrics.dists import LARGEST_WHOLE, dists, dists_in_tiles, with_moments
from adaptsr.metrics.ssim import pyiqa_ssim
from adaptsr.metrics.weights import (
    WeightsMissing,
    build_network,
    missing_weights,
    missing_weights_error,
)
from adaptsr.scoring.external import NO_HR
from adaptsr.scoring.features import FeatureMemory as _FeatureMemory
from adaptsr.scoring.features import FeaturePasses as _FeaturePasses

if TYPE_CHECKING:
    import torch

_CUDA_BATCH_PIXELS = 8 * 512 * 512
_CUDA_BATCH_IMAGES = 16
_FEATURE_MEMORY_BYTES = {"cpu": 1 << 30, "cuda": 4 << 30}
_FEATURES_PER_PIXEL = {"alex": 12, "vgg": 125, "squeeze": 37, "DISTS": 128}
"""What is kept of a reference, in numbers of four bytes: the outputs of a network's layers, rounded up."""
_BYTES_OF_A_PAIR_PER_PIXEL = 6


class ScoreRow(NamedTuple):
    """One image and metric; `value` is None exactly where `reason` says why there is none."""

    image: str
    metric: str
    value: float | None
    reason: str | None
    color_space: str
    crop_border: int


class Scorer:
    """Scores restored images against their references with the metrics of a profile.

    A value depends on its own two images alone, to the last bit: on a CPU images are compared one by one (which is
    also the faster way there for the metrics that cost most), on CUDA in batches whose shape follows from the image
    size and which are filled up by repetition.

    What LPIPS and DISTS see of a reference is computed once and kept, up to `feature_memory` bytes with the least
    recently used forgotten first (by default 1 GiB, 4 GiB on CUDA): 8 MiB for a 128x128 image with DISTS, 128 MiB for
    512x512. Score `capacity` references with every method before going on to the next, and it is never computed twice.

    Raises `UserError` for metrics that cannot be what the profile says and, with `missing_weights: error`, for
    weights that are not on this machine. Nothing is ever downloaded here.
    """

    def __init__(self, scoring: Scoring, device: str = "cpu", feature_memory: int | None = None) -> None:
        self.conventions = conventions(scoring)
        self._crop_border = scoring.crop_border
        self._device = device
        self._weights_required = scoring.missing_weights == "error"
        self._memory = _FeatureMemory(_feature_memory(device) if feature_memory is None else feature_memory)
        self._comparisons: dict[str, _Comparison | str] = {}
        for convention in self.conventions:
            if reason := missing_weights(convention):
                self._give_up(convention, reason)

    @property
    def unmeasured(self) -> frozenset[str]:
        """The columns that cannot be measured on this machine, as far as is known yet: network weights are missing."""
        return frozenset(column for column, found in self._comparisons.items() if isinstance(found, str))

    def lacks(self, column: str) -> bool:
        """Try whether a column can be measured on this machine, by building its network."""
        return isinstance(self._comparison(next(c for c in self.conventions if c.column == column)), str)

    def capacity(self, height: int, width: int) -> int:
        """Return how many references of a size to score together: their kept features fit the memory."""
        kept = sum(_FEATURES_PER_PIXEL.get(self._network_of(convention), 0) for convention in self.conventions)
        fitting = self._memory.limit // ((_BYTES_OF_A_PAIR_PER_PIXEL + 4 * kept) * height * width)
        batch = self._batch_size(height, width)
        return max(batch, fitting // batch * batch)

    def _network_of(self, convention: Convention) -> str:
        """Return the network whose features a metric keeps; empty if it keeps none or cannot be built."""
        if isinstance(self._comparisons.get(convention.column), str):
            return ""
        return str(convention.options["net"]) if convention.architecture == "LPIPS" else convention.architecture

    def score(
        self,
        restored: Sequence[torch.Tensor],
        references: Sequence[torch.Tensor] | None,
        names: Sequence[str],
        columns: Collection[str] | None = None,
    ) -> list[ScoreRow]:
        """Score restored images: one row per image and metric, images in the given order, metrics in the profile's.

        restored, references: uint8 RGB of shape (3, H, W) on any device; references: None for photographs without HR.
        columns: the metrics to measure; default: all. Where a metric cannot score an image, the row says why; only faults
        of the machine (memory) are raised. Raises `UserError` for an image whose size differs from its reference's.
        """
        _check_images(restored, restored if references is None else references, names)
        wanted = [convention for convention in self.conventions if columns is None or convention.column in columns]
        outcomes: dict[tuple[int, str], _Outcome] = {}
        for indices in self._batches(restored):
            batch = self._batch(restored, references, indices)
            for convention in wanted:
                for index, outcome in zip(indices, self._compare(convention, batch, len(indices)), strict=True):
                    outcomes[index, convention.column] = outcome
        return [
            ScoreRow(
                name,
                convention.column,
                *outcomes[index, convention.column],
                convention.color_space,
                self._crop_border,
            )
            for index, name in enumerate(names)
            for convention in wanted
        ]

    def _batches(self, images: Sequence[torch.Tensor]) -> Iterator[list[int]]:
        by_size: dict[tuple[int, int], list[int]] = {}
        for index, image in enumerate(images):
            by_size.setdefault((image.shape[1], image.shape[2]), []).append(index)
        for (height, width), indices in by_size.items():
            size = self._batch_size(height, width)
            yield from (indices[start : start + size] for start in range(0, len(indices), size))

    def _batch_size(self, height: int, width: int) -> int:
        """Return the batch size, a function of the image size alone: other batch shapes would change the last bits."""
        if not self._device.startswith("cuda"):
            return 1
        return max(1, min(_CUDA_BATCH_IMAGES, _CUDA_BATCH_PIXELS // (height * width)))

    def _batch(
        self, restored: Sequence[torch.Tensor], references: Sequence[torch.Tensor] | None, indices: list[int]
    ) -> _Batch | None:
        """Form a full batch of the inner parts of these pairs; None if the crop border leaves nothing."""
        height, width = restored[indices[0]].shape[1:]
        if 2 * self._crop_border >= min(height, width):
            return None
        filled = indices + indices[-1:] * (self._batch_size(height, width) - len(indices))
        return _Batch(
            [_inner(restored[index], self._crop_border) for index in filled],
            [_inner(references[index], self._crop_border) for index in filled] if references is not None else None,
            self._device,
        )

    def _compare(self, convention: Convention, batch: _Batch | None, count: int) -> list[_Outcome]:
        if batch is None:
            return [_Outcome(None, f"a crop border of {self._crop_border} leaves nothing of the image")] * count
        if convention.reference and batch.references is None:
            return [_Outcome(None, NO_HR)] * count
        comparison = self._comparison(convention)
        if isinstance(comparison, str):
            return [_Outcome(None, comparison)] * count
        return comparison(batch)[:count]

    def _comparison(self, convention: Convention) -> _Comparison | str:
        if convention.column not in self._comparisons:
            try:
                network = build_network(convention, self._device)
            except WeightsMissing as missing:
                self._give_up(convention, str(missing))
            except Exception as error:  # pyiqa's constructors raise almost anything; measure the rest
                if _is_fault_of_machine(error):
                    raise
                self._give_up(convention, f"{convention.name} could not be built: {one_line(error)}")
            else:
                self._comparisons[convention.column] = _Comparison(convention, network, self._memory, self._device)
        return self._comparisons[convention.column]

    def _give_up(self, convention: Convention, reason: str) -> None:
        if self._weights_required:
            raise missing_weights_error(convention.column, reason)
        self._comparisons[convention.column] = reason


class _Outcome(NamedTuple):
    value: float | None
    reason: str | None


class _Batch:
    """Pairs of one size on the device, float32 in [0, 1] of shape (N, 3, H, W); photographs have no references."""

    def __init__(self, restored: list[torch.Tensor], references: list[torch.Tensor] | None, device: str) -> None:
        import torch

        from adaptsr.data.images import to_float

        self.restored = to_float(torch.stack(restored).to(device))
        self.references = to_float(torch.stack(references).to(device)) if references is not None else None
        self._reference_pixels = references or []
        self._keys: list[str] | None = None

    @property
    def reference_keys(self) -> list[str]:
        """Digests of the references' pixels and sizes."""
        if self._keys is None:
            self._keys = [_digest(image) for image in self._reference_pixels]
        return self._keys


class _Comparison:
    """One metric with its network; called with a batch, it returns a value or a reason for each pair."""

    def __init__(self, convention: Convention, network: Any, memory: _FeatureMemory, device: str) -> None:
        import torch

        self._convention = convention
        self._network = network
        self._passes: _FeaturePasses | None = None
        if convention.architecture == "SSIM" and not network.downsample:
            network.forward = functools.partial(pyiqa_ssim, network)
        if convention.architecture in ("LPIPS", "DISTS") and device == "cpu":
            # CPU convolutions use this layout as it is, and copy any other twice
            network.to(memory_format=torch.channels_last)
        # LPIPS takes features of the reference first, DISTS of the restored image
        if convention.architecture == "LPIPS":
            extractor = network.net
            self._passes = _FeaturePasses(convention.column, extractor.forward, memory, reference_first=True)
            extractor.forward = self._passes
        elif convention.architecture == "DISTS":
            extract = network.forward_once
            self._passes = _FeaturePasses(convention.column, extract, memory, reference_first=False)
            network.forward_once = self._passes
            if device == "cpu":
                self._passes.of_reference = with_moments
                network.forward = functools.partial(_dists, network, extract)

    def __call__(self, batch: _Batch) -> list[_Outcome]:
        count = len(batch.restored)
        try:
            values = self._values(batch)
        except Exception as error:  # a metric may fail on some image sizes; score the rest
            if _is_fault_of_machine(error):
                raise
            height, width = batch.restored.shape[2:]
            reason = f"{self._convention.name} cannot score {width}x{height} pixels: {one_line(error)}"
            return [_Outcome(None, reason)] * count
        return [self._checked(value) for value in values]

    def _values(self, batch: _Batch) -> list[float]:
        import torch

        if self._passes:
            self._passes.begin(batch.reference_keys)
        precise = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=TF32)
        with torch.inference_mode(), precise:
            if self._convention.reference:
                output = self._network(batch.restored, batch.references)
            else:  # one by one: many of these metrics are not made for batches
                scores = [self._network(image[None]) for image in batch.restored]
                output = torch.stack([_only_number(score) for score in scores])
        if not isinstance(output, torch.Tensor) or output.numel() != len(batch.restored):
            raise ValueError("its result is not one number per image")
        values: list[float] = output.to(torch.float64).flatten().tolist()
        return values

    def _checked(self, value: float) -> _Outcome:
        if math.isfinite(value) or (value == math.inf and self._convention.architecture == "PSNR"):
            return _Outcome(value, None)
        return _Outcome(None, f"{self._convention.name} gave {value}")


def _dists(
    network: Any,
    extract: Callable[[torch.Tensor], Sequence[torch.Tensor]],
    restored: torch.Tensor,
    reference: torch.Tensor,
) -> torch.Tensor:
    """Compute pyiqa's DISTS from its own features and weights."""
    if restored.shape[2] * restored.shape[3] > LARGEST_WHOLE:
        return dists_in_tiles(extract, restored, reference, network.alpha, network.beta)
    layers = network.forward_once(restored)
    return dists(layers, network.forward_once(reference), network.alpha, network.beta)


def _only_number(score: Any) -> torch.Tensor:
    """Return the number that a metric gave for one image; some give a tensor of one, some several things."""
    import torch

    if not isinstance(score, torch.Tensor) or score.numel() != 1:
        raise ValueError("its result is not one number per image")
    return score.reshape(())


def _feature_memory(device: str) -> int:
    return _FEATURE_MEMORY_BYTES["cuda" if device.startswith("cuda") else "cpu"]


def _inner(image: torch.Tensor, border: int) -> torch.Tensor:
    return image[:, border : image.shape[1] - border, border : image.shape[2] - border]


def _digest(image: torch.Tensor) -> str:
    digest = hashlib.blake2b(str(tuple(image.shape)).encode(), digest_size=16)
    digest.update(image.contiguous().cpu().numpy().data)
    return digest.hexdigest()


def _check_images(restored: Sequence[torch.Tensor], references: Sequence[torch.Tensor], names: Sequence[str]) -> None:
    import torch

    if not len(restored) == len(references) == len(names):
        raise ValueError(f"{len(restored)} restored images, {len(references)} references and {len(names)} names")
    for image, reference, name in zip(restored, references, names, strict=True):
        if any(item.dtype != torch.uint8 or item.ndim != 3 or item.shape[0] != 3 for item in (image, reference)):
            raise ValueError(f"{name}: uint8 images of shape (3, H, W) expected")
        if image.shape != reference.shape:
            raise UserError(
                f"{name}: the restored image has {image.shape[2]}x{image.shape[1]} pixels, its reference "
                f"{reference.shape[2]}x{reference.shape[1]}; both must have the same size"
            )


def _is_fault_of_machine(error: Exception) -> bool:
    """Say whether the machine failed rather than the metric: such an error must not end as a missing number."""
    import torch

    return isinstance(error, MemoryError | torch.OutOfMemoryError | torch.AcceleratorError) or (
        "can't allocate memory" in str(error)
    )
