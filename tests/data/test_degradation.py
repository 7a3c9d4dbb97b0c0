"""The second-order degradation does what Real-ESRGAN's published code does, as a function of a key."""

from __future__ import annotations

import ast
import random
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adaptsr.basicsr_compat import basicsr_module
from adaptsr.config.schema import Blur, Degradation
from adaptsr.data.degradation import Drawn, apply, bicubic, bicubic_enlarged, degrade, draw
from adaptsr.data.images import read_image, to_float, to_uint8
from adaptsr.metrics.psnr import psnr_y


@pytest.fixture
def hr() -> torch.Tensor:
    return smooth_images(3, 96, 128)


def smooth_images(count: int, height: int, width: int) -> torch.Tensor:
    coarse = torch.rand(count, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    image = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic")
    return image.clamp(0, 1).mul(255).round().div(255)


def published_pipeline(hr: torch.Tensor, drawn: Drawn, scale: int) -> torch.Tensor:
    """`RealESRGANModel.feed_data` as basicsr released it, with every call to chance answered from `drawn`.

    Its text is compiled from the installed file, since importing that module takes all of basicsr and a GPU.
    """
    folder = Path(basicsr_module("data.degradations").__file__ or "").parent.parent
    tree = ast.parse((folder / "models/realesrgan_model.py").read_text(encoding="utf-8"))
    function = next(n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == "feed_data")
    function.decorator_list = []

    orders = (drawn.first, drawn.second)
    uniform = iter(_uniform_answers(drawn))
    directions = iter(["up" if o.resize_factor > 1 else "down" if o.resize_factor < 1 else "keep" for o in orders])
    modes = iter([drawn.first.resize_mode, drawn.second.resize_mode, drawn.final_mode])
    noises = iter([order.noise for order in orders])
    qualities = iter([order.jpeg_qualities for order in orders])
    degradations = basicsr_module("data.degradations")
    jpeg = basicsr_module("utils.diffjpeg").DiffJPEG(differentiable=False)
    filter2d = basicsr_module("utils.img_process_util").filter2D

    def add_noise(add: Any, image: torch.Tensor) -> torch.Tensor:
        noise = next(noises)
        torch.manual_seed(noise.seed)
        grey = torch.tensor(noise.grey, dtype=torch.float32)
        result: torch.Tensor = add(image, torch.tensor(noise.strengths), clip=True, rounds=False, gray_noise=grey)
        return result

    namespace = {
        "np": types.SimpleNamespace(random=types.SimpleNamespace(uniform=lambda *_: next(uniform))),
        "random": types.SimpleNamespace(choices=lambda *_: [next(directions)], choice=lambda _: next(modes)),
        "torch": torch,
        "F": torch.nn.functional,
        "filter2D": lambda image, kernel: filter2d(image.contiguous(), kernel),
        "random_add_gaussian_noise_pt": lambda image, **_: add_noise(degradations.add_gaussian_noise_pt, image),
        "random_add_poisson_noise_pt": lambda image, **_: add_noise(degradations.add_poisson_noise_pt, image),
        "paired_random_crop": basicsr_module("data.transforms").paired_random_crop,
    }
    exec(compile(ast.Module([function], []), "feed_data", "exec"), namespace)
    options = {
        "gray_noise_prob": 0,
        "gaussian_noise_prob": 0.5,
        "resize_prob": [],
        "resize_range": (0, 0),
        "noise_range": None,
        "poisson_scale_range": None,
        "jpeg_range": (0, 1),
    }
    model = types.SimpleNamespace(
        is_train=True,
        device="cpu",
        opt={"scale": scale, "gt_size": hr.shape[2], "second_blur_prob": 0.5}
        | {f"{name}{order}": value for name, value in options.items() for order in ("", "2")},
        jpeger=lambda image, quality: jpeg(image, quality=torch.tensor(next(qualities))),
        usm_sharpener=basicsr_module("utils.img_process_util").USMSharp() if drawn.sharpen else lambda image: image,
        _dequeue_and_enqueue=lambda: None,
    )
    kernels = {"kernel1": drawn.first.kernels, "kernel2": drawn.second.kernels, "sinc_kernel": drawn.final_kernels}
    pulse = torch.zeros_like(drawn.final_kernels)
    pulse[:, pulse.shape[1] // 2, pulse.shape[2] // 2] = 1
    data = {"gt": hr} | {name: pulse if kernel is None else kernel for name, kernel in kernels.items()}
    with torch.no_grad():
        namespace["feed_data"](model, data)  # type: ignore[operator]
    lr: torch.Tensor = model.lq
    return lr


def _uniform_answers(drawn: Drawn) -> Iterator[float]:
    below, above = 0.0, 1.0
    if drawn.first.resize_factor != 1:
        yield drawn.first.resize_factor
    yield below if drawn.first.noise.gaussian else above
    yield above if drawn.second.kernels is None else below
    if drawn.second.resize_factor != 1:
        yield drawn.second.resize_factor
    yield below if drawn.second.noise.gaussian else above
    yield below if drawn.jpeg_last else above


@pytest.mark.parametrize("sharpen", [False, True])
@pytest.mark.parametrize("number", range(12))
def test_equals_the_published_code_with_the_same_draws(number: int, sharpen: bool) -> None:
    hr = smooth_images(2, 128, 128)
    drawn = draw(Degradation(sharpen=sharpen), 2, ("published", number))
    with torch.random.fork_rng():
        expected = published_pipeline(hr, drawn, 4)
    assert torch.equal(apply(hr, drawn, 4), expected)


def test_the_draws_compared_with_the_published_code_cover_its_branches() -> None:
    drawn = [draw(Degradation(), 2, ("published", number)) for number in range(12)]
    orders = [order for item in drawn for order in (item.first, item.second)]
    assert {order.noise.gaussian for order in orders} == {True, False}
    assert {order.resize_mode for order in orders} == {"area", "bilinear", "bicubic"}
    assert {np.sign(order.resize_factor - 1) for order in orders} == {-1, 0, 1}
    assert {item.jpeg_last for item in drawn} == {True, False}
    assert {item.second.kernels is None for item in drawn} == {True, False}
    assert {grey for order in orders for grey in order.noise.grey} == {True, False}


def test_pure_function_of_its_key(hr: torch.Tensor) -> None:
    """Whatever the global generators hold, and leaving them as they were."""
    first = degrade(hr, Degradation(), 4, (0, "train", 7))
    random.seed(99)
    np.random.seed(99)
    torch.manual_seed(99)
    states = random.getstate(), str(np.random.get_state(legacy=False)), torch.get_rng_state()
    assert torch.equal(first, degrade(hr, Degradation(), 4, (0, "train", 7)))
    assert not torch.equal(first, degrade(hr, Degradation(), 4, (0, "train", 8)))
    assert (random.getstate(), str(np.random.get_state(legacy=False))) == states[:2]
    assert torch.equal(torch.get_rng_state(), states[2])


@pytest.mark.parametrize(
    ("size", "scale"), [((8, 8), 4), ((24, 36), 4), ((44, 100), 4), ((64, 64), 4), ((60, 66), 3), ((40, 60), 1)]
)
def test_size_range_and_levels_of_the_result(size: tuple[int, int], scale: int) -> None:
    """Also for images smaller than the blur kernels, and for intermediate sizes that are odd."""
    hr = smooth_images(2, *size)
    for number in range(25):
        lr = degrade(hr, Degradation(), scale, (number,))
        assert lr.shape == (2, 3, size[0] // scale, size[1] // scale)
        assert lr.isfinite().all()
        assert torch.equal(lr.clamp(0, 1).mul(255).round().div(255), lr)


def test_size_that_is_no_multiple_is_refused() -> None:
    with pytest.raises(ValueError, match="multiples of 4"):
        degrade(smooth_images(1, 42, 40), Degradation(), 4, (0,))
    with pytest.raises(ValueError, match="multiples of 4"):
        bicubic(smooth_images(1, 42, 40), 4)


def test_drawn_kernels_are_normalized_and_as_large_as_configured() -> None:
    config = Degradation(first=Blur(kernel_size_max=13), final_sinc_probability=1)
    drawn = draw(config, 50, ("kernels",))
    assert drawn.first.kernels is not None
    assert drawn.first.kernels.shape == (50, 13, 13)
    assert drawn.final_kernels.shape == (50, 21, 21)
    for kernels in (drawn.first.kernels, drawn.final_kernels):
        assert torch.allclose(kernels.sum(dim=(1, 2)), torch.ones(50), atol=1e-5)
    smallest = drawn.first.kernels[:, 3:-3, 3:-3].abs().sum(dim=(1, 2)) / drawn.first.kernels.abs().sum(dim=(1, 2))
    assert (smallest == 1).any()


@pytest.mark.parametrize("kind", range(6))
def test_each_kind_of_kernel_is_basicsrs(kind: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """basicsr's own `random_mixed_kernels`, with chance answering our parameters, gives the kernel that we draw."""
    names = ("iso", "aniso", "generalized_iso", "generalized_aniso", "plateau_iso", "plateau_aniso")
    degradations = basicsr_module("data.degradations")
    seen: list[tuple[Any, ...]] = []
    for function in ("bivariate_Gaussian", "bivariate_generalized_Gaussian", "bivariate_plateau"):
        original = getattr(degradations, function)

        def note(*arguments: Any, original: Any = original, **options: Any) -> Any:
            seen.append(arguments)
            return original(*arguments, **options)

        monkeypatch.setattr(degradations, function, note)
    probabilities = tuple(float(index == kind) for index in range(6))
    blur = Blur(kernel_probabilities=probabilities, sinc_probability=0, kernel_size_max=7)  # type: ignore[arg-type]
    drawn = draw(Degradation(first=blur), 1, ("kind", kind)).first.kernels
    assert drawn is not None
    size, sigma_x, sigma_y, angle, *beta = seen[0]
    answers = iter([sigma_x] if names[kind].endswith("_iso") or names[kind] == "iso" else [sigma_x, sigma_y, angle])
    rest = iter([0.0, beta[0]] if beta else [])
    monkeypatch.setattr(np.random, "uniform", lambda *_, **__: next(answers, None) or next(rest))
    kernel = degradations.random_mixed_kernels(names, probabilities, size, (0.2, 3), (0.2, 3))
    assert torch.equal(drawn[0], torch.from_numpy(kernel).float())


def test_frequencies_are_those_configured() -> None:
    drawn = [draw(Degradation(), 1, ("frequency", number)) for number in range(1500)]
    factors = np.array([item.first.resize_factor for item in drawn])
    assert np.mean(factors > 1) == pytest.approx(0.2, abs=0.04)
    assert np.mean(factors < 1) == pytest.approx(0.7, abs=0.04)
    assert factors.min() >= 0.15
    assert factors.max() <= 1.5
    assert np.mean([item.second.kernels is not None for item in drawn]) == pytest.approx(0.8, abs=0.04)
    assert np.mean([item.first.noise.gaussian for item in drawn]) == pytest.approx(0.5, abs=0.04)
    assert np.mean([item.first.noise.grey[0] for item in drawn]) == pytest.approx(0.4, abs=0.04)
    assert np.mean([float(item.final_kernels.max()) == 1 for item in drawn]) == pytest.approx(0.2, abs=0.04)
    qualities = [item.second.jpeg_qualities[0] for item in drawn]
    assert 30 <= min(qualities) < 33
    assert 92 < max(qualities) <= 95


def test_images_of_a_batch_differ_in_kernel_noise_and_quality() -> None:
    drawn = draw(Degradation(), 4, ("batch",))
    assert drawn.first.kernels is not None
    assert len({kernel.numpy().tobytes() for kernel in drawn.first.kernels}) == 4
    assert len(set(drawn.first.noise.strengths)) == 4
    assert len(set(drawn.first.jpeg_qualities)) == 4


def test_fixed_values_are_allowed_where_a_range_is_asked() -> None:
    blur = Blur(blur_sigma=(1.0, 1.0), gaussian_sigma=(5, 5), poisson_scale=(1, 1), jpeg_quality=(90, 90))
    drawn = draw(Degradation(first=blur, second=blur), 2, (0,))
    assert drawn.first.jpeg_qualities == (90.0, 90.0)


def test_bicubic_is_the_matlab_like_reduction_on_8_bit_levels(hr: torch.Tensor) -> None:
    imresize = basicsr_module("utils.matlab_functions").imresize
    lr = bicubic(hr, 4)
    assert lr.shape == (3, 3, 24, 32)
    assert torch.equal(lr.mul(255).round().div(255), lr)
    for reduced, image in zip(lr, hr, strict=True):
        expected = imresize(image.permute(1, 2, 0).numpy(), 0.25)
        assert np.abs(reduced.permute(1, 2, 0).numpy() - expected.clip(0, 1)).max() <= 0.5 / 255 + 1e-6


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_it_is_a_pure_function_too(hr: torch.Tensor) -> None:
    state = torch.cuda.get_rng_state()
    first = degrade(hr.cuda(), Degradation(), 4, (0,))
    torch.cuda.manual_seed(5)
    torch.cuda.set_rng_state(state)
    assert first.device.type == "cuda"
    assert torch.equal(first, degrade(hr.cuda(), Degradation(), 4, (0,)))
    assert torch.equal(torch.cuda.get_rng_state(), state)


def test_bicubic_of_set5_gives_the_classic_number(assets: Path) -> None:
    """Down and up again with the same kernel: 28.43 dB PSNR-Y on Set5 (x4, border of 4 ignored)."""
    values = []
    for path in sorted((assets / "hr/Set5").iterdir()):
        hr = to_float(read_image(path))
        hr = hr[:, : hr.shape[1] // 4 * 4, : hr.shape[2] // 4 * 4]
        restored = bicubic_enlarged(bicubic(hr.unsqueeze(0), 4), 4)
        values.append(float(psnr_y(to_uint8(restored), to_uint8(hr)[None], 4)))
    assert len(values) == 5
    assert np.mean(values) == pytest.approx(28.43, abs=0.02)
