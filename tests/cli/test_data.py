"""`adaptsr data` from another folder."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from adaptsr.cli import main
from tests.cli.conftest import files


def test_prepare_writes_into_the_project(project: Path, elsewhere: Path) -> None:
    before = files(project)
    shutil.rmtree(project / "resources/degraded")
    assert main(["data", "prepare", "degraded"]) == 0
    assert files(project) == before
    assert files(elsewhere) == set()


@pytest.mark.parametrize(
    "command", ["data prepare degraded", "train --backbone safmn --variant lora/r1 --out runs.json"]
)
def test_images_below_the_crop_are_named_before_training(
    project: Path, elsewhere: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    path = project / "config/demo.yaml"
    path.write_text(path.read_text().replace("crop: 32", "crop: 128"))
    assert main(command.split()) == 2
    said = r"training\.crop: 128 is larger than \d+ of \d+ HR images of dataset 'degraded', split train: 'astronaut"
    assert re.search(said, capsys.readouterr().err)
