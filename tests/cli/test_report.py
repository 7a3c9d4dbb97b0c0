"""`report` from another folder, with a method kept there."""

from __future__ import annotations

from pathlib import Path

from adaptsr.cli import main
from tests.cli.conftest import BASELINES, files


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
