"""`restore` and `cost` from another folder, with a run of a method kept there and with a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from adaptsr.cli import main
from tests.cli.conftest import BASELINES, RUN


def test_restore(author: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    """What can be restored is, also beside a file that cannot; the rest is one line and exit status 2."""
    _, folder = author
    Image.new("L", (20, 14), 90).save(folder / "photo.png")
    (folder / "notes.txt").write_text("none")
    words = ["restore", RUN, "photo.png", "notes.txt", "-o", "out", "--device", "cpu", *BASELINES]
    assert main([*words, "--compare"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[-1].startswith("adaptsr: not restored: ")
    assert "notes.txt: not a photograph" in said[-1]
    with Image.open(folder / "out/photo.png") as image:
        assert (image.mode, image.size) == ("L", (80, 56))
    assert (folder / "out/compare.html").is_file()
    assert main(["merge", RUN, "-o", "model.safetensors", *BASELINES]) == 0
    assert main(["restore", "model.safetensors", "photo.png", "-o", "other", "--device", "cpu"]) == 0
    with Image.open(folder / "out/photo.png") as one, Image.open(folder / "other/photo.png") as other:
        assert one.tobytes() == other.tobytes()


def test_cost(author: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    """A run costs what its merged model costs, which is what the backbone costs."""
    assert main(["merge", RUN, "-o", "merged.safetensors", *BASELINES]) == 0
    found = []
    for model in (RUN, "merged.safetensors"):
        assert main(["cost", model, "--size", "20x12", "--runs", "2", "--device", "cpu", "--json", *BASELINES]) == 0
        found.append(json.loads(capsys.readouterr().out))
    same = ("parameters", "flops", "activations", "memory_bytes", "width", "height", "scale")
    assert [found[0][key] for key in same] == [found[1][key] for key in same]
    assert (found[0]["width"], found[0]["height"], found[0]["runs"]) == (20, 12, 2)
    assert found[0]["seconds"] > 0
    assert "thread" in found[0]["device"]
    for wrong in (["--size", "20"], ["--runs", "1"]):
        assert main(["cost", "merged.safetensors", *wrong]) == 2
        assert "expected a size such as 256x256 and at least 2 runs" in capsys.readouterr().err
