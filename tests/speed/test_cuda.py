"""The benchmark that needs a GPU is rehearsed without one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from speed import cuda
from tests.training.test_regions import compiles


def figures(out: Path, *words: str) -> dict[str, dict[str, object]]:
    cuda.main(["--tiny", "--device", "cpu", "--out", str(out), *words])
    return {figure["what"]: figure for figure in map(json.loads, (out / "figures.jsonl").read_text().splitlines())}


@pytest.mark.slow
def test_every_part_runs_and_what_a_cpu_cannot_do_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not compiles():
        pytest.skip("torch.compile does not work on this machine")
    found = figures(tmp_path, "--minutes", "15", "--kills", "2", "--parts", "check", "edsr", "data", "kills", "quality")
    for what in ("float64, compile none", "float32, compile none", "float32, compile regions"):
        figure = found[f"edsr, gradients, {what}: largest difference from float64"]
        assert figure["value"] is not None, figure["note"]
        assert float(str(figure["value"])) < float(str(figure["goal"]))
    assert float(str(found["edsr, ours, bfloat16, regions: step"]["value"])) > 0
    graphs = found["edsr, ours, bfloat16, graphs: step"]
    assert graphs["value"] is None
    assert "graphs needs a CUDA device" in str(graphs["note"])
    assert found["safmn, compile none: tensors that differ after 2 kills"]["value"] == 0
    assert "needs --pairs" in str(found["quality of bfloat16 on real pairs"]["note"])
    assert "a batch of 8, HR 64, pairs" in capsys.readouterr().out.splitlines()[-4]


def test_a_part_that_fails_or_finds_no_time_is_a_line_with_its_reason(tmp_path: Path) -> None:
    found = figures(tmp_path, "--minutes", "0.01", "--parts", "safmn")
    assert found == {
        "safmn": {"part": "safmn", "what": "safmn", "value": None, "unit": "", "goal": None, "note": "not measured: no time was left"}
    }  # fmt: skip
