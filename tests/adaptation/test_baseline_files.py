"""The literals of a baseline file are read as strictly as a profile."""

from __future__ import annotations

from pathlib import Path

import pytest

from adaptsr.adaptation.baseline_files import Variant, read_literals
from tests.factories import refusal

LITERALS = {"VARIANTS": '{"a": {}}', "ROWS": '["a"]', "PROTOCOL": "1"}


def write(folder: Path, **changes: str) -> Path:
    lines = [f"{name} = {text}" for name, text in {**LITERALS, **changes}.items()]
    functions = ["def plan(): ...", "def attach(): ..."]
    path = folder / "method.py"
    path.write_text("\n".join(['"""A method. Source: a test."""', *lines, *functions]), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"VARIANTS": '{"a": {},\n"a": {}}'}, "line 3: VARIANTS: the key 'a' is already in line 2; keep one of the two"),
        ({"OPTIONS": '{"x": {"y": 1, "y": 2}}'}, "line 5: OPTIONS: the key 'y' is already in line 5"),
        ({"PROTOCOL": "1\nPROTOCOL = 2"}, "line 5: PROTOCOL is set twice; keep one of the two"),
        ({"PROTOCOL": "int(1)"}, "line 4: PROTOCOL must be a literal"),
        ({"ROWS": '["b"]'}, "ROWS: 'b' is not in VARIANTS"),
        ({"ROWS": "[[1]]"}, "ROWS: [1] is not in VARIANTS"),
        ({"VARIANTS": "{[]: 1}"}, "line 2: VARIANTS must be a literal"),
        ({"VARIANTS": '{"a": {1: 2}}'}, "VARIANTS: 1: expected a name in quotes"),
        ({"PROTOCOL": "1\0"}, "not valid Python"),
        ({"PROTOCOL": "(" * 500 + "1" + ")" * 500}, ""),
    ],
)  # fmt: skip
def test_mistakes_are_one_line_with_file_and_literal(tmp_path: Path, changes: dict[str, str], said: str) -> None:
    path = write(tmp_path, **changes)
    assert refusal(lambda: read_literals(path)).startswith(f"{path}: {said}")


def test_a_title_that_cannot_be_filled_is_the_rows_name(tmp_path: Path) -> None:
    file = read_literals(write(tmp_path, TITLE='"{rank.x}"', OPTIONS='{"rank": 1}'))
    assert Variant(file, "a", {"rank": 1}).title == "method/a"


def test_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    path = write(tmp_path)
    path.write_text(path.read_text(encoding="utf-8"), encoding="utf-8-sig")
    assert read_literals(path).rows == ["a"]
