"""Fixtures of the reporting tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.reporting.made_up_benchmark import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def two_worlds(tmp_path: Path) -> Callable[[], tuple[World, World]]:
    """The same benchmark in two places."""
    return lambda: (World(tmp_path / "a").write(), World(tmp_path / "b").write())
