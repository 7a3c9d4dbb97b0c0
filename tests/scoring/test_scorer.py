"""Scores agree with published values, with pyiqa and with BasicSR; what cannot be scored is missing with its reason."""

from __future__ import annotations

import csv
import math
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from adaptsr.config.schema import Metric, Scoring
from adaptsr.data.degradation import bicubic_enlarged
from adaptsr.data.images import read_image, to_float, to_uint8
from adaptsr.errors import UserError
from adaptsr.metrics.conventions import conventions
from adaptsr.metrics.weights import build_network
from adaptsr.scoring.scorer import Scorer
from tests.factories import scoring_of, smooth_pair

KNOWN_ANSWER_TOLERANCE = 1e-4
PUBLISHED = {"psnr": "psnr_y_db", "ssim": "ssim_y", "lpips": "lpips_alex", "dists": "dists"}
NETWORK_FREE = ("psnr", "ssim", "gmsd", "nlpd")


def values(scorer: Scorer, pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> dict[str, list[float | None]]:
    rows = scorer.score([p[0] for p in pairs], [p[1] for p in pairs], [str(index) for index in range(len(pairs))])
    columns: dict[str, list[float | None]] = {}
    for row in rows:
        columns.setdefault(row.metric, []).append(row.value)
    return columns


@pytest.fixture
def network_forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


# Published and documented values


def test_published_scores_are_reproduced(assets: Path, use_real_weights: Path) -> None:
    """All four of three published restorations agree with what their authors logged."""
    with (assets / "known_answers" / "osediff_realsr.csv").open() as file:
        published = list(csv.DictReader(file))
    names = [row["image"] for row in published]
    rows = Scorer(scoring_of(*PUBLISHED)).score(
        [read_image(assets / "known_answers" / f"{name}.png") for name in names],
        [read_image(next((assets / "pairs/realsr/hr").glob(f"{name}.*"))) for name in names],
        names,
    )
    measured = {(row.image, row.metric): row.value for row in rows}
    assert len(published) == 3
    for row in published:
        for metric, column in PUBLISHED.items():
            assert measured[row["image"], metric] == pytest.approx(float(row[column]), abs=KNOWN_ANSWER_TOLERANCE)
    assert {row.color_space for row in rows if row.metric in ("psnr", "ssim")} == {"ycbcr"}


@pytest.mark.parametrize(
    ("metric", "restored", "reference", "known"),
    [
        ("lpips", "ex_p0.png", "ex_ref.png", "0.7219"),
        ("lpips", "ex_p1.png", "ex_ref.png", "0.1376"),
        ("dists", "r1.png", "r0.png", "0.3347"),
        ("lpips", "calibration/dist/I03.bmp", "calibration/ref/I03.bmp", "0.7237"),
        ("lpips", "calibration/dist/I06.bmp", "calibration/ref/I06.bmp", "0.05079"),
        ("dists", "calibration/dist/I03.bmp", "calibration/ref/I03.bmp", "0.4742"),
        ("dists", "calibration/dist/I06.bmp", "calibration/ref/I06.bmp", "0.06825"),
    ],
)
def test_the_authors_own_examples_give_their_values(
    metric: str, restored: str, reference: str, known: str, assets: Path, use_real_weights: Path
) -> None:
    """To the last digit that is printed: LPIPS (AlexNet) and DISTS on their own pictures, and two official calibration pairs."""
    images = []
    for name in (restored, reference):
        with Image.open(assets / "known_answers/metrics" / name) as image:
            images.append(torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1))
    [row] = Scorer(scoring_of(metric)).score(images[:1], images[1:], [restored])
    assert row.value is not None
    assert f"{row.value:.{len(known) - 2}f}" == known


def test_published_scores_without_a_reference_are_reproduced(assets: Path, use_real_weights: Path) -> None:
    """NIQE of three published restorations, without HR; metrics whose networks are elsewhere are missing with the reason."""
    with (assets / "known_answers" / "osediff_realsr_no_reference.csv").open() as file:
        published = {row["image"]: float(row["niqe"]) for row in csv.DictReader(file)}
    images = [read_image(assets / "known_answers" / f"{name}.png") for name in published]
    rows = Scorer(scoring_of("niqe", "musiq", "psnr")).score(images, None, list(published))
    niqe = {row.image: row.value for row in rows if row.metric == "niqe"}
    assert niqe == pytest.approx(published, abs=5e-3)
    assert sum(abs(value - published[name]) < 1e-5 for name, value in niqe.items() if value) == 2
    reasons = {row.metric: row.reason for row in rows}
    assert reasons["niqe"] is None
    assert str(reasons["musiq"]).startswith("MUSIQ weights not available: put https://")
    assert reasons["psnr"] == "not measured, because these photographs have no HR"


