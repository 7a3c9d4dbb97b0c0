"""`snakemake --lint` finds nothing but the two exceptions that CONTRIBUTING.md explains."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.workflow.conftest import SNAKEMAKE

EXCEPTIONS = {
    "Specify a conda environment or container for each rule.",
    "Shell command directly uses variable PROFILE_ARGUMENTS from outside of the rule",
}


def test_the_lint_finds_only_the_exceptions_that_are_explained(repository: Path) -> None:
    done = subprocess.run(
        [str(SNAKEMAKE), "--lint"],
        cwd=repository,
        env={**os.environ, "PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
    )
    found = {line.strip(" *:") for line in (done.stdout + done.stderr).splitlines() if line.startswith("    * ")}
    assert found == EXCEPTIONS, done.stderr
    explained = (repository / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert all(f"`{exception}`" in explained for exception in EXCEPTIONS)
