"""Paths and settings of the user, in the root and elsewhere; the profile's check."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from adaptsr.cli import main
from adaptsr.cli.common import name_or_path, project_path, setting, user_path
from tests.factories import Json


def test_paths_of_the_user_outside_the_root(project: Path, elsewhere: Path) -> None:
    """Absolute, unless they lie in the root without going up."""
    assert user_path("out.json") == elsewhere / "out.json"
    assert user_path("/out.json") == Path("/out.json")
    assert user_path(str(project / "config/demo.yaml")) == Path("config/demo.yaml")
    assert user_path("../project/config") == elsewhere / "../project/config"


def test_the_working_folder_comes_before_the_root(elsewhere: Path) -> None:
    assert project_path("config/demo.yaml") == Path("config/demo.yaml")
    (elsewhere / "config").mkdir()
    (elsewhere / "config/demo.yaml").touch()
    assert project_path("config/demo.yaml") == elsewhere / "config/demo.yaml"


def test_a_backbone_is_a_file_by_its_suffix(elsewhere: Path) -> None:
    (elsewhere / "safmn").mkdir()
    (elsewhere / "model.pth").touch()
    assert name_or_path("safmn") == "safmn"
    assert name_or_path("model.pth") == str(elsewhere / "model.pth")


def test_a_setting_that_names_a_file_is_a_path(elsewhere: Path) -> None:
    (elsewhere / "pairs").mkdir()
    assert setting("data=pairs") == ("data", str(elsewhere / "pairs"))
    for value in ("pairs=1", "", "x" * 5000):
        assert setting(f"data={value}") == ("data", value)


def test_in_the_root_nothing_is_rewritten_and_its_folders_are_the_users(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    assert user_path("config/demo.yaml") == Path("config/demo.yaml")
    assert setting("data=config/") == ("data", "config/")
    monkeypatch.chdir(project / "config")
    assert project_path("demo.yaml") == Path("config/demo.yaml")
    assert user_path("out.json") == Path("config/out.json")


def change_profile(project: Path, change: Callable[[Json], object]) -> None:
    path = project / "config/demo.yaml"
    content = yaml.safe_load(path.read_text())
    change(content)
    path.write_text(yaml.safe_dump(content, sort_keys=False))


@pytest.fixture
def no_weights(project: Path, elsewhere: Path) -> None:
    change_profile(project, lambda content: content["backbones"]["safmn"].update(weights="nowhere.safetensors"))


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize(
    "words",
    [
        ["list", "backbones"],
        ["estimate"],
        ["sites", "--backbone", "safmn"],
        ["params", "--backbone", "safmn", "--variant", "lora/r1"],
    ],
    ids=lambda words: words[0],
)
def test_commands_that_inspect_need_no_weights(words: list[str]) -> None:
    assert main([*words, "--profile", "config/demo.yaml"]) == 0


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize(
    "words",
    [
        ["train", "--backbone", "safmn", "--variant", "lora/r1"],
        ["score-runs", "--backbone", "safmn", "--out", "x.parquet"],
        ["stability", "--backbone", "safmn"],
    ],
    ids=lambda words: words[0],
)
def test_commands_that_load_weights_ask_for_them(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    assert main(words) == 2
    assert "config/demo.yaml: backbones.safmn.weights: no file 'nowhere.safetensors'" in capsys.readouterr().err


def test_a_profile_is_checked_as_the_workflow_does(
    project: Path, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change_profile(project, lambda content: content["scoring"].update(metrics={"x": {"name": "psnrr"}}))
    assert main(["train", "--backbone", "safmn", "--variant", "lora/r1"]) == 2
    assert "psnrr" in capsys.readouterr().err