@pytest.mark.slow
def test_bicubic_on_the_realsr_crops(assets: Path) -> None:
    """27.12 dB over all 100 crops, without a border."""
    names = sorted(path.name for path in (assets / "pairs/realsr/lr").iterdir())
    pairs = []
    for name in names:
        lr, hr = (read_image(assets / f"pairs/realsr/{side}" / name) for side in ("lr", "hr"))
        pairs.append((to_uint8(bicubic_enlarged(to_float(lr)[None], 4)[0]), hr))
    measured = values(Scorer(scoring_of("psnr")), pairs)["psnr"]
    assert len(names) == 100
    assert math.fsum(value for value in measured if value is not None) / 100 == pytest.approx(27.12, abs=0.01)


def test_squeezenet_lpips_gives_the_documented_values(assets: Path, use_real_weights: Path) -> None:
    """Real SqueezeNet features and linear layers reproduce the values that torchmetrics documents."""
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


def test_identical_images_are_perfect(use_random_weights: Path) -> None:
    _, image = smooth_pair(2)
    scored = values(Scorer(scoring_of("psnr", "ssim", "gmsd", "lpips", "dists")), [(image, image)])
    assert scored["psnr"] == [math.inf]
    assert scored["ssim"] == [1.0]
    assert scored["gmsd"] == [0.0]
    assert scored["lpips"] == [0.0]
    assert scored["dists"] == pytest.approx([0.0], abs=1e-5)


def test_what_is_too_small_is_missing_with_the_reason() -> None:
    """An image below SSIM's window has a PSNR and no SSIM; one eaten up by the border has neither."""
    small, usual = smooth_pair(3, 10, 10), smooth_pair(4)
    rows = Scorer(scoring_of("psnr", "ssim")).score([small[0], usual[0]], [small[1], usual[1]], ["small", "usual"])
    by_cell = {(row.image, row.metric): row for row in rows}
    assert by_cell["small", "psnr"].value is not None
    assert by_cell["small", "ssim"].value is None
    assert str(by_cell["small", "ssim"].reason).startswith("ssim cannot score 10x10 pixels: ")
    assert by_cell["usual", "ssim"].value is not None
    eaten = Scorer(scoring_of("psnr").model_copy(update={"crop_border": 5})).score([small[0]], [small[1]], ["small"])
    assert (eaten[0].value, eaten[0].crop_border) == (None, 5)
    assert "crop border of 5" in str(eaten[0].reason)


def test_crop_border_applies_to_every_metric(use_random_weights: Path) -> None:
    names = (*NETWORK_FREE, "lpips")
    restored, reference = smooth_pair(5, 72, 72)
    inner = (restored[:, 4:-4, 4:-4].clone(), reference[:, 4:-4, 4:-4].clone())
    cropped = values(Scorer(scoring_of(*names).model_copy(update={"crop_border": 4})), [(restored, reference)])
    assert cropped == values(Scorer(scoring_of(*names)), [inner])


