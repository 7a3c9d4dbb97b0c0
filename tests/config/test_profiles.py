"""The profiles of config/ are sound, editors can check them, and the version is the same wherever it stands."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import jsonschema
import pytest
import yaml

from adaptsr import __version__
from adaptsr.config.reading import load_profile

REPOSITORY = Path(__file__).parents[2]
PROFILES = sorted((REPOSITORY / "config").glob("*.yaml"))
SETTINGS = {"data": "PAIRS", "weights": "MODEL.pth"}
"""What the user gives on the command line, for profiles that ask for it."""


@pytest.fixture(scope="module")
def schema() -> jsonschema.Draft202012Validator:
    path = REPOSITORY / "config/profile.schema.json"
    return jsonschema.Draft202012Validator(json.loads(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_a_profile_is_read_and_named_as_its_file(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = {name: value for name, value in SETTINGS.items() if f"${{{name}}}" in path.read_text(encoding="utf-8")}
    assert load_profile(path, asked).name == path.stem
    assert capsys.readouterr().err == ""  # no name of an earlier version


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_editors_find_the_schema_and_accept_the_profile(path: Path, schema: jsonschema.Draft202012Validator) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.splitlines()[0] == "# yaml-language-server: $schema=profile.schema.json"
    assert [error.message for error in schema.iter_errors(yaml.safe_load(text))] == []


def test_the_version_is_the_newest_of_the_changelog_everywhere() -> None:
    versions = re.findall(r"^## (\d\S*)", (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    assert [__version__, project["version"], str(citation["version"])] == [versions[0]] * 3
