"""Paths and settings of the user, in the root and elsewhere; the profile's check."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from adaptsr.cli import main
from adaptsr.cli.common import name_or_path, project_path, setting, user_path


class TestElsewhere:
    def test_a_path_is_absolute(self, elsewhere: Path) -> None:
        assert user_path("out.json") == elsewhere / "out.json"
        assert user_path("/out.json") == Path("/out.json")

    def test_a_path_inside_the_root_is_written_from_there(self, project: Path, elsewhere: Path) -> None:
        assert user_path(str(project / "config/demo.yaml")) == Path("config/demo.yaml")

    def test_a_path_that_goes_up_stays_as_it_is(self, project: Path, elsewhere: Path) -> None:
        assert user_path("../project/config") == elsewhere / "../project/config"

    def test_the_working_folder_comes_before_the_root(self, elsewhere: Path) -> None:
        assert project_path("config/demo.yaml") == Path("config/demo.yaml")
        (elsewhere / "config").mkdir()
        (elsewhere / "config/demo.yaml").touch()
        assert project_path("config/demo.yaml") == elsewhere / "config/demo.yaml"

    def test_a_backbone_is_a_file_by_its_suffix(self, elsewhere: Path) -> None:
        (elsewhere / "safmn").mkdir()
        (elsewhere / "model.pth").touch()
        assert name_or_path("safmn") == "safmn"
        assert name_or_path("model.pth") == str(elsewhere / "model.pth")

    def test_a_setting_that_names_a_file_is_a_path(self, elsewhere: Path) -> None:
        (elsewhere / "pairs").mkdir()
        assert setting("data=pairs") == ("data", str(elsewhere / "pairs"))
        assert setting("data=pairs=1") == ("data", "pairs=1")
        assert setting("data=") == ("data", "")
        assert setting(f"data={'x' * 5000}") == ("data", "x" * 5000)


def test_in_the_root_nothing_is_rewritten(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    assert user_path("config/demo.yaml") == Path("config/demo.yaml")
    assert setting("data=config/") == ("data", "config/")


def test_a_folder_of_the_project_is_the_users_folder(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project / "config")
    assert project_path("demo.yaml") == Path("config/demo.yaml")
    assert user_path("out.json") == Path("config/out.json")


@pytest.fixture
def no_weights(project: Path, elsewhere: Path) -> None:
    path = project / "config/demo.yaml"
    content = yaml.safe_load(path.read_text())
    content["backbones"]["safmn"]["weights"] = "nowhere.safetensors"
    path.write_text(yaml.safe_dump(content, sort_keys=False))


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
    path = project / "config/demo.yaml"
    content = yaml.safe_load(path.read_text())
    content["scoring"]["metrics"] = {"x": {"name": "psnrr"}}
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    assert main(["train", "--backbone", "safmn", "--variant", "lora/r1"]) == 2
    assert "psnrr" in capsys.readouterr().err
