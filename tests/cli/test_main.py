"""The parser as a whole: what `--help` costs and shows, former names, and how an error ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from adaptsr.cli import main
from adaptsr.errors import UserError
from adaptsr.project import VARIABLE
from tests.cli.conftest import files

HELP = """
import sys
from adaptsr.cli import main
try:
    main(["--help"])
finally:
    assert "torch" not in sys.modules, "torch was imported"
"""


def test_help_imports_no_torch_and_shows_present_names_alone() -> None:
    done = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    shown = {line.split()[0] for line in done.stdout.splitlines() if line.startswith("    ")}
    assert {"train", "score-runs", "estimate", "merge", "check-baseline"} <= shown
    assert not {"plan", "evaluate"} & shown


def test_a_former_command_works_and_says_its_new_name(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--profile", "config/demo.yaml", "--json"]
    assert main(["plan", *words]) == 0
    former = capsys.readouterr()
    assert former.err.splitlines() == ["adaptsr: 'plan' is deprecated, use 'adaptsr estimate'"]
    assert main(["estimate", *words]) == 0
    present = capsys.readouterr()
    assert present.err == ""
    assert present.out == former.out


def test_a_former_flag_is_read_as_its_new_name(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["evaluate", "--backbone", "safmn", "--outputs", "--out", "x.parquet"])
    said = capsys.readouterr().err
    assert said.startswith("adaptsr: 'evaluate' is deprecated, use 'adaptsr score-runs'\n")
    assert "argument --external: not allowed with argument --backbone" in said


MISTAKES: list[tuple[list[str], str]] = [
    (["train", "--backbone", "safnm", "--variant", "lora/r1"], "no backbone 'safnm' (did you mean 'safmn'?)"),
    (["train", "--backbone", "safmn", "--variant", "loro/r1"], "no baseline 'loro' (did you mean 'lora'?)"),
    (["train", "--backbone", "safmn", "--variant", "lora/r99"], "no variant 'r99'"),
    (["data", "prepare", "degradd"], "no dataset 'degradd' (did you mean 'degraded'?)"),
    (["report", "table9"], "no report 'table9' (did you mean 'table"),
    (["score-runs", "--backbone", "safnm", "--out", "x"], "no backbone 'safnm'"),
    (["stability", "--backbone", "safnm"], "no backbone 'safnm'"),
    (["stability", "--backbone", "safmn", "--batches", "1"], "--batches 1: expected at least 2"),
    (["params", "--backbone", "safnm", "--variant", "lora/r1", "--profile", "config/demo.yaml"], "'safnm'"),
    (["params", "--backbone", "safmn", "--variant", "loro/r1", "--profile", "config/demo.yaml"], "no baseline 'loro'"),
    (["sites", "--backbone", "safnm", "--profile", "config/demo.yaml"], "no backbone or file 'safnm'"),
    (["list", "datasets", "--profile", "config/nowhere.yaml"], "config/nowhere.yaml: cannot read this profile"),
    (["list", "datasets", "--set", "data"], "--set data: expected NAME=VALUE"),
    (["list", "datasets", "--profile", "config/demo.yaml", "--set", "x=1"], "does not use the setting 'x'"),
    (
        ["list", "baselines", "--profile", "config/demo.yaml", "--baselines", "nowhere"],
        "nowhere: no such folder; expected a folder of baseline files",
    ),
    (["score", "--sr", "a", "--hr", "b", "--crop-border", "-1"], "--crop-border -1: expected"),
    (["score", "--sr", "a", "--hr", "b"], "no such folder"),
    (["merge", "nowhere", "-o", "x.safetensors"], "nowhere/record.json: no such record"),
    (["check-baseline", "nowhere.py"], "nowhere.py: cannot read this baseline file"),
    (["audit", "--paper", "adaptrs"], "no folder papers/adaptrs"),
]


@pytest.mark.parametrize(("words", "said"), MISTAKES, ids=lambda value: " ".join(value) if type(value) is list else "")
def test_a_mistake_is_one_line(
    project: Path, elsewhere: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    before = files(project)
    assert main(words) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert len(shown.err.splitlines()) == 1
    assert shown.err.startswith("adaptsr: ")
    assert said in shown.err
    assert files(project) == before
    assert files(elsewhere) == set()


def test_debug_raises_the_error(elsewhere: Path) -> None:
    with pytest.raises(UserError, match="no backbone 'safnm'"):
        main(["--debug", "train", "--backbone", "safnm", "--variant", "lora/r1"])


def test_a_root_that_is_missing_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "nowhere"))
    assert main(["list", "datasets"]) == 2
    assert capsys.readouterr().err.startswith(f"adaptsr: {VARIABLE}: no folder {tmp_path}/nowhere")


def test_the_working_folder_is_restored(elsewhere: Path) -> None:
    assert main(["list", "datasets", "--profile", "config/demo.yaml"]) == 0
    assert Path.cwd() == elsewhere
