"""`train` from another folder, with a method kept there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adaptsr.cli import main
from tests.cli.conftest import BASELINES, RUN, files


def test_a_run_lies_in_the_project_and_the_list_in_the_working_folder(author: tuple[Path, Path]) -> None:
    project, folder = author
    assert (project / RUN / "record.json").is_file()
    assert json.loads((folder / "runs.json").read_text())["row"] == "gains/all"
    written = {name for name in files(folder) if "__pycache__" not in name}
    assert written == {"methods/gains.py", "runs.json", "scored.json"}


def test_a_run_is_found_again_from_the_root(author: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    project, folder = author
    before = (project / RUN / "record.json").stat().st_mtime_ns
    monkeypatch.chdir(project)
    words = ["train", "--backbone", "safmn", "--variant", "gains/all", "--baselines", str(folder / "methods")]
    assert main(words) == 0
    assert (project / RUN / "record.json").stat().st_mtime_ns == before


def test_a_method_that_is_not_given_is_one_line(author: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "--backbone", "safmn", "--variant", "gains/all"]
    assert main(words) == 2
    assert capsys.readouterr().err.startswith("adaptsr: config/demo.yaml: no baseline 'gains'")
    assert main([*words, *BASELINES]) == 0
