"""`merge` from another folder, of a run of a method kept there."""

from __future__ import annotations

import errno
import hashlib
import json
import os
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
    assert "Not reported yet" in card
    assert "- images, degraded: " in card
    assert "- weights it started from, safmn.safetensors: licence: not stated" in card
    report = project / "reports/demo/significance.csv"
    report.parent.mkdir(parents=True)
    columns = "row,backbone,dataset,metric,row_mean,compared_with,compared_mean,difference,low_scenes,high_scenes"
    report.write_text(
        f"{columns},low_seeds,high_seeds,images,seeds\n"
        "gains/all,safmn,quays,psnr_y,27.25,unadapted,26.5,0.75,0.5,1,0.6,0.9,8,2\n"
        "gains/all,edsr,quays,psnr_y,1,unadapted,1,0,0,0,0,0,8,2\n"
    )
    assert main(["export", RUN, "-o", "out", "--name", "quay", *BASELINES]) == 0
    card = (folder / "out/README.md").read_text()
    assert "| quays | psnr_y | 27.25 | unadapted: 26.5 | 0.75 | 0.5 to 1, for other seeds and scenes | 8, 2 |" in card
    assert card.count("| quays |") == 1


def test_a_readme_that_is_not_of_a_model_is_not_overwritten(
    author: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    _, folder = author
    (folder / "mine").mkdir()
    (folder / "mine/README.md").write_text("mine")
    assert main(["export", RUN, "-o", "mine", *BASELINES]) == 2
    assert (
        "README.md: is not of an exported model and would be overwritten; name another folder"
        in capsys.readouterr().err
    )
    assert [path.name for path in (folder / "mine").iterdir()] == ["README.md"]
    assert (folder / "mine/README.md").read_text() == "mine"


def test_export_as_onnx(author: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    _, folder = author
    assert main(["export", RUN, "-o", "out", "--name", "quay", "--onnx", *BASELINES]) == 0
    said = capsys.readouterr()
    assert "onnxruntime differs from torch by at most 0.0" in said.err
    assert "at 64x64, 128x128, 256x256" in said.err
    for side in (64, 128, 256):
        session = runtime.InferenceSession(folder / f"out/4x_quay_{side}x{side}.onnx")
        assert session.get_outputs()[0].shape == [1, 3, 4 * side, 4 * side]
    assert "`4x_quay_64x64.onnx` `4x_quay_128x128.onnx`" in (folder / "out/README.md").read_text()


def test_export_onto_a_full_disk_is_one_line_and_works_once_there_is_room(
    author: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, folder = author

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    words = ["export", RUN, "-o", "out", *BASELINES]
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        assert main(words) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[-1].endswith("No space left on device; make room and run the same command again")
    assert list((folder / "out").iterdir()) == []
    assert main(words) == 0
