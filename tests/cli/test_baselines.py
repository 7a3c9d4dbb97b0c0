"""Methods kept outside the checkout: `--baselines` and `check-baseline`; and `stability`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adaptsr.cli import main

PROFILE = ["--profile", "config/demo.yaml"]


def test_list_of_several_folders(methods: Path, elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (elsewhere / "more").mkdir()
    (elsewhere / "more/twice.py").write_text((methods / "gains.py").read_text())
    assert main(["list", "baselines", *PROFILE, "--baselines", "methods", "--baselines", "more"]) == 0
    shown = capsys.readouterr().out
    assert "gains: Gains (nobody, nowhere): scales the weight of every site." in shown
    assert {"lora/r1", "gains/all", "twice/all"} <= {line.split()[0] for line in shown.splitlines() if line.strip()}


def test_params(methods: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--backbone", "safmn", "--variant", "gains/all", *PROFILE, "--baselines", "methods"]
    assert main(["params", *words, "--json"]) == 0
    counted = json.loads(capsys.readouterr().out)
    assert main(["sites", "--backbone", "safmn", *PROFILE]) == 0
    adapted = [line for line in capsys.readouterr().out.splitlines() if "pixel shuffle" not in line]
    assert counted["trainable"] == len(adapted) - len([line for line in adapted if "groups" in line])


def test_a_name_that_exists_twice_is_one_line(methods: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (methods / "gains.py").rename(methods / "lora.py")
    assert main(["list", "baselines", *PROFILE, "--baselines", "methods"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith(f"adaptsr: {methods / 'lora.py'}: the baseline 'lora' exists already: ")


@pytest.mark.slow
def test_check_baseline_finds_the_budget_variant_of_the_checkout(
    methods: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check-baseline", "methods/gains.py"]) == 0
    assert " 0 failed" in capsys.readouterr().out


def test_stability(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stability", "--backbone", "safmn", "--batches", "2"]) == 0
    first, *rest = capsys.readouterr().out.splitlines()
    assert first.startswith("Spearman correlation of gradient scores at ")
    assert first.endswith(" sites of safmn, 2 mini-batches of 2")
    assert len(rest) == 3
