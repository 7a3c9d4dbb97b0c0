"""`estimate` from another folder, with a method kept there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adaptsr.cli import main
from tests.cli.conftest import BASELINES


def test_a_method_outside_counts(author: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    words = ["estimate", "--profile", "config/demo.yaml", "--json"]
    for more, runs in (([], 0), (BASELINES, 1)):
        assert main([*words, *more]) == 0
        backbone = json.loads(capsys.readouterr().out)["backbones"][0]
        assert (backbone["runs"], backbone["finished"]) == (runs, runs)
