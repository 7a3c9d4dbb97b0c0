"""Papers are found by their folder, from wherever a command is started."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from adaptsr.errors import UserError
from adaptsr.papers import load_paper, published_tables


def test_a_paper_loads_whole_where_the_checkout_is_not_on_the_path(tmp_path: Path) -> None:
    """As in an installed command: every module of the paper, not only its first file."""
    program = """
import importlib, pkgutil, sys
sys.path = [entry for entry in sys.path if entry]
from adaptsr.papers import load_paper
paper = load_paper("adaptsr")
for module in pkgutil.walk_packages(paper.__path__, "papers.adaptsr."):
    importlib.import_module(module.name)
print(paper.TITLE)
"""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "AdaptSR\n"


def test_a_paper_is_loaded_once_and_an_unknown_one_is_one_line() -> None:
    assert load_paper("adaptsr") is load_paper("adaptsr")
    assert "table2.csv" in published_tables("adaptsr")
    with pytest.raises(UserError, match=r"no folder papers/adaptr \(did you mean 'adaptsr'\?\)"):
        load_paper("adaptr")
