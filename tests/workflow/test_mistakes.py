"""A user's mistake ends in one line that names file, key, what was found and what is allowed, before any job starts.

The workflow and the commands check a profile in one place: they say the same line.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.workflow.conftest import Workspace

Change = Callable[[dict[str, Any]], None]


def set_key(*path: str | int, value: object) -> Change:
    def change(content: dict[str, Any]) -> None:
        *parents, last = path
        target: Any = content
        for parent in parents:
            target = target[parent]
        target[last] = value

    return change


MISTAKES: dict[str, tuple[Change, list[str]]] = {
    "misspelt key": (set_key("trainning", value={}), ["config/demo.yaml", "trainning", "training"]),
    "misspelt nested key": (set_key("training", "batchsize", value=4), ["training.batchsize", "batch_size"]),
    "unknown baseline": (set_key("baselines", "loraa", value={}), ["baselines.loraa", "lora"]),
    "unknown variant": (set_key("baselines", "lora", value={"rows": ["r9"]}), ["baselines.lora", "r9", "r8"]),
    "unknown option": (
        set_key("baselines", "lora", value={"variants": {"x": {"rnk": 2}}}),
        ["baselines.lora.x", "rnk", "rank"],
    ),
    "unknown architecture": (set_key("backbones", "safmn", "architecture", value="SAFNM"), ["SAFNM", "SAFMN"]),
    "negative rank": (set_key("baselines", "lora", value={"variants": {"x": {"rank": -1}}}), ["rank", "-1"]),
    "duplicate seed": (set_key("seeds", value=[1, 2, 1]), ["seeds", "1", "twice"]),
    "negative seed": (set_key("seeds", value=[-1]), ["seeds", "-1"]),
    "unknown dataset": (
        set_key("data", "validation", "dataset", value="degradd"),
        ["data.validation.dataset", "degraded"],
    ),
    "crop off the scale": (set_key("training", "crop", value=33), ["training.crop", "33", "4"]),
    "missing weights file": (
        set_key("backbones", "safmn", "weights", value="nowhere.safetensors"),
        ["nowhere.safetensors"],
    ),
    "unknown weights": (set_key("backbones", "safmn", "weights", value="safmn-x"), ["no file 'safmn-x'", "safmn-x4"]),
    "unknown weights of an external model": (
        set_key("external", value={"theirs": {"title": "Theirs", "weights": "nowhere.pth"}}),
        ["external.theirs.weights", "nowhere.pth"],
    ),
    "unknown backbone of a row": (
        set_key("baselines", "lora", "only", value={"r1": ["safnm"]}),
        ["baselines.lora.only", "safnm", "safmn"],
    ),
    "taken dataset name": (
        set_key("datasets", "weights", value={"kind": "archive", "row": "div2k-bicubic-x4"}),
        ["datasets: 'weights' is reserved", "resources/weights/"],
    ),
    "unknown metric": (set_key("scoring", "metrics", value={"x": {"name": "psnrr"}}), ["psnrr", "psnr"]),
    "unknown published table": (set_key("report", "tables", "table2", "published", value="tabel2.csv"), ["tabel2.csv"]),
    "wrong type": (set_key("training", "lr", value="fast"), ["training.lr", "fast"]),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_one_line_before_any_job(workspace: Workspace, name: str) -> None:
    change, expected = MISTAKES[name]
    sound = workspace.profile()
    broken = workspace.profile()
    change(broken)
    workspace.write_profile(broken)
    try:
        done = workspace.snakemake("--cores", "1", "all")
        command = workspace.adaptsr("train", "--backbone", "safmn", "--variant", "full_finetuning/all")
    finally:
        workspace.write_profile(sound)
    assert done.returncode != 0
    said = [line for line in done.stdout.splitlines() if line.startswith("adaptsr: ")]
    assert len(said) == 1, done.stdout
    assert "Traceback" not in done.stdout
    for part in expected:
        assert part in said[0], said[0]
    assert command.returncode == 2
    assert command.stderr.splitlines() == said
    assert not (workspace.root / "results").exists()


def test_a_missing_profile_is_one_line(workspace: Workspace) -> None:
    done = workspace.adaptsr("train", "--profile", "config/nowhere.yaml", "--backbone", "safmn", "--variant", "lora/r1")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "config/nowhere.yaml" in done.stderr
