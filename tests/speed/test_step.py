"""The benchmark of one training step keeps working."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from speed import step


@pytest.mark.slow
def test_every_candidate_is_timed_and_its_memory_measured(tmp_path: Path) -> None:
    path = tmp_path / "step.json"
    step.main(["--tiny", "--json", str(path)])
    figures = {figure["what"]: figure for figure in json.loads(path.read_text())["figures"]}
    for name in step.MODELS:
        for other in (step.FULL, step.PEFT):
            assert figures[f"{name}: ours / {other}"]["value"] > 0
            assert figures[f"{name}: memory, ours / {other}"]["value"] > 0
    assert figures["SwinIR-M: ours / full fine-tuning"]["goal"] == 0.75


def test_every_candidate_trains_what_it_says() -> None:
    """Ours and PEFT's differ in the form of a convolution's factors and in biases, full fine-tuning trains everything."""
    from adaptsr.adaptation.reparametrization import parameter_count, trainable_count

    counts = {
        kind: trainable_count(step.candidate(kind, step.backbone("EDSR", 16, tiny=True)))
        for kind in (step.FULL, step.PEFT, step.PLAIN, step.OURS)
    }
    assert counts[step.FULL] == parameter_count(step.backbone("EDSR", 16, tiny=True))
    assert counts[step.OURS] == counts[step.PLAIN] < counts[step.FULL]
    assert 0 < counts[step.PEFT] < counts[step.FULL]
