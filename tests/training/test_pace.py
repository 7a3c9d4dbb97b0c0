"""A run says once a minute how far it is, and leaves it in its folder."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from adaptsr.cli import common
from adaptsr.runs.records import ValidationPoint
from adaptsr.training import pace
from adaptsr.training.checkpoints import History
from adaptsr.training.pace import Pace

HISTORY = History(validation=[ValidationPoint(iteration=0, psnr_y=26.0, seconds=0.0)])


def said_in(minutes: float, folder: Path, monkeypatch: pytest.MonkeyPatch, *, terminal: bool = False) -> list[str]:
    """What a run says that takes a tenth of a second for an iteration and began at 400."""
    now = 0.0
    monkeypatch.setattr(pace.time, "monotonic", lambda: now)
    monkeypatch.setattr(pace.sys.stderr, "isatty", lambda: terminal, raising=False)
    said: list[str] = []
    shown = Pace(folder, 10_000, 400, said.append)
    for done in range(401, 401 + int(minutes * 600)):
        now += 0.1
        shown.tick(done, HISTORY)
    return said


def test_a_line_a_minute_in_a_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = said_in(5.05, tmp_path, monkeypatch)
    assert len(said) == 5, "never silent for 5,000 iterations"
    assert said[0] == "iteration 1,000 of 10,000, 10 a second, 15 min 0 s left"


def test_a_line_a_second_on_a_terminal_that_takes_the_place_of_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = said_in(0.1, tmp_path, monkeypatch, terminal=True)
    assert len(said) in (5, 6)
    assert all(line.endswith("left\r") for line in said)


def test_a_short_run_says_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert said_in(0.15, tmp_path, monkeypatch) == []
    assert list(tmp_path.iterdir()) == []


def test_the_state_is_in_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said_in(0.4, tmp_path, monkeypatch)
    content = json.loads((tmp_path / "running.json").read_text())
    assert (content["iteration"], content["iterations"]) == (pytest.approx(600, abs=2), 10_000)
    assert content["per_second"] == pytest.approx(10)
    assert content["validation"][0]["psnr_y"] == 26.0


def test_a_full_disk_does_not_end_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(pace.Running, "write", full)
    assert len(said_in(1.05, tmp_path, monkeypatch)) == 1


def test_a_live_line_is_replaced_and_other_lines_stay(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(common.sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "20")
    for line in ("iteration 1, a long line\r", "iteration 2\r", "validation: better"):
        common.progress(line)
    assert capsys.readouterr().err == (
        "\r\x1b[2Kiteration 1, a long\r\r\x1b[2Kiteration 2\r\r\x1b[2Kvalidation: better\n"
    )
