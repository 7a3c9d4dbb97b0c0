"""How many jobs the workflow lets onto the GPUs of a machine, with GPUs that are only names."""

from __future__ import annotations

import subprocess

import pytest

from tests.workflow.conftest import SNAKEMAKE, Workspace

# Read by python at its start: any file passes for that of a GPU, and CUDA_VISIBLE_DEVICES then names them.
PRETENCE = "import adaptsr.devices\nadaptsr.devices.DEVICE_FILES = ('null',)\n"

NO_WORK = """
include: "workflow/rules/common.smk"
rule nothing:
    shell: "true"
"""


def provided(workspace: Workspace, device: str, visible: str, *words: str) -> str:
    """What Snakemake says that it was given, with the project's settings and a job that does nothing."""
    content = workspace.profile()
    content["compute"].update(device=device, jobs_per_gpu=3)
    workspace.write_profile(content)
    (workspace.root / "sitecustomize.py").write_text(PRETENCE)
    (workspace.root / "nothing.smk").write_text(NO_WORK)
    done = subprocess.run(
        [str(SNAKEMAKE), "--snakefile", "nothing.smk", "--cores", "1", *words],
        cwd=workspace.root,
        env={**workspace.environment, "CUDA_VISIBLE_DEVICES": visible},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout
    return next((line for line in done.stdout.splitlines() if line.startswith("Provided resources:")), "")


@pytest.mark.slow
def test_as_many_jobs_as_there_are_slots_unless_told_otherwise(workspace: Workspace) -> None:
    """Two GPUs of three jobs each; `--resources` goes first; neither a CPU profile nor a machine without GPUs is limited."""
    assert 'gpu=Resource("gpu", 6)' in provided(workspace, "auto", "0,1")
    assert 'gpu=Resource("gpu", 2)' in provided(workspace, "auto", "0,1", "--resources", "gpu=2")
    assert "gpu" not in provided(workspace, "auto", "")
    assert "gpu" not in provided(workspace, "cpu", "0,1")
