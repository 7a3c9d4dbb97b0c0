"""`report` from another folder, with a method kept there."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from adaptsr.cli import main
from adaptsr.runs.records import ValidationPoint
from adaptsr.runs.running import Running
from tests.cli.conftest import BASELINES, RUN, files


def test_a_table(author: tuple[Path, Path]) -> None:
    project, folder = author
    before = files(folder)
    assert main(["report", "table2", *BASELINES]) == 0
    assert "Gains" in (project / "reports/demo/table2.md").read_text()
    assert files(folder) == before


def test_the_page_shows_the_command_that_makes_it(author: tuple[Path, Path]) -> None:
    project, folder = author
    assert main(["report", *BASELINES]) == 0
    page = (project / "reports/demo/index.html").read_text()
    assert f"adaptsr report --profile config/demo.yaml --baselines {folder / 'methods'}" in page


def test_watching_shows_runs_in_progress_and_their_curves(
    author: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    project, _ = author
    run = project / RUN
    validation = [ValidationPoint(iteration=iteration, psnr_y=20 + iteration, seconds=1.0) for iteration in (0, 2)]
    Running(iteration=2, iterations=4, per_second=0.5, validation=validation).write(run / "checkpoints")
    (run / "record.json").unlink()
    assert main(["watch", "--once", *BASELINES]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "safmn gains/all seed 1: iteration 2 of 4, 0.50 a second, 4 s left",
        "demo: 0 of 1 runs finished, 1 in progress",
        "The report so far: reports/demo/index.html",
    ]
    assert "Runs in progress are drawn as far as they are." in (project / "reports/demo/index.html").read_text()
    assert "starts at 20.00 dB" in (project / "reports/demo/index.html").read_text()


def test_watching_ends_when_all_is_finished(author: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watch", *BASELINES]) == 0
    assert "demo: 1 of 1 runs finished, 0 in progress" in capsys.readouterr().out


def test_watching_before_anything_is_there(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watch", "--once"]) == 0
    assert "demo: 0 of 8 runs finished, 0 in progress" in capsys.readouterr().out


def test_a_folder_that_holds_no_results_is_refused(
    author: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    root, _ = author
    (root / "other/photographs").mkdir(parents=True)
    (root / "other/photographs/a.png").write_bytes(b"")
    assert main(["report", "--results", str(root / "other/photographs")]) == 2
    assert "neither a pack nor a folder of results" in capsys.readouterr().err


def test_a_report_of_others_replaces_none_of_ones_own(
    author: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    root, _ = author
    shutil.copytree(root / "results/demo", root / "other/demo")
    assert main(["report", "--results", str(root / "other/demo")]) == 2
    assert (
        "its report would replace reports/demo, that of results/demo; give it another name" in capsys.readouterr().err
    )
