"""A short run of the coverage-guided fuzzing; `python -m tests.reliability.fuzz` looks longer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

RUNS = {"profile": 500, "record": 3000, "manifest": 3000}
WITHOUT_CHECK = """
import json, sys
from tests.reliability import fuzz
fuzz.READERS = {"record": lambda path: json.loads(path.read_bytes())}
fuzz.main(["fuzz", "record", *sys.argv[1:]])
"""


def fuzz(repository: Path, crashes: Path, *words: str) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("atheris", reason="atheris has wheels for Linux on x86-64 alone")
    options = ["-seed=1", "-print_final_stats=0", f"-artifact_prefix={crashes}/"]
    return subprocess.run(
        [sys.executable, *words, *options], cwd=repository, capture_output=True, text=True, timeout=600, check=False
    )


@pytest.mark.parametrize("reader", RUNS)
def test_nothing_but_one_line_escapes(repository: Path, tmp_path: Path, reader: str) -> None:
    done = fuzz(repository, tmp_path, "-m", "tests.reliability.fuzz", reader, f"-runs={RUNS[reader]}")
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"Done {RUNS[reader]} runs" in done.stderr
    assert not list(tmp_path.iterdir())


def test_what_escapes_ends_it_and_is_kept(repository: Path, tmp_path: Path) -> None:
    done = fuzz(repository, tmp_path, "-c", WITHOUT_CHECK, "-runs=3000")
    assert done.returncode != 0
    assert "JSONDecodeError" in done.stdout + done.stderr
    assert [path.name.partition("-")[0] for path in tmp_path.iterdir()] == ["crash"]
