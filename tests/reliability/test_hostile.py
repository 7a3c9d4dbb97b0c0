"""Run folders and command lines that mean harm: nothing is executed or written elsewhere, and one line says what was refused.

Checkpoints, images, profiles and score files have suites of their own: tests/backbones, data, config and scoring.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adaptsr.runs.loading import merge_run
from tests.factories import Touch, refusal
from tests.reliability.conftest import SCORE_RUNS, Place, train_words

pytestmark = pytest.mark.slow

Change = Callable[[Path], object]


@pytest.fixture(scope="module")
def finished(prepared: Place, tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = prepared.copy("place", tmp_path_factory.mktemp("finished"))
    place.succeed(*train_words("lora/r1", 1))
    return place


def in_record(**values: object) -> Change:
    def change(run: Path) -> None:
        content = json.loads((run / "record.json").read_text())
        for key, value in values.items():
            target: Any = content
            *parents, last = key.split("__")
            for parent in parents:
                target = target[parent]
            target[last] = value
        (run / "record.json").write_text(json.dumps(content))

    return change


def in_plan(text: str) -> Change:
    """A plan that the record vouches for."""

    def change(run: Path) -> None:
        (run / "plan.json").write_text(text)
        in_record(plan_sha256=None)(run)

    return change


def record_is_a_folder(run: Path) -> None:
    (run / "record.json").unlink()
    (run / "record.json").mkdir()


RUNS: dict[str, Change] = {
    "a baseline beside the run": in_record(baseline="../../../../evil"),
    "a baseline by its path": lambda run: in_record(baseline=str(run.parents[5] / "evil"))(run),
    "a variant that leads elsewhere": in_record(variant="../../x"),
    "no backbone": in_record(config={}),
    "an architecture that is a module": in_record(config__backbone__architecture="__arch_helpers"),
    "an architecture that is a path": in_record(config__backbone__architecture="...os"),
    "options that do not fit": in_record(config__backbone__options={"dim": "x", "n_blocks": 2}),
    "weights that are a device": in_record(config__backbone__weights="/dev/zero"),
    "markup for numbers": in_record(seed="<script>"),
    "a plan that is a list": in_plan("[1, 2]"),
    "a plan nested deeply": in_plan("[" * 100_000),
    "a plan for other layers": in_plan('{"ranks": {"__class__": 1}, "sites": ["__class__.__init__"]}'),
    "no plan": lambda run: (run / "plan.json").unlink(),
    "a record that is a folder": record_is_a_folder,
    "a record of bytes": lambda run: (run / "record.json").write_bytes(b"\xff\xfe\x00"),
    "a record nested deeply": lambda run: (run / "record.json").write_text('{"a":' * 50_000),
}


@pytest.mark.parametrize("case", RUNS)
def test_runs_that_a_colleague_hands_over(
    finished: Place, tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = finished.copy("place", tmp_path)
    monkeypatch.chdir(place.root)
    run = place.run_folder("lora/r1", 1)
    (place.root / "evil.py").write_text("open('executed', 'w')\ndef attach(model, plan): pass\n")
    RUNS[case](run)
    refusal(lambda: merge_run(run.relative_to(place.root)))
    assert not list(place.root.rglob("executed"))


COMMANDS: list[list[str]] = [
    ["train", "--backbone", "safmn", "--variant", "lora/../../evil"],
    ["train", "--backbone", "../evil", "--variant", "lora/r1"],
    ["train", "--profile", "/dev/zero", "--backbone", "safmn", "--variant", "lora/r1"],
    ["train", "--profile", "two\nlines", "--backbone", "safmn", "--variant", "lora/r1"],
    ["data", "prepare", "../evil"],
    ["report", "../evil"],
    [SCORE_RUNS[0], "--backbone", "../evil", "--out", "x.parquet"],
    ["sites", "--backbone", "evil.pth"],
    ["merge", "\x1b[2J", "-o", "x.safetensors"],
]


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: ascii(" ".join(words)))
def test_commands(finished: Place, tmp_path: Path, words: list[str]) -> None:
    place = finished.copy("place", tmp_path)
    (place.root / "evil.pth").write_bytes(pickle.dumps(Touch(place.root / "executed")))
    before = place.files()
    done = place.run(*words)
    assert done.status == 2, done.said
    assert done.lines == [done.mistake]
    assert done.mistake.isprintable()
    assert place.files() == before
