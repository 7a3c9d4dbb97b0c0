"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from adaptsr.project import VARIABLE

os.environ.pop(VARIABLE, None)  # a command that a test starts must not write to the folder that it names

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def assets() -> Path:
    """The folder of real weights and camera pairs, or a skip that says how to give one."""
    folder = os.environ.get("ADAPTSR_TEST_ASSETS")
    if not folder:
        pytest.skip("ADAPTSR_TEST_ASSETS is not set: it names a folder of real weights and camera pairs")
    return Path(folder)


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture
def no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of network weights."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch" / "hub"


@pytest.fixture(scope="session")
def random_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of made-up AlexNet, VGG, LPIPS and DISTS weights under the names that pyiqa and torchvision expect."""
    import torch
    import torchvision

    from adaptsr.randomness import generator
    from speed.scoring import random_network, write_random_weights

    home = tmp_path_factory.mktemp("torch")
    write_random_weights(home)
    draw = generator("network weights")
    channels = (64, 128, 256, 512, 512)
    linear = {f"lin{i}.model.1.weight": torch.rand(1, c, 1, 1, generator=draw) for i, c in enumerate(channels)}
    torch.save(linear, home / "hub/pyiqa/LPIPS_v0.1_vgg-a78928a0.pth")
    torch.save(random_network(torchvision.models.vgg19, draw), home / "hub/checkpoints/vgg19-dcbb9e9d.pth")
    return home


@pytest.fixture
def use_random_weights(random_weights: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(random_weights))
    return random_weights


@pytest.fixture(scope="session")
def real_weights(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy, which may be written to, of the published AlexNet, VGG16, SqueezeNet, LPIPS, DISTS and NIQE weights."""
    return Path(shutil.copytree(assets / "metrics/torch_home", tmp_path_factory.mktemp("real") / "torch"))


@pytest.fixture
def use_real_weights(real_weights: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(real_weights))
    return real_weights


@pytest.fixture(autouse=True)
def denormal_numbers() -> None:
    """Training flushes them for the rest of its process, in which hypothesis then finds no floats to draw."""
    if torch := sys.modules.get("torch"):
        torch.set_flush_denormal(False)
