"""The long version, outside `make test`: `make soak`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.reliability.soak import main


@pytest.mark.soak
def test_the_demo_matrix_under_a_hundred_faults_is_the_one_left_alone(tmp_path: Path) -> None:
    """Jobs, Snakemake alone and both killed, checkpoints cut: every weight, record and score is the same to the byte."""
    assert main(["--faults", "100", "--folder", str(tmp_path / "soak")]) == 0