@pytest.mark.parametrize("result", [torch.tensor([math.nan]), torch.tensor([-math.inf]), {"score": 1}])
def test_a_metric_that_gives_no_number_is_missing(result: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyiqa.archs.gmsd_arch as gmsd

    monkeypatch.setattr(gmsd.GMSD, "forward", lambda *_: result)
    rows = Scorer(scoring_of("psnr", "gmsd")).score(*([image] for image in smooth_pair(6)), ["a"])
    assert rows[0].value is not None
    assert rows[1].value is None
    assert str(rows[1].reason).startswith("gmsd ")


def test_a_fault_of_the_machine_is_no_missing_number(monkeypatch: pytest.MonkeyPatch) -> None:
    import pyiqa.archs.gmsd_arch as gmsd

    def out_of_memory(*_: Any) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(gmsd.GMSD, "forward", out_of_memory)
    with pytest.raises(RuntimeError, match="allocate memory"):
        Scorer(scoring_of("gmsd")).score(*([image] for image in smooth_pair(6)), ["a"])


# Batches and remembered references


def test_a_value_does_not_depend_on_its_neighbours(use_random_weights: Path) -> None:
    """Bit for bit: alone, among others of the same and other sizes, and in another order."""
    names = (*NETWORK_FREE, "fsim", "lpips")
    pairs = [smooth_pair(key, *size) for key, size in enumerate([(48, 40), (64, 64), (48, 40), (48, 48)])]
    together = values(Scorer(scoring_of(*names)), pairs)
    backwards = values(Scorer(scoring_of(*names)), pairs[::-1])
    alone = [values(Scorer(scoring_of(*names)), [one]) for one in pairs]
    for name in names:
        assert together[name] == backwards[name][::-1] == [single[name][0] for single in alone]


def test_full_batches_give_the_same_values(use_random_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The batches used on CUDA, filled up by repetition, agree with one image at a time."""
    names = (*NETWORK_FREE, "lpips")
    pairs = [smooth_pair(key) for key in range(5)]
    singly = values(Scorer(scoring_of(*names)), pairs)
    batched = Scorer(scoring_of(*names))
    monkeypatch.setattr(batched, "_batch_size", lambda height, width: 3)
    for _ in range(2):
        for name, column in values(batched, pairs).items():
            assert column == pytest.approx(singly[name], abs=1e-6)


@pytest.mark.parametrize(("name", "options"), [("lpips", {}), ("lpips", {"net": "vgg"}), ("dists", {}), ("lpips+", {})])
def test_remembered_references_change_nothing(
    name: str, options: Mapping[str, Any], use_random_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three methods scored against remembered references get what plain pyiqa gives; references pass once."""
    monkeypatch.setattr("pyiqa.utils.download_util.DEFAULT_CACHE_DIR", str(use_random_weights / "hub" / "pyiqa"))
    import pyiqa

    plain = pyiqa.create_metric(name, device="cpu", **options)
    scorer = Scorer(Scoring(metrics={"a": Metric(name=name, title="with vgg", options=dict(options))}))
    references = [smooth_pair(key)[1] for key in range(2)]
    passes = []
    hook = torch.nn.modules.module.register_module_forward_hook(
        lambda module, _, __: passes.append(1) if isinstance(module, torch.nn.MaxPool2d | torch.nn.Conv2d) else None
    )
    counts = []
    for method in range(3):
        restored = [smooth_pair(10 * method + key + 2)[0] for key in range(2)]
        passes.clear()
        got = values(scorer, list(zip(restored, references, strict=True)))["a"]
        counts.append(len(passes))
        passes.clear()
        wanted = [plain(to_float(a)[None], to_float(b)[None]).item() for a, b in zip(restored, references, strict=True)]
        assert got == pytest.approx(wanted, abs=1e-6)
    hook.remove()
    assert counts[1] == counts[2] < counts[0]


@pytest.mark.parametrize("options", [{}, {"test_y_channel": False}, {"color_space": "yiq"}, {"downsample": True}])
@pytest.mark.parametrize("size", [(11, 11), (48, 40), (300, 530)])
def test_ssim_in_two_directions_and_in_strips_is_pyiqas(
    options: Mapping[str, Any], size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plain window of 11x11 pixels is the oracle; nine digits."""
    import pyiqa

    monkeypatch.setattr("adaptsr.metrics.ssim._STRIP_PIXELS", 5000)
    plain = pyiqa.create_metric("ssim", device="cpu", **{"color_space": "ycbcr", **options})
    scorer = Scorer(scoring_of("ssim", **options))
    for key in range(2):
        restored, reference = smooth_pair(key, *size)
        wanted = plain(to_float(restored)[None], to_float(reference)[None]).item()
        assert values(scorer, [(restored, reference)])["ssim"] == pytest.approx([wanted], abs=1e-9)


@pytest.mark.parametrize("size", [(64, 64), (75, 101)])
def test_dists_in_pieces_is_pyiqas(
    size: tuple[int, int], use_random_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in batches of two, where the features are shared out among the images."""
    plain = build_network(conventions(scoring_of("dists"))[0], "cpu")
    pairs = [smooth_pair(key, *size) for key in range(3)]
    with torch.inference_mode():
        wanted = [plain(to_float(a)[None], to_float(b)[None]).item() for a, b in pairs]
    singly = Scorer(scoring_of("dists"))
    assert values(singly, pairs)["dists"] == pytest.approx(wanted, abs=1e-6)
    batched = Scorer(scoring_of("dists"))
    monkeypatch.setattr(batched, "_batch_size", lambda height, width: 2)
    for _ in range(2):
        assert values(batched, pairs)["dists"] == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("size", [(150, 260), (64, 141)])
def test_dists_in_tiles_is_dists(
    size: tuple[int, int], use_random_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = smooth_pair(1, *size)
    whole = values(Scorer(scoring_of("dists")), [pair])["dists"]
    monkeypatch.setattr("adaptsr.metrics.dists._TILE", 128)
    monkeypatch.setattr("adaptsr.scoring.scorer.LARGEST_WHOLE", 0)
    assert values(Scorer(scoring_of("dists")), [pair])["dists"] == pytest.approx(whole, abs=1e-7)


def test_as_many_references_as_remembered_at_once(use_random_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scored twice, `capacity` images are computed once; the memory holds no fewer bytes than is reckoned with."""
    scorer = Scorer(scoring_of("lpips", "dists"), feature_memory=8_000_000)
    count = scorer.capacity(64, 72)
    assert count == 3
    pairs = [smooth_pair(key, 64, 72) for key in range(count)]
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
    assert Scorer(scoring_of("psnr"), feature_memory=8_000_000).capacity(64, 72) > 100
    assert Scorer(scoring_of("dists"), feature_memory=0).capacity(64, 72) == 1


def test_the_memory_for_references_is_bounded(use_random_weights: Path) -> None:
    """With room for nothing, or for one reference, the values are the same."""
    pairs = [smooth_pair(key) for key in range(3)] * 2
    wanted = values(Scorer(scoring_of("lpips")), pairs)
    for limit in (0, 100_000, 300_000):
        scorer = Scorer(scoring_of("lpips"), feature_memory=limit)
        assert values(scorer, pairs) == wanted
        assert scorer._memory._bytes <= limit


# Weights


def test_missing_weights_are_a_reason_at_once_and_in_silence(
    no_weights: Path, network_forbidden: None, capfd: pytest.CaptureFixture[str]
) -> None:
    """No network, no waiting, no output: every value of LPIPS and DISTS is missing and says which file goes where."""
    Scorer(scoring_of("psnr")).score(*([image] for image in smooth_pair(7)), ["a"])
    start = time.monotonic()
    rows = Scorer(scoring_of("psnr", "lpips", "dists")).score(*([image] for image in smooth_pair(7)), ["a"])
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
        ("niqe", "niqe_modelparameters.mat"),
        ("musiq", "musiq_koniq_ckpt-e95806b9.pth"),
        ("maniqa-pipal", "MANIQA_PIPAL-ae6d356b.pth"),
        ("clipiqa", "their model hub's cache"),
        ("pieapp", "PieAPPv0.1-0937b014.pth"),
        pytest.param("topiq_fr", "cfanet_fr_kadid_res50-2c4cc61d.pth", marks=pytest.mark.slow),
    ],
)
def test_other_learned_metrics_without_weights_are_missing_too(
    name: str, said: str, no_weights: Path, network_forbidden: None, capfd: pytest.CaptureFixture[str]
) -> None:
    """A torchvision network, pyiqa's own file, and a network of a model hub: whatever asks for a download."""
    [row] = Scorer(scoring_of(name)).score(*([image] for image in smooth_pair(8, 64, 64)), ["a"])
    assert row.value is None
    assert said in str(row.reason)
    assert "\n" not in str(row.reason)
    assert capfd.readouterr() == ("", "")
    assert socket.create_connection.__module__ == "socket"


def test_missing_weights_can_be_an_error(no_weights: Path) -> None:
    strict = scoring_of("psnr", "lpips").model_copy(update={"missing_weights": "error"})
    with pytest.raises(UserError, match=r"scoring\.metrics\.lpips: AlexNet and LPIPS weights not available"):
        Scorer(strict)


def test_weights_are_loaded_as_tensors_only(no_weights: Path, random_weights: Path) -> None:
    """A pickle that would run code when loaded is refused and leaves the metric missing."""
    (no_weights / "checkpoints").mkdir(parents=True)
    (no_weights / "pyiqa").mkdir()
    alexnet = "checkpoints/alexnet-owt-7be5be79.pth"
    (no_weights / alexnet).symlink_to(random_weights / "hub" / alexnet)
    torch.save({"lin0": os.system}, no_weights / "pyiqa" / "LPIPS_v0.1_alex-df73285e.pth")
    [row] = Scorer(scoring_of("lpips")).score(*([image] for image in smooth_pair(9)), ["a"])
    assert row.value is None
    assert str(row.reason).startswith("lpips could not be built: ")


def test_building_a_metric_leaves_the_random_state_alone(use_random_weights: Path) -> None:
    before = torch.random.get_rng_state()
    values(Scorer(scoring_of("dists")), [smooth_pair(9)])
    assert torch.equal(before, torch.random.get_rng_state())


def test_sizes_and_types_are_checked() -> None:
    restored, reference = smooth_pair(1)
    with pytest.raises(UserError, match="a: the restored image has 40x47 pixels, its reference 40x48"):
        Scorer(scoring_of("psnr")).score([restored[:, 1:]], [reference], ["a"])
    with pytest.raises(ValueError, match="uint8"):
        Scorer(scoring_of("psnr")).score([restored.float()], [reference], ["a"])
    with pytest.raises(ValueError, match="names"):
        Scorer(scoring_of("psnr")).score([restored], [reference], [])
