"""Make LR from HR: by MATLAB-like bicubic reduction, or by Real-ESRGAN's second-order degradation.

Real-ESRGAN (Wang et al., 2021, section 3) applies blur, resize, noise and JPEG twice, then a sinc filter. The operations
are basicsr's. This module orders them and separates randomness from them: `draw` turns a key into plain numbers and
kernels, `apply` is deterministic. As in the published code, kernels, noise strengths and JPEG qualities differ between the
images of a batch, while resize factors, resize modes and the kind of noise are shared. The published code mixes batches in
a pool of pairs. This module does not, since iteration i must not depend on earlier ones.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import numpy as np
import torch
from torch.nn import functional

from adaptsr.basicsr_compat import basicsr_module
from adaptsr.config.schema import SMALLEST_KERNEL, Blur, Degradation
from adaptsr.data.images import to_float, to_uint8
from adaptsr.randomness import Key, numpy_generator

KERNELS = ("iso", "aniso", "generalized_iso", "generalized_aniso", "plateau_iso", "plateau_aniso")
MODES = ("area", "bilinear", "bicubic")

Option = TypeVar("Option")


@dataclass(frozen=True)
class DrawnNoise:
    """Noise of a batch. Strengths per image are standard deviations in levels of 255 (Gaussian) or scales (Poisson)."""

    gaussian: bool
    strengths: tuple[float, ...]
    grey: tuple[bool, ...]
    seed: int


@dataclass(frozen=True, eq=False)
class DrawnOrder:
    """One order of the degradation. `kernels` is float32 (N, K, K), or None if this order does not blur."""

    kernels: torch.Tensor | None
    resize_factor: float
    resize_mode: str
    noise: DrawnNoise
    jpeg_qualities: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Drawn:
    """All random choices for the degradation of a batch. `final_kernels` is float32 (N, K, K)."""

    sharpen: bool
    first: DrawnOrder
    second: DrawnOrder
    final_kernels: torch.Tensor
    final_mode: str
    jpeg_last: bool


def degrade(hr: torch.Tensor, config: Degradation, scale: int, key: tuple[Key, ...]) -> torch.Tensor:
    """Degrade a batch on its own device, as a pure function of the arguments.

    `hr` is float32 (N, 3, H, W) in [0, 1], H and W multiples of `scale`. Returns float32 (N, 3, H/scale, W/scale) in
    [0, 1], rounded to 8-bit levels. Noise is drawn on the device, so it differs between GPU and CPU. Uses torch's global
    generator and restores it: no other thread may draw from that generator meanwhile.
    """
    return apply(hr, draw(config, hr.shape[0], key), scale)


def bicubic(hr: torch.Tensor, scale: int) -> torch.Tensor:
    """Reduce images like MATLAB's `imresize` (bicubic, antialiased), rounded to 8-bit levels.

    `hr` is float32 (N, 3, H, W) in [0, 1]. Returns (N, 3, H/scale, W/scale) on the CPU.
    """
    _check_size(hr, scale)
    return _resize(hr, 1 / scale)


def bicubic_enlarged(lr: torch.Tensor, scale: int) -> torch.Tensor:
    """Enlarge images like MATLAB's `imresize` (bicubic): (N, 3, h, w) in [0, 1] to (N, 3, scale h, scale w)."""
    return _resize(lr, scale)


def _resize(images: torch.Tensor, factor: float) -> torch.Tensor:
    imresize = basicsr_module("utils.matlab_functions").imresize
    return _to_levels(torch.stack([imresize(image, factor) for image in images.cpu()]))


def draw(config: Degradation, count: int, key: tuple[Key, ...]) -> Drawn:
    """Draw the parameters of the degradation of `count` images from a generator keyed by `key`."""
    generator = numpy_generator(*key)
    largest_kernel = max(config.first.kernel_size_max, config.second.kernel_size_max)
    return Drawn(
        sharpen=config.sharpen,
        first=_draw_order(config.first, count, generator),
        second=_draw_order(config.second, count, generator),
        final_kernels=_draw_final_kernels(config.final_sinc_probability, largest_kernel, count, generator),
        final_mode=_choose(MODES, generator),
        jpeg_last=bool(generator.random() < 0.5),
    )


