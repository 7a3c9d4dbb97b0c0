"""`merge` from another folder, of a run of a method kept there."""

from __future__ import annotations

from pathlib import Path

import pytest

from adaptsr.cli import main
from tests.cli.conftest import BASELINES, RUN


def test_merge_looks_for_the_method_where_it_is_told(
    author: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    _, folder = author
    assert main(["merge", RUN, "-o", "mine.safetensors"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "no file of baseline 'gains'" in said
    assert "--baselines DIR" in said
    assert main(["merge", RUN, "-o", "mine.safetensors", *BASELINES]) == 0
    assert (folder / "mine.safetensors").is_file()


def test_a_run_is_found_in_the_working_folder_first(author: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    project, folder = author
    monkeypatch.chdir(project / RUN)
    words = ["merge", ".", "-o", str(folder / "mine.pth"), "--baselines", str(folder / "methods")]
    assert main(words) == 0
    assert (folder / "mine.pth").is_file()
