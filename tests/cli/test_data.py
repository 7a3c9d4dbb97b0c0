"""`adaptsr data` from another folder."""

from __future__ import annotations

import shutil
from pathlib import Path

from adaptsr.cli import main
from tests.cli.conftest import files


def test_prepare_writes_into_the_project(project: Path, elsewhere: Path) -> None:
    before = files(project)
    shutil.rmtree(project / "resources/degraded")
    assert main(["data", "prepare", "degraded"]) == 0
    assert files(project) == before
    assert files(elsewhere) == set()
