"""`merge` from another folder, of a run of a method kept there."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from adaptsr.cli import main
from adaptsr.runs.records import read_record
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


def test_export_is_what_others_need(author: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    import spandrel

    project, folder = author
    assert main(["export", RUN, "-o", "out", "--name", "../quay", *BASELINES]) == 2
    assert "without folders" in capsys.readouterr().err
    assert main(["export", RUN, "-o", "out", "--name", "quay", *BASELINES]) == 0
    names = [line.rsplit("/", 1)[-1] for line in capsys.readouterr().out.splitlines()]
    assert names == ["4x_quay.safetensors", "4x_quay.pth", "README.md", "openmodeldb.json", "record.json"]
    for suffix in (".safetensors", ".pth"):
        assert spandrel.ModelLoader().load_from_file(folder / f"out/4x_quay{suffix}").scale == 4
    entry = json.loads((folder / "out/openmodeldb.json").read_text())
    weights = (folder / "out/4x_quay.pth").read_bytes()
    assert entry["resources"][0]["sha256"] == hashlib.sha256(weights).hexdigest()
    assert (entry["name"], entry["architecture"], entry["scale"], entry["license"]) == ("quay", "safmn", 4, None)
    record = read_record(project / RUN / "record.json")
    assert read_record(folder / "out/record.json") == record
    card = (folder / "out/README.md").read_text()
    assert f"{record.start_psnr_y:.2f} dB before" in card
    assert "--variant gains/all --seeds 1" in card
