"""The house stands: imports point one way, no library file names a method or a paper, and no file is a maze."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOMS = (
    {"errors", "files", "tensors", "project", "progress", "randomness", "papers", "basicsr_compat"},
    {"config", "statistics"},
    {"devices"},
    {"metrics"},
    {"data"},
    {"backbones"},
    {"adaptation"},
    {"runs"},
    {"training", "scoring"},
    {"tuning"},
    {"reporting", "exchange"},
    {"restoring", "camera"},
    {"cli"},
)
"""Packages and single files of `adaptsr/`, the lowest first: a room imports from lower rooms, and files from files."""
LONGEST = 400
TABLES = {"adaptsr/config/schema.py"}
"""Files that are lists of declarations, which may be longer."""


def files(repository: Path, *folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (repository / folder).rglob("*.py"))


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def imported(path: Path) -> set[str]:
    """The modules of the project that a file imports, inside functions and for types too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= set(names if node.module in ("adaptsr", "papers", "baselines") else [node.module])
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {
        name for name in found if name.split(".")[0] in ("adaptsr", "baselines", "papers", "workflow", "speed", "tests")
    }


def test_imports_point_one_way(repository: Path) -> None:
    height = {room: number for number, rooms in enumerate(ROOMS) for room in rooms}
    wrong = []
    for path in files(repository, "adaptsr"):
        inside = path.relative_to(repository / "adaptsr")
        here = inside.parts[0].removesuffix(".py")
        for module in imported(path):
            there = room_of(module)
            if module.split(".")[0] != "adaptsr":
                wrong.append(f"{inside} imports {module}")
            elif there not in ("", "__version__", here) and here not in ("__init__", "__main__"):
                single = (repository / "adaptsr" / f"{there}.py").is_file() and (
                    repository / "adaptsr" / f"{here}.py"
                ).is_file()
                if height[there] > height[here] or (height[there] == height[here] and not single):
                    wrong.append(f"{inside} imports {module}")
    assert wrong == []


def test_every_room_says_what_enters_and_what_leaves(repository: Path) -> None:
    for init in (repository / "adaptsr").rglob("__init__.py"):
        text = ast.get_docstring(ast.parse(init.read_text())) or ""
        if init.parent.name not in ("adaptsr", "figures"):
            assert "In: " in text, init
            assert "Out: " in text, init


def test_no_file_is_a_maze(repository: Path) -> None:
    long = {
        str(path.relative_to(repository)): lines
        for path in files(repository, "adaptsr", "papers", "baselines")
        if (lines := len(path.read_text().splitlines())) > LONGEST
    }
    assert set(long) <= TABLES


@pytest.mark.parametrize("folder", ["baselines", "papers"])
def test_the_library_names_no_method_and_no_paper(repository: Path, folder: str) -> None:
    names = {path.stem for path in (repository / folder).glob("*.py")} | {
        path.parent.name for path in (repository / folder).glob("*/__init__.py")
    }
    names -= {"adaptsr", "lora"}  # the package's own name; LoRA is also the form that the library offers to all methods
    words = [
        (path, node.value)
        for path in files(repository, "adaptsr")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and node.value in names
    ]
    assert words == []
