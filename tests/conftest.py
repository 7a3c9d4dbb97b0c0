"""Fixtures shared by all tests."""

from __future__ import annotations

import os
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


@pytest.fixture(autouse=True)
def denormal_numbers() -> None:
    """Training flushes them for the rest of its process, in which hypothesis then finds no floats to draw."""
    if torch := sys.modules.get("torch"):
        torch.set_flush_denormal(False)
