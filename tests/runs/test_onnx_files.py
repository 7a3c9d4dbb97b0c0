"""ONNX files restore as torch does, at sizes that they were not traced at, or say the size that they are for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from adaptsr.backbones.gate import facts, gate
from adaptsr.backbones.inference import enlarge
from adaptsr.backbones.sizes import Sizes
from adaptsr.runs import onnx_files
from adaptsr.runs.onnx_files import write_onnx
from tests.backbones.helpers import tiny
from tests.factories import refusal

needs_onnx = pytest.mark.skipif(not onnx_files.is_installed(), reason="needs the extra onnx")


def restored(path: Path, image: torch.Tensor) -> Any:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return np.clip(session.run(None, {"lr": image.numpy()})[0], 0, 1)


@needs_onnx
@pytest.mark.parametrize("name", ["edsr", "swinir", "drct"])
def test_one_file_for_images_of_any_size(tmp_path: Path, name: str) -> None:
    written = write_onnx(tiny(name), tmp_path, "4x_mine")
    assert [path.name for path in written.paths] == ["4x_mine.onnx"]
    assert "for images of any size" in written.text
    assert len(written.sizes) == 3
    image = torch.rand(1, 3, *facts(tiny(name)).sizes.fitted(40, 56))
    assert np.abs(restored(written.paths[0], image) - enlarge(tiny(name), image).numpy()).max() < 1e-4


@needs_onnx
def test_adaptive_pooling_needs_a_file_for_each_size(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_files, "FIXED", (32, 64))
    written = write_onnx(tiny("safmn"), tmp_path, "4x_mine")
    assert [path.name for path in written.paths] == ["4x_mine_32x32.onnx", "4x_mine_64x64.onnx"]
    assert "each for images of the size in its name alone" in written.text
    assert capfd.readouterr().out == ""
    image = torch.rand(1, 3, 64, 64)
    assert np.abs(restored(written.paths[1], image) - enlarge(tiny("safmn"), image).numpy()).max() < 1e-4


class Cut(nn.Module):
    """Restores through an operator that ONNX lacks."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.special.i0e(x * self.gain)


@needs_onnx
def test_what_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    model = gate(Cut(), "cut", Sizes(), 1)
    assert "cannot be written as ONNX" in refusal(lambda: write_onnx(model, tmp_path, "1x_cut"))
    assert list(tmp_path.iterdir()) == []


def test_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_files, "is_installed", lambda: False)
    assert "install them with `make extras`" in refusal(lambda: write_onnx(tiny("edsr"), tmp_path, "4x_mine"))
