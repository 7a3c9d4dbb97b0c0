"""Each command of a tutorial works as it is written, in the order of the page, and leaves the files that the page names."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from adaptsr.data.images import write_png
from tests.camera.scenes import Change, pair
from tests.factories import copy_project, tiny_profile
from tests.workflow.conftest import Workspace

pytestmark = pytest.mark.slow

BLOCK = re.compile(r"^```(shell|python|yaml)\n(.*?)^```", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# (\S+)\n")
"""The first line of a block that is a file."""
NAMED = re.compile(r"`((?:results|reports|RESTORED|MODEL)/[^`\s]*)`")
SLURM = "profiles/slurm"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """What the readers have: a small demo, pairs of a camera a little out of place, a model and a photograph."""
    made = Workspace(tmp_path_factory.mktemp("tutorials"))
    copy_project(made.root)
    content = tiny_profile() | {"paper": None}  # `adaptsr audit` is a command of its own, of half a minute
    comparison = {"title": "Against full fine-tuning", "rows": ["*/*"], "compared_with": "full_finetuning/all"}
    content["report"]["comparisons"] = [comparison]
    made.write_profile(content)
    for number in range(6):
        lr, hr = pair(number, Change(right=3 + number), (48, 64))
        write_png(made.root / f"PAIRS/lr/{number}_LR4.png", lr)
        write_png(made.root / f"PAIRS/hr/{number}_HR.png", hr)
    write_png(made.root / "PHOTOS/harbour.png", lr)
    shutil.copy(made.root / "resources/demo/safmn.safetensors", made.root / "MODEL.pth")
    return made


@pytest.mark.parametrize("name", ["reproduce", "method", "camera"])
def test_every_command_works_as_it_is_written(project: Workspace, repository: Path, name: str) -> None:
    page = (repository / f"docs/tutorials/{name}.md").read_text(encoding="utf-8")
    left_out = ""
    for language, text in BLOCK.findall(page):
        if file := FILE.match(text):
            (project.root / file[1]).write_text(text, encoding="utf-8")
        elif SLURM in text and importlib.util.find_spec("snakemake_executor_plugin_slurm") is None:
            left_out = text
        else:
            assert language == "shell", text
            command = ["bash", "-euo", "pipefail", "-c", text]
            done = subprocess.run(
                command, cwd=project.root, env=project.environment, capture_output=True, text=True, timeout=600
            )
            assert done.returncode == 0, f"{text}{done.stdout[-3000:]}{done.stderr[-3000:]}"
    missing = [path for path in NAMED.findall(page) if not (project.root / path).exists()]
    assert missing == []
    if left_out:
        pytest.skip(f"the extra slurm is not installed, so this was not run (the rest was):\n{left_out}")
