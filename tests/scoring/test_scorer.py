"""Scores agree with published values, with pyiqa and with BasicSR; what cannot be scored is missing with its reason."""

from __future__ import annotations

import csv
import json
import math
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adaptsr.basicsr_compat import basicsr_module
from adaptsr.config.schema import Metric, Scoring
from adaptsr.data.degradation import bicubic, bicubic_enlarged
from adaptsr.data.images import read_image, to_float, to_uint8, write_png
from adaptsr.errors import UserError
from adaptsr.metrics.conventions import conventions
from adaptsr.metrics.psnr import psnr_y
from adaptsr.metrics.weights import build_network, fetch_weights, weight_files
from adaptsr.randomness import generator
from adaptsr.scoring.folders import score_folders, standard_scoring
from adaptsr.scoring.scorer import Scorer

KNOWN_ANSWER_TOLERANCE = 1e-4
NETWORK_FREE = ("psnr", "ssim", "gmsd", "nlpd")


def metrics(*names: str, **options: Any) -> Scoring:
    return Scoring(metrics={name: Metric(name=name, options=options) for name in names})


def pair(key: int, height: int = 48, width: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    """A smooth random image and a noisy version of it."""
    draw = generator("scoring test", key)
    coarse = torch.rand(1, 3, height // 8 + 1, width // 8 + 1, generator=draw)
    smooth = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic").clamp(0, 1)[0]
    noisy = (smooth + 0.05 * torch.randn(smooth.shape, generator=draw)).clamp(0, 1)
    return (noisy * 255).round().to(torch.uint8), (smooth * 255).round().to(torch.uint8)


def values(scorer: Scorer, pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> dict[str, list[float | None]]:
    rows = scorer.score([p[0] for p in pairs], [p[1] for p in pairs], [str(index) for index in range(len(pairs))])
    columns: dict[str, list[float | None]] = {}
    for row in rows:
        columns.setdefault(row.metric, []).append(row.value)
    return columns


@pytest.fixture
def no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of network weights."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch" / "hub"


@pytest.fixture(scope="module")
def random_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of made-up AlexNet, VGG16, LPIPS and DISTS weights under the names that pyiqa expects."""
    import torchvision

    home = tmp_path_factory.mktemp("torch")
    checkpoints, own = home / "hub" / "checkpoints", home / "hub" / "pyiqa"
    checkpoints.mkdir(parents=True)
    own.mkdir()
    draw = generator("network weights")
    for build, name in (
        (torchvision.models.alexnet, "alexnet-owt-7be5be79.pth"),
        (torchvision.models.vgg16, "vgg16-397923af.pth"),
    ):
        with torch.device("meta"):
            shapes = {key: value.shape for key, value in build().state_dict().items()}
        torch.save({key: made_up(key, shape, draw) for key, shape in shapes.items()}, checkpoints / name)
    for name, channels in (
        ("LPIPS_v0.1_alex-df73285e.pth", (64, 192, 384, 256, 256)),
        ("LPIPS_v0.1_vgg-a78928a0.pth", (64, 128, 256, 512, 512)),
    ):
        linear = {f"lin{i}.model.1.weight": torch.rand(1, c, 1, 1, generator=draw) for i, c in enumerate(channels)}
        torch.save(linear, own / name)
    dists = {key: torch.rand(1, 1475, 1, 1, generator=draw) for key in ("alpha", "beta")}
    torch.save(dists, own / "DISTS_weights-f5e65c96.pth")
    return home


def made_up(key: str, shape: torch.Size, draw: torch.Generator) -> torch.Tensor:
    """Kaiming-sized values; the classifiers, which no metric looks at, are stored as one number."""
    if key.startswith("classifier"):
        return torch.zeros(1).expand(shape)
    fan_in = math.prod(shape[1:]) or 1
    return torch.randn(shape, generator=draw) * math.sqrt(2 / fan_in)


@pytest.fixture
def network_forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


# PSNR-Y without pyiqa


@pytest.mark.parametrize("crop_border", [0, 4])
def test_psnr_y_equals_pyiqa_and_basicsr(crop_border: int) -> None:
    """Three independent implementations of studio-swing PSNR-Y agree, with and without a border."""
    calculate_psnr = basicsr_module("metrics.psnr_ssim").calculate_psnr
    restored, reference = (torch.stack(images) for images in zip(*(pair(key) for key in range(3)), strict=True))
    ours = psnr_y(restored, reference, crop_border)
    scorer = Scorer(metrics("psnr").model_copy(update={"crop_border": crop_border}))
    theirs = values(scorer, list(zip(restored, reference, strict=True)))["psnr"]
    assert ours.shape == (3,)
    assert ours.tolist() == pytest.approx(theirs, abs=2e-5)
    for index in range(3):
        bgr = [image[index].flip(0).permute(1, 2, 0).numpy() for image in (restored, reference)]
        basicsr = calculate_psnr(*bgr, crop_border=crop_border, test_y_channel=True)
        assert ours[index].item() == pytest.approx(basicsr, abs=1e-4)


def test_psnr_y_is_studio_swing() -> None:
    """A grey step of 10 levels is 10 * 219/255 levels of Y: 1.32 dB above full-range luma."""
    dark, light = torch.full((1, 3, 8, 8), 100, dtype=torch.uint8), torch.full((1, 3, 8, 8), 110, dtype=torch.uint8)
    assert psnr_y(light, dark).item() == pytest.approx(20 * math.log10(255 / (10 * 219 / 255)), abs=1e-5)


def test_psnr_y_refuses_what_it_cannot_mean() -> None:
    image = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    assert psnr_y(image, image).item() == math.inf
    for restored, reference, border in ((image.float(), image, 0), (image[..., 1:], image, 0), (image, image, 4)):
        with pytest.raises(ValueError, match=r"expected|nothing is left"):
            psnr_y(restored, reference, border)


# Published and documented values


def test_published_scores_are_reproduced(assets: Path) -> None:
    """PSNR-Y and SSIM-Y of three published restorations agree with what their authors logged."""
    with (assets / "known_answers" / "osediff_realsr.csv").open() as file:
        published = list(csv.DictReader(file))
    names = [row["image"] for row in published]
    rows = Scorer(metrics("psnr", "ssim")).score(
        [read_image(assets / "known_answers" / f"{name}.png") for name in names],
        [read_image(next((assets / "pairs/realsr/hr").glob(f"{name}.*"))) for name in names],
        names,
    )
    measured = {(row.image, row.metric): row.value for row in rows}
    assert len(published) == 3
    for row in published:
        for metric, column in (("psnr", "psnr_y_db"), ("ssim", "ssim_y")):
            assert measured[row["image"], metric] == pytest.approx(float(row[column]), abs=KNOWN_ANSWER_TOLERANCE)
    assert {row.color_space for row in rows} == {"ycbcr"}


@pytest.mark.slow
def test_bicubic_on_set5_has_the_psnr_that_everybody_prints(assets: Path) -> None:
    """28.43 dB: MATLAB-like bicubic down and up by 4, border of 4."""
    restored, references = [], []
    for path in sorted((assets / "hr" / "Set5").glob("*.png")):
        hr = read_image(path)
        references.append(hr[:, : hr.shape[1] // 4 * 4, : hr.shape[2] // 4 * 4])
        restored.append(enlarged(to_uint8(bicubic(to_float(references[-1])[None], 4)[0])))
    assert psnr_of(restored, references, crop_border=4) == pytest.approx(28.43, abs=0.01)


@pytest.mark.slow
def test_bicubic_on_the_realsr_crops(assets: Path) -> None:
    """27.12 dB over all 100 crops, without a border."""
    names = sorted(path.name for path in (assets / "pairs/realsr/lr").iterdir())
    restored = [enlarged(read_image(assets / "pairs/realsr/lr" / name)) for name in names]
    references = [read_image(assets / "pairs/realsr/hr" / name) for name in names]
    assert len(names) == 100
    assert psnr_of(restored, references) == pytest.approx(27.12, abs=0.01)


def enlarged(lr: torch.Tensor) -> torch.Tensor:
    return to_uint8(bicubic_enlarged(to_float(lr)[None], 4)[0])


def psnr_of(restored: list[torch.Tensor], references: list[torch.Tensor], crop_border: int = 0) -> float:
    scorer = Scorer(metrics("psnr").model_copy(update={"crop_border": crop_border}))
    measured = values(scorer, list(zip(restored, references, strict=True)))["psnr"]
    return math.fsum(value for value in measured if value is not None) / len(measured)


def test_squeezenet_lpips_gives_the_documented_values(assets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real SqueezeNet features and linear layers reproduce the values that torchmetrics documents."""
    monkeypatch.setenv("TORCH_HOME", str(assets / "metrics" / "torch_home"))
    linear = assets / "metrics" / "lpips_v0.1_squeeze_lin.pth"
    options = {"net": "squeeze", "pretrained_model_path": str(linear)}
    squeeze = Scoring(metrics={"a": Metric(name="lpips", title="LPIPS (SqueezeNet)", options=options)})
    draw = torch.Generator().manual_seed(42)
    images = [torch.rand(2, 3, 100, 100, generator=draw) for _ in range(2)]
    with torch.inference_mode():
        documented = build_network(conventions(squeeze)[0], "cpu")(*images).flatten().tolist()
    assert documented == pytest.approx([0.1024, 0.0938], abs=5e-5)
    levels = [(image * 255).round().to(torch.uint8) for image in images]
    rows = Scorer(squeeze).score(levels[0], levels[1], ["a", "b"])
    assert [row.value for row in rows] == pytest.approx(documented, abs=5e-4)


# Identical, small, cropped, broken


def test_identical_images_are_perfect(random_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(random_weights))
    _, image = pair(2)
    scored = values(Scorer(metrics("psnr", "ssim", "gmsd", "lpips", "dists")), [(image, image)])
    assert scored["psnr"] == [math.inf]
    assert scored["ssim"] == [1.0]
    assert scored["gmsd"] == [0.0]
    assert scored["lpips"] == [0.0]
    assert scored["dists"] == pytest.approx([0.0], abs=1e-5)


def test_what_is_too_small_is_missing_with_the_reason() -> None:
    """An image below SSIM's window has a PSNR and no SSIM; one eaten up by the border has neither."""
    small, usual = pair(3, 10, 10), pair(4)
    rows = Scorer(metrics("psnr", "ssim")).score([small[0], usual[0]], [small[1], usual[1]], ["small", "usual"])
    by_cell = {(row.image, row.metric): row for row in rows}
    assert by_cell["small", "psnr"].value is not None
    assert by_cell["small", "ssim"].value is None
    assert str(by_cell["small", "ssim"].reason).startswith("ssim cannot score 10x10 pixels: ")
    assert by_cell["usual", "ssim"].value is not None
    eaten = Scorer(metrics("psnr").model_copy(update={"crop_border": 5})).score([small[0]], [small[1]], ["small"])
    assert (eaten[0].value, eaten[0].crop_border) == (None, 5)
    assert "crop border of 5" in str(eaten[0].reason)


def test_crop_border_applies_to_every_metric(random_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(random_weights))
    names = (*NETWORK_FREE, "lpips")
    restored, reference = pair(5, 72, 72)
    inner = (restored[:, 4:-4, 4:-4].clone(), reference[:, 4:-4, 4:-4].clone())
    cropped = values(Scorer(metrics(*names).model_copy(update={"crop_border": 4})), [(restored, reference)])
    assert cropped == values(Scorer(metrics(*names)), [inner])


@pytest.mark.parametrize("result", [torch.tensor([math.nan]), torch.tensor([-math.inf]), {"score": 1}])
def test_a_metric_that_gives_no_number_is_missing(result: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyiqa.archs.gmsd_arch as gmsd

    monkeypatch.setattr(gmsd.GMSD, "forward", lambda *_: result)
    rows = Scorer(metrics("psnr", "gmsd")).score(*([image] for image in pair(6)), ["a"])
    assert rows[0].value is not None
    assert rows[1].value is None
    assert str(rows[1].reason).startswith("gmsd ")


def test_a_fault_of_the_machine_is_no_missing_number(monkeypatch: pytest.MonkeyPatch) -> None:
    import pyiqa.archs.gmsd_arch as gmsd

    def out_of_memory(*_: Any) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(gmsd.GMSD, "forward", out_of_memory)
    with pytest.raises(RuntimeError, match="allocate memory"):
        Scorer(metrics("gmsd")).score(*([image] for image in pair(6)), ["a"])


# Batches and remembered references


def test_a_value_does_not_depend_on_its_neighbours(random_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit: alone, among others of the same and other sizes, and in another order."""
    monkeypatch.setenv("TORCH_HOME", str(random_weights))
    names = (*NETWORK_FREE, "fsim", "lpips")
    pairs = [pair(key, *size) for key, size in enumerate([(48, 40), (64, 64), (48, 40), (48, 48)])]
    together = values(Scorer(metrics(*names)), pairs)
    backwards = values(Scorer(metrics(*names)), pairs[::-1])
    alone = [values(Scorer(metrics(*names)), [one]) for one in pairs]
    for name in names:
        assert together[name] == backwards[name][::-1] == [single[name][0] for single in alone]


def test_full_batches_give_the_same_values(random_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The batches used on CUDA, filled up by repetition, agree with one image at a time."""
    monkeypatch.setenv("TORCH_HOME", str(random_weights))
    names = (*NETWORK_FREE, "lpips")
    pairs = [pair(key) for key in range(5)]
    singly = values(Scorer(metrics(*names)), pairs)
    batched = Scorer(metrics(*names))
    monkeypatch.setattr(batched, "_batch_size", lambda height, width: 3)
    for _ in range(2):
        for name, column in values(batched, pairs).items():
            assert column == pytest.approx(singly[name], abs=1e-6)


@pytest.mark.parametrize(("name", "options"), [("lpips", {}), ("lpips", {"net": "vgg"}), ("dists", {}), ("lpips+", {})])
def test_remembered_references_change_nothing(
    name: str, options: Mapping[str, Any], random_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three methods scored against remembered references get what plain pyiqa gives; references pass once."""
    monkeypatch.setenv("TORCH_HOME", str(random_weights))
    monkeypatch.setattr("pyiqa.utils.download_util.DEFAULT_CACHE_DIR", str(random_weights / "hub" / "pyiqa"))
    import pyiqa
    import torchvision

    plain = pyiqa.create_metric(name, device="cpu", **options)
    scorer = Scorer(Scoring(metrics={"a": Metric(name=name, title="with vgg", options=dict(options))}))
    references = [pair(key)[1] for key in range(2)]
    passes = []
    hook = torch.nn.modules.module.register_module_forward_hook(
        lambda module, _, __: passes.append(1) if isinstance(module, torch.nn.MaxPool2d | torch.nn.Conv2d) else None
    )
    counts = []
    for method in range(3):
        restored = [pair(10 * method + key + 2)[0] for key in range(2)]
        passes.clear()
        got = values(scorer, list(zip(restored, references, strict=True)))["a"]
        counts.append(len(passes))
        passes.clear()
        wanted = [plain(to_float(a)[None], to_float(b)[None]).item() for a, b in zip(restored, references, strict=True)]
        assert got == pytest.approx(wanted, abs=1e-6)
    hook.remove()
    assert counts[1] == counts[2] < counts[0]
    assert torchvision.__version__


@pytest.mark.parametrize("options", [{}, {"test_y_channel": False}, {"color_space": "yiq"}, {"downsample": True}])
@pytest.mark.parametrize("size", [(11, 11), (48, 40), (300, 530)])
def test_ssim_in_two_directions_is_pyiqas(options: Mapping[str, Any], size: tuple[int, int]) -> None:
    """The plain window of 11x11 pixels is the oracle; nine digits."""
    import pyiqa

    plain = pyiqa.create_metric("ssim", device="cpu", **{"color_space": "ycbcr", **options})
    scorer = Scorer(metrics("ssim", **options))
    for key in range(2):
        restored, reference = pair(key, *size)
        wanted = plain(to_float(restored)[None], to_float(reference)[None]).item()
        assert values(scorer, [(restored, reference)])["ssim"] == pytest.approx([wanted], abs=1e-9)


@pytest.mark.parametrize("size", [(64, 64), (75, 101)])
def test_dists_in_pieces_is_pyiqas(
    size: tuple[int, int], random_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in batches of two, where the features are shared out among the images."""
    monkeypatch.setenv("TORCH_HOME", str(random_weights))
    plain = build_network(conventions(metrics("dists"))[0], "cpu")
    pairs = [pair(key, *size) for key in range(3)]
    with torch.inference_mode():
        wanted = [plain(to_float(a)[None], to_float(b)[None]).item() for a, b in pairs]
    singly = Scorer(metrics("dists"))
    assert values(singly, pairs)["dists"] == pytest.approx(wanted, abs=1e-6)
    batched = Scorer(metrics("dists"))
    monkeypatch.setattr(batched, "_batch_size", lambda height, width: 2)
    for _ in range(2):
        assert values(batched, pairs)["dists"] == pytest.approx(wanted, abs=1e-6)


def test_as_many_references_as_remembered_at_once(random_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scored twice, `capacity` images are computed once; the memory holds no fewer bytes than is reckoned with."""
    monkeypatch.setenv("TORCH_HOME", str(random_weights))
    scorer = Scorer(metrics("lpips", "dists"), feature_memory=8_000_000)
    count = scorer.capacity(64, 72)
    assert count == 3
    pairs = [pair(key, 64, 72) for key in range(count)]
    values(scorer, pairs)
    extracted: list[Any] = []
    for column in ("lpips", "dists"):
        comparison = scorer._comparisons[column]
        assert not isinstance(comparison, str)
        assert comparison._passes is not None
        monkeypatch.setattr(comparison._passes, "of_reference", extracted.append)
    values(scorer, pairs)
    assert not extracted
    assert scorer._memory._bytes <= 8_000_000
    assert Scorer(metrics("psnr"), feature_memory=8_000_000).capacity(64, 72) > 100
    assert Scorer(metrics("dists"), feature_memory=0).capacity(64, 72) == 1


def test_the_memory_for_references_is_bounded(random_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for nothing, or for one reference, the values are the same."""
    monkeypatch.setenv("TORCH_HOME", str(random_weights))
    pairs = [pair(key) for key in range(3)] * 2
    wanted = values(Scorer(metrics("lpips")), pairs)
    for limit in (0, 100_000, 300_000):
        scorer = Scorer(metrics("lpips"), feature_memory=limit)
        assert values(scorer, pairs) == wanted
        assert scorer._memory._bytes <= limit


# Weights


def test_missing_weights_are_a_reason_at_once_and_in_silence(
    no_weights: Path, network_forbidden: None, capfd: pytest.CaptureFixture[str]
) -> None:
    """No network, no waiting, no output: every value of LPIPS and DISTS is missing and says which file goes where."""
    Scorer(metrics("psnr")).score(*([image] for image in pair(7)), ["a"])
    start = time.monotonic()
    rows = Scorer(metrics("psnr", "lpips", "dists")).score(*([image] for image in pair(7)), ["a"])
    assert time.monotonic() - start < 1
    assert [row.value is None for row in rows] == [False, True, True]
    assert str(rows[1].reason).startswith("AlexNet and LPIPS weights not available: put https://download.pytorch.org/")
    assert f"{no_weights}/checkpoints/vgg16-397923af.pth" in str(rows[2].reason)
    assert all("\n" not in str(row.reason) for row in rows)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("deepdc", "vgg19-dcbb9e9d.pth"),
        ("pieapp", "PieAPPv0.1-0937b014.pth"),
        pytest.param("topiq_fr", "the cache of the model hub", marks=pytest.mark.slow),
    ],
)
def test_other_learned_metrics_without_weights_are_missing_too(
    name: str, said: str, no_weights: Path, network_forbidden: None, capfd: pytest.CaptureFixture[str]
) -> None:
    """A torchvision network, pyiqa's own file, and a network of a model hub: whatever asks for a download."""
    [row] = Scorer(metrics(name)).score(*([image] for image in pair(8, 64, 64)), ["a"])
    assert row.value is None
    assert said in str(row.reason)
    assert "\n" not in str(row.reason)
    assert capfd.readouterr() == ("", "")
    assert socket.create_connection.__module__ == "socket"


def test_missing_weights_can_be_an_error(no_weights: Path) -> None:
    strict = metrics("psnr", "lpips").model_copy(update={"missing_weights": "error"})
    with pytest.raises(UserError, match=r"scoring\.metrics\.lpips: AlexNet and LPIPS weights not available"):
        Scorer(strict)


def test_weights_are_loaded_as_tensors_only(no_weights: Path, random_weights: Path) -> None:
    """A pickle that would run code when loaded is refused and leaves the metric missing."""
    (no_weights / "checkpoints").mkdir(parents=True)
    (no_weights / "pyiqa").mkdir()
    alexnet = "checkpoints/alexnet-owt-7be5be79.pth"
    (no_weights / alexnet).symlink_to(random_weights / "hub" / alexnet)
    torch.save({"lin0": os.system}, no_weights / "pyiqa" / "LPIPS_v0.1_alex-df73285e.pth")
    [row] = Scorer(metrics("lpips")).score(*([image] for image in pair(9)), ["a"])
    assert row.value is None
    assert str(row.reason).startswith("lpips could not be built: ")


def test_building_a_metric_leaves_the_random_state_alone(random_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(random_weights))
    before = torch.random.get_rng_state()
    values(Scorer(metrics("dists")), [pair(9)])
    assert torch.equal(before, torch.random.get_rng_state())


def test_weight_files_are_those_pyiqa_and_torchvision_use(no_weights: Path) -> None:
    """Addresses and names are the ones in the installed libraries."""
    import pyiqa.archs.dists_arch as dists
    import pyiqa.archs.lpips_arch as lpips
    from torchvision.models import AlexNet_Weights, SqueezeNet1_1_Weights, VGG16_Weights

    expected = {
        "alex": (AlexNet_Weights.IMAGENET1K_V1.url, lpips.default_model_urls["0.1_alex"]),
        "vgg": (VGG16_Weights.IMAGENET1K_V1.url, lpips.default_model_urls["0.1_vgg"]),
        "squeeze": (SqueezeNet1_1_Weights.IMAGENET1K_V1.url, lpips.default_model_urls["0.1_squeeze"]),
    }
    for net, urls in expected.items():
        scoring = Scoring(metrics={"a": Metric(name="lpips", title=net, options={"net": net})})
        assert tuple(file.url for file in weight_files(scoring)) == urls
    files = weight_files(metrics("dists", "gmsd"))
    assert [file.url for file in files] == [VGG16_Weights.IMAGENET1K_V1.url, dists.default_model_urls["url"]]
    assert all(file.path.is_relative_to(no_weights) and file.path.name == Path(file.url).name for file in files)


def test_fetching_verifies_and_explains(no_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A right file arrives whole; a wrong one is not kept; a host that does not answer is asked once."""
    import hashlib

    from adaptsr.metrics import weights

    right = b"weights" * 1000
    name = f"net-{hashlib.sha256(right).hexdigest()[:8]}.pth"
    (tmp_path / name).write_bytes(right)
    (tmp_path / "net-00000000.pth").write_bytes(right)

    def fetch(*urls: str) -> dict[str, str]:
        files = [weights.WeightFile("a", "Net", url, no_weights / url.rpartition("/")[2]) for url in urls]
        monkeypatch.setattr(weights, "_files", lambda _: files)
        return fetch_weights(metrics("lpips"))

    assert fetch((tmp_path / name).as_uri()) == {}
    assert (no_weights / name).read_bytes() == right
    assert "SHA-256 begins" in fetch((tmp_path / "net-00000000.pth").as_uri())["lpips"]
    unanswered = fetch("http://127.0.0.1:9/net-1.pth", "http://127.0.0.1:9/net-2.pth")
    assert unanswered["lpips"].startswith("Net weights not available: put http://127.0.0.1:9/net-1.pth at ")
    assert sorted(path.name for path in no_weights.iterdir()) == [name]
    strict = metrics("lpips").model_copy(update={"missing_weights": "error"})
    with pytest.raises(UserError, match="Net weights not available"):
        fetch_weights(strict)


def test_metrics_without_weights_are_not_built_to_be_fetched(no_weights: Path) -> None:
    assert fetch_weights(metrics(*NETWORK_FREE)) == {}


# What a profile may say


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (Metric(name="lpisp"), r"scoring\.metrics\.a\.name: pyiqa has no metric 'lpisp'; close names are lpips"),
        (Metric(name="zzzzzz"), r"full-reference metrics are afine_all, "),
        (Metric(name="niqe"), r"'niqe' compares with no reference image"),
        (Metric(name="lpips", options={"nett": "vgg"}), r"options\.nett: .*did you mean 'net'"),
        (Metric(name="psnr", options={"color_space": "yiq"}), r"did you mean 'color_space'"),
        (Metric(name="psnr", options={"color_space": "ycbcrr"}), r"allowed are lhm, ycbcr, yiq"),
        (Metric(name="ssim", options={"crop_border": 4}), r"the border is scoring\.crop_border"),
        (Metric(name="lpips", options={"net": "squeeze"}), r"would be read as LPIPS with AlexNet"),
        (Metric(name="lpips", options={"net": "resnet"}), r"allowed are 'alex', 'squeeze', 'vgg', found 'resnet'"),
        (Metric(name="lpips", options={"pretrained_model_path": "gone.pth"}), r"no file gone\.pth"),
    ],
)
def test_a_mistaken_metric_is_one_line(metric: Metric, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        Scorer(Scoring(metrics={"a": metric}))
    assert "\n" not in str(caught.value)


def test_conventions_state_the_color_space() -> None:
    """Y is pinned to studio-swing BT.601 wherever pyiqa lets us; elsewhere the row says what pyiqa takes."""
    names = ("psnr", "psnry", "ssim", "ssimc", "ms_ssim", "cw_ssim", "gmsd", "nlpd", "vif", "fsim", "lpips", "dists")
    spaces = {convention.column: convention.color_space for convention in conventions(metrics(*names))}
    assert {name for name, space in spaces.items() if space == "ycbcr"} == {
        "psnr",
        "psnry",
        "ssim",
        "ms_ssim",
        "cw_ssim",
    }
    assert {name for name, space in spaces.items() if space == "rgb"} == {"ssimc", "lpips", "dists"}
    [rgb] = conventions(metrics("psnr", test_y_channel=False))
    [luma] = conventions(metrics("psnr", color_space="yiq"))
    assert (rgb.color_space, luma.color_space) == ("rgb", "yiq")


def test_importing_costs_neither_torch_nor_pyiqa() -> None:
    """A workflow can check a profile's metrics while it is parsed."""
    code = (
        "import sys; from adaptsr.metrics.conventions import conventions; from adaptsr.metrics.weights import weight_files; from adaptsr.scoring.folders import standard_scoring; "
        "conventions(standard_scoring()); weight_files(standard_scoring()); "
        "print(sorted({'torch', 'pyiqa', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# Folders


def folder(path: Path, images: Mapping[str, torch.Tensor]) -> Path:
    for name, image in images.items():
        write_png(path / name, image)
    return path


def test_folders_are_scored_as_json(tmp_path: Path, no_weights: Path) -> None:
    pairs = {name: pair(key) for key, name in enumerate(["a.png", "b.png"])}
    sr = folder(tmp_path / "sr", {name: images[0] for name, images in pairs.items()})
    hr = folder(tmp_path / "hr", {name: images[1] for name, images in pairs.items()})
    scored = json.loads(json.dumps(score_folders(sr, hr, standard_scoring(), 4, "cpu"), allow_nan=False))
    assert [image["name"] for image in scored["images"]] == ["a", "b"]
    expected = [psnr_y(restored[None], reference[None], 4).item() for restored, reference in pairs.values()]
    assert [image["psnr_y"] for image in scored["images"]] == pytest.approx(expected, abs=2e-5)
    assert scored["mean"]["psnr_y"] == pytest.approx(np.mean(expected), abs=2e-5)
    assert scored["mean"]["lpips"] is None
    assert "AlexNet" in scored["mean"]["reasons"]["lpips"]
    assert "VGG16" in scored["images"][0]["reasons"]["dists"]
    assert scored["conventions"]["psnr_y"]["color_space"] == "ycbcr"
    assert scored["conventions"]["psnr_y"]["crop_border"] == 4


def test_identical_images_in_folders_have_no_number_in_json(tmp_path: Path) -> None:
    images = {"a.png": pair(1)[0], "b.png": pair(2)[0]}
    sr = folder(tmp_path / "sr", images)
    hr = folder(tmp_path / "hr", {"a.png": images["a.png"], "b.png": pair(2)[1]})
    scored = score_folders(sr, hr, metrics("psnr", "ssim"), 0, "cpu")
    assert scored["images"][0]["psnr"] is None
    assert scored["images"][0]["reasons"] == {"psnr": "infinite: the images are identical"}
    assert scored["images"][0]["ssim"] == 1
    assert scored["mean"]["reasons"] == {"psnr": "1 of 2 images: infinite: the images are identical"}
    json.dumps(scored, allow_nan=False)


def test_folders_that_do_not_match_are_one_line(tmp_path: Path) -> None:
    """Every name without a partner is reported at once; so is every size and every unreadable file."""
    sr = folder(tmp_path / "sr", {f"{name}.png": pair(1)[0] for name in "abc"})
    hr = folder(tmp_path / "hr", {f"{name}.png": pair(1)[0] for name in "bcd"})
    with pytest.raises(
        UserError, match=r"reference d\.png: no restored image .*; restored a\.png: no reference image"
    ) as caught:
        score_folders(sr, hr, metrics("psnr"), 0, "cpu")
    assert "\n" not in str(caught.value)
    (sr / "a.png").unlink()
    (hr / "d.png").unlink()
    write_png(sr / "b.png", pair(1, 24, 24)[0])
    (hr / "c.png").write_bytes(b"no image")
    with pytest.raises(
        UserError, match=r"restored b\.png: 24x24 beside reference 40x48: .*; reference c\.png: unreadable"
    ):
        score_folders(sr, hr, metrics("psnr"), 0, "cpu")
    with pytest.raises(UserError, match="no such folder"):
        score_folders(tmp_path / "gone", hr, metrics("psnr"), 0, "cpu")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no restored images in .*/empty; expected files ending in"):
        score_folders(tmp_path / "empty", hr, metrics("psnr"), 0, "cpu")


def test_sizes_and_types_are_checked() -> None:
    restored, reference = pair(1)
    with pytest.raises(UserError, match="a: the restored image has 40x47 pixels, its reference 40x48"):
        Scorer(metrics("psnr")).score([restored[:, 1:]], [reference], ["a"])
    with pytest.raises(ValueError, match="uint8"):
        Scorer(metrics("psnr")).score([restored.float()], [reference], ["a"])
    with pytest.raises(ValueError, match="names"):
        Scorer(metrics("psnr")).score([restored], [reference], [])
