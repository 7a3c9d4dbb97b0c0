"""A profile written for the version before is read, and one line says what to rename."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from adaptsr.config.reading import load_profile
from adaptsr.config.renamed import RENAMED, Key, Value, with_new_names
from adaptsr.errors import UserError

OLD = {
    "outputs": {"model": {"title": "outputs/"}},
    "report": {
        "tables": {"one": {"rows": ["unadapted", "outputs/*"]}},
        "comparisons": [{"reference": "outputs/model", "rows": ["lora/r8"]}, {"compared_with": "lora/r8"}],
    },
    "datasets": {"photos": {"kind": "old"}, "own": {"kind": "pairs"}},
}
NEW = {
    "external": {"model": {"title": "outputs/"}},
    "report": {
        "tables": {"one": {"rows": ["unadapted", "external/*"]}},
        "comparisons": [{"compared_with": "external/model", "rows": ["lora/r8"]}, {"compared_with": "lora/r8"}],
    },
    "datasets": {"photos": {"kind": "new"}, "own": {"kind": "pairs"}},
}
TABLE = (
    Key("outputs", "external"),
    Key("report.comparisons.*.reference", "compared_with"),
    Value("report.tables.*.rows.*", "outputs/", "external/"),
    Value("report.comparisons.*.compared_with", "outputs/", "external/"),
    Value("datasets.*.kind", "old", "new"),
)


def test_keys_values_and_beginnings_are_renamed_where_the_table_says() -> None:
    before = str(OLD)
    content, said = with_new_names(OLD, TABLE)
    assert content == NEW
    assert len(said) == len(TABLE)
    assert "report.comparisons.*.reference: 'reference' is now called 'compared_with'" in said[1]
    assert str(OLD) == before


def test_the_order_of_keys_stays() -> None:
    assert list(with_new_names(OLD, TABLE)[0]) == ["external", "report", "datasets"]


def test_new_names_stay_without_a_word() -> None:
    assert with_new_names(NEW, TABLE) == (NEW, [])


@pytest.mark.parametrize("content", [{}, {"datasets": None}, {"datasets": [1]}, {"report": {"comparisons": {"a": 1}}}])
def test_what_has_another_shape_is_left_to_the_schema(content: object) -> None:
    assert with_new_names(content, TABLE) == (content, [])


def test_an_old_key_beside_the_new_one_is_left_to_the_schema() -> None:
    both = {"outputs": {}, "external": {}}
    assert with_new_names(both, TABLE) == (both, [])


def test_the_old_name_of_a_kind_is_read_with_one_line(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The demo has two datasets of this kind; the line is said once."""
    text = (repository / "config/demo.yaml").read_text()
    old = tmp_path / "old.yaml"
    old.write_text(text.replace("kind: sample_images", "kind: photographs"))
    assert load_profile(old) == load_profile(repository / "config/demo.yaml")
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == [
        f"adaptsr: {old}: datasets.*.kind: 'photographs' is now called 'sample_images'; rename it: the next version "
        "refuses the old name"
    ]


def test_an_unknown_kind_is_still_one_line(repository: Path, tmp_path: Path) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text((repository / "config/demo.yaml").read_text().replace("kind: sample_images", "kind: pictures"))
    with pytest.raises(UserError, match=r"datasets\.\w+: .*'pictures'.*'sample_images'"):
        load_profile(path)


def test_our_profiles_need_no_renaming(repository: Path) -> None:
    for path in (repository / "config").glob("*.yaml"):
        content = yaml.safe_load(path.read_text())
        assert with_new_names(content, RENAMED) == (content, []), path