@torch.no_grad()
def apply(hr: torch.Tensor, drawn: Drawn, scale: int) -> torch.Tensor:
    """Degrade a batch with drawn parameters; shapes and ranges as in `degrade`."""
    _check_size(hr, scale)
    size = (hr.shape[2] // scale, hr.shape[3] // scale)

    image = _sharpener(hr.device)(hr) if drawn.sharpen else hr
    image = _blur(image, drawn.first.kernels)
    image = functional.interpolate(image, scale_factor=drawn.first.resize_factor, mode=drawn.first.resize_mode)
    image = _add_noise(image, drawn.first.noise)
    image = _compress(image, drawn.first.jpeg_qualities)

    image = _blur(image, drawn.second.kernels)
    intermediate = tuple(max(1, int(side * drawn.second.resize_factor)) for side in size)
    image = functional.interpolate(image, size=intermediate, mode=drawn.second.resize_mode)
    image = _add_noise(image, drawn.second.noise)

    if not drawn.jpeg_last:
        image = _compress(image, drawn.second.jpeg_qualities)
    image = functional.interpolate(image, size=size, mode=drawn.final_mode)
    image = _blur(image, drawn.final_kernels)
    if drawn.jpeg_last:
        image = _compress(image, drawn.second.jpeg_qualities)
    return _to_levels(image)


def _check_size(hr: torch.Tensor, scale: int) -> None:
    if hr.ndim != 4 or hr.shape[1] != 3 or hr.shape[2] % scale or hr.shape[3] % scale:
        raise ValueError(f"expected (N, 3, H, W) with H and W multiples of {scale}, found {tuple(hr.shape)}")


def _to_levels(image: torch.Tensor) -> torch.Tensor:
    return to_float(to_uint8(image))


def _draw_order(blur: Blur, count: int, generator: np.random.Generator) -> DrawnOrder:
    kernels = [_draw_kernel(blur, generator) for _ in range(count)]
    blurred = generator.random() < blur.blur_probability
    gaussian = bool(generator.random() < blur.gaussian_probability)
    return DrawnOrder(
        kernels=_stack(kernels) if blurred else None,
        resize_factor=_draw_resize_factor(blur, generator),
        resize_mode=_choose(MODES, generator),
        noise=DrawnNoise(
            gaussian=gaussian,
            strengths=_draw_each(blur.gaussian_sigma if gaussian else blur.poisson_scale, count, generator),
            grey=tuple(bool(value < blur.grey_probability) for value in generator.random(count)),
            seed=int(generator.integers(2**63)),
        ),
        jpeg_qualities=_draw_each(blur.jpeg_quality, count, generator),
    )


def _draw_kernel(blur: Blur, generator: np.random.Generator) -> np.ndarray:
    sizes = _kernel_sizes(blur.kernel_size_max)
    size = _choose(sizes, generator)
    if generator.random() < blur.sinc_probability:
        lowest_cutoff = math.pi / 3 if size < 13 else math.pi / 5
        return _sinc_kernel(_between(lowest_cutoff, math.pi, generator), size, sizes[-1])
    kernel = _draw_gaussian_like_kernel(blur, size, generator)
    return np.pad(kernel, (sizes[-1] - size) // 2)


def _draw_gaussian_like_kernel(blur: Blur, size: int, generator: np.random.Generator) -> np.ndarray:
    degradations = basicsr_module("data.degradations")
    kind = _choose(KERNELS, generator, blur.kernel_probabilities)
    sigma_x, sigma_y = _draw_each(blur.blur_sigma, 2, generator)
    angle = _between(-math.pi, math.pi, generator)
    isotropic = not kind.endswith("aniso")
    if kind in ("iso", "aniso"):
        kernel = degradations.bivariate_Gaussian(size, sigma_x, sigma_y, angle, isotropic=isotropic)
    elif kind.startswith("generalized"):
        beta = _draw_beta(blur.generalized_beta, generator)
        kernel = degradations.bivariate_generalized_Gaussian(size, sigma_x, sigma_y, angle, beta, isotropic=isotropic)
    else:
        beta = _draw_beta(blur.plateau_beta, generator)
        kernel = degradations.bivariate_plateau(size, sigma_x, sigma_y, angle, beta, isotropic=isotropic)
    return np.asarray(kernel)


def _draw_beta(limits: tuple[float, float], generator: np.random.Generator) -> float:
    """Draw below or above 1 (the Gaussian shape) with equal probability, like the published code."""
    low, high = limits
    return _between(low, 1.0, generator) if generator.random() < 0.5 else _between(1.0, high, generator)


def _draw_final_kernels(probability: float, largest: int, count: int, generator: np.random.Generator) -> torch.Tensor:
    sizes = _kernel_sizes(largest)
    kernels = []
    for _ in range(count):
        if generator.random() < probability:
            size = _choose(sizes, generator)
            kernels.append(_sinc_kernel(_between(math.pi / 3, math.pi, generator), size, largest))
        else:
            kernels.append(np.pad(np.ones((1, 1)), largest // 2))
    return _stack(kernels)


def _draw_resize_factor(blur: Blur, generator: np.random.Generator) -> float:
    direction = _choose(("up", "down", "keep"), generator, blur.resize_probabilities)
    low, high = blur.resize_range
    if direction == "up":
        return _between(1.0, high, generator)
    return _between(low, 1.0, generator) if direction == "down" else 1.0


def _kernel_sizes(largest: int) -> range:
    return range(SMALLEST_KERNEL, largest + 1, 2)


def _sinc_kernel(cutoff: float, size: int, padded_size: int) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):  # basicsr divides 0 by 0 in the centre, then overwrites it
        kernel = basicsr_module("data.degradations").circular_lowpass_kernel(cutoff, size, pad_to=padded_size)
    return np.asarray(kernel)


def _choose(
    options: Sequence[Option], generator: np.random.Generator, weights: Sequence[float] | None = None
) -> Option:
    bounds = np.cumsum(weights if weights is not None else np.ones(len(options)))
    return options[int(np.searchsorted(bounds, generator.random() * bounds[-1], side="right"))]


def _between(low: float, high: float, generator: np.random.Generator) -> float:
    return low + (high - low) * float(generator.random())


def _draw_each(limits: tuple[float, float], count: int, generator: np.random.Generator) -> tuple[float, ...]:
    return tuple(_between(*limits, generator) for _ in range(count))


def _stack(kernels: Sequence[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.stack(kernels)).to(torch.float32)


def _blur(image: torch.Tensor, kernels: torch.Tensor | None) -> torch.Tensor:
    if kernels is None:
        return image
    fitting = _fitting(kernels, min(image.shape[2:])).to(image.device)
    # filter2D needs contiguous images, and DiffJPEG returns others.
    blurred: torch.Tensor = basicsr_module("utils.img_process_util").filter2D(image.contiguous(), fitting)
    return blurred


def _fitting(kernels: torch.Tensor, side: int) -> torch.Tensor:
    """Cut kernels to their centres if the image is too small for reflection padding by the whole kernel.

    The published code degrades images of 400 pixels, which never need this.
    """
    surplus = (kernels.shape[-1] - (2 * side - 1)) // 2
    if surplus <= 0:
        return kernels
    centres = kernels[:, surplus:-surplus, surplus:-surplus]
    return centres / centres.sum(dim=(1, 2), keepdim=True)


def _add_noise(image: torch.Tensor, noise: DrawnNoise) -> torch.Tensor:
    degradations = basicsr_module("data.degradations")
    add = degradations.add_gaussian_noise_pt if noise.gaussian else degradations.add_poisson_noise_pt
    strengths = torch.tensor(noise.strengths, dtype=image.dtype, device=image.device)
    grey = torch.tensor(noise.grey, dtype=image.dtype, device=image.device)
    with _torch_seeded(noise.seed, image.device):
        noisy: torch.Tensor = add(image, strengths, gray_noise=grey, clip=True, rounds=False)
    return noisy


def _compress(image: torch.Tensor, qualities: Sequence[float]) -> torch.Tensor:
    # DiffJPEG overwrites the tensor of qualities, so each call gets its own.
    quality = torch.tensor(qualities, dtype=image.dtype, device=image.device)
    compressed: torch.Tensor = _jpeg(image.device)(image.clamp(0, 1), quality=quality)
    return compressed


@cache
def _jpeg(device: torch.device) -> Any:
    # basicsr's instances share their tables: without a copy, moving one to a device would move all.
    return copy.deepcopy(basicsr_module("utils.diffjpeg").DiffJPEG(differentiable=False)).to(device)


@cache
def _sharpener(device: torch.device) -> Any:
    return basicsr_module("utils.img_process_util").USMSharp().to(device)


@contextmanager
def _torch_seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's global generator of this device inside the block, and restore it afterwards."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        else:
            torch.default_generator.manual_seed(seed)
        yield
