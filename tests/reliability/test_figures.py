"""The figures of docs/reliability.md are those of the tests."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

from tests.reliability import (
    test_checked_when_read,
    test_failures,
    test_fuzz,
    test_hostile,
    test_resume,
)


def archives(repository: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("archives", repository / "tests/data/test_unpack.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def fuzzed() -> int:
    """Properties that hypothesis tests, each file format on its own."""
    names = [
        name for name in vars(test_fuzz) if name.startswith("test_") and hasattr(getattr(test_fuzz, name), "hypothesis")
    ]
    return sum(len(test_fuzz.JSON_FILES) if name.startswith("test_records") else 1 for name in names)


def test_the_page_says_what_is_tested(repository: Path) -> None:
    figures = {
        "kills at random moments": test_resume.KILLS,
        "of them in the write of a checkpoint": len(test_resume.TORN_WRITES),
        "of them of processes started by a shell": len(test_resume.FRESH),
        "damaged checkpoints": len(test_resume.DAMAGES),
        "ways to diverge": len(test_failures.DIVERGENCES),
        "ways to run out of memory": len(test_failures.ALLOCATORS) + 1,
        "files that do not fit on the disk": len(test_failures.WRITTEN) + 1 + len(test_failures.SCORE),
        "changed results, refused": len(test_checked_when_read.REFUSED),
        "changed results, made again": len(test_checked_when_read.REMADE),
        "hostile checkpoints": len(test_hostile.CHECKPOINTS),
        "hostile archives": len(archives(repository).HOSTILE),
        "hostile images": len(test_hostile.IMAGES),
        "hostile file names": len(test_hostile.NAMES),
        "links and pipes in a data folder": len(test_hostile.LINKS),
        "hostile YAML": len(test_hostile.YAMLS),
        "names that lead elsewhere": len(test_hostile.OUTSIDE) * len(test_hostile.PLACES),
        "run folders handed over": len(test_hostile.RUNS),
        "files of scores handed over": len(test_hostile.SCORE_FILES),
        "manifests handed over": len(test_hostile.MANIFESTS),
        "hostile command lines": len(test_hostile.COMMANDS),
        "properties fuzzed": fuzzed(),
    }
    page = (repository / "docs/reliability.md").read_text()
    said = dict(re.findall(r"^\| ([^|]+?) \| (\d+) \|", page, re.MULTILINE))
    assert {name: int(number) for name, number in said.items()} == figures
