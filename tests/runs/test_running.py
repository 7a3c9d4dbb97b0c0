"""What is said of runs in progress."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from adaptsr.runs.records import ValidationPoint
from adaptsr.runs.run import Run
from adaptsr.runs.running import ALIVE_SECONDS, Running, duration, overview
from tests.factories import matrix_of, profile_content, run_record

STATE = Running(
    iteration=3000,
    iterations=100_000,
    per_second=6.44,
    validation=[ValidationPoint(iteration=0, psnr_y=26.0, seconds=0.0)],
)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (15062, "4 h 11 min"), (200_000, "2 d 7 h")],
)
def test_durations_are_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_line_for_each_run_in_progress_and_one_for_the_matrix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is finished, silent for long or torn is not in progress."""
    monkeypatch.chdir(tmp_path)
    demo = matrix_of(profile_content())
    training, silent, torn, finished = (Run("safmn", "lora/r1", seed) for seed in (1, 2, 3, 4))
    for run in (training, silent, torn):
        STATE.write(run.folder(demo.results) / "checkpoints")
    os.utime(silent.folder(demo.results) / "checkpoints/running.json", (0, time.time() - ALIVE_SECONDS - 1))
    (torn.folder(demo.results) / "checkpoints/running.json").write_text('{"iteration": 3')
    run_record().write(finished.record_path(demo.results))
    assert overview(demo) == [
        "safmn lora/r1 seed 1: iteration 3,000 of 100,000, 6.44 a second, 4 h 11 min left",
        f"demo: 1 of {sum(run.trained for run in demo.runs)} runs finished, 1 in progress",
    ]
