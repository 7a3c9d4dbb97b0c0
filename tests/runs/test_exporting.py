"""What is handed on loads elsewhere: EDSR, which spandrel lacks, as an architecture that it has."""

from __future__ import annotations

from pathlib import Path

import spandrel
import torch

from adaptsr.backbones.build import build_from_file
from adaptsr.backbones.inference import enlarge
from adaptsr.runs.exporting import _other_forms


def test_an_edsr_is_written_as_an_architecture_that_spandrel_loads(repository: Path, tmp_path: Path) -> None:
    model = build_from_file(repository / "resources/demo/edsr.safetensors")
    [path], notes = _other_forms(model, tmp_path, "4x_mine")
    assert "spandrel has no EDSR" in notes["`4x_mine.safetensors` `4x_mine.pth`"]
    assert "the same model as RCAN" in notes["`4x_mine_spandrel.safetensors`"]
    loaded = spandrel.ModelLoader().load_from_file(path)
    image = torch.rand(1, 3, 30, 44)
    torch.testing.assert_close(loaded(image.clone()).clamp(0, 1), enlarge(model, image), rtol=0, atol=1e-5)


def test_what_spandrel_loads_has_no_other_form(repository: Path, tmp_path: Path) -> None:
    paths, notes = _other_forms(build_from_file(repository / "resources/demo/safmn.safetensors"), tmp_path, "4x_mine")
    assert paths == []
    assert list(notes) == ["`4x_mine.safetensors` `4x_mine.pth`"]
