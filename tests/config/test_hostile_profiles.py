"""Profiles that mean harm: nothing is executed, no name leads elsewhere, and one line says what was refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from adaptsr.config import reading
from adaptsr.runs import validation
from adaptsr.runs.matrix import Matrix
from tests.factories import REPOSITORY, Json, profile_content, refusal

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
)

YAMLS: dict[str, str] = {
    "a tag that executes": "name: !!python/object/apply:os.system ['touch executed']",
    "a tag by its full name": "name: !<tag:yaml.org,2002:python/object/apply:os.system> ['touch executed']",
    "billion laughs": LAUGHS,
    "a list in itself": "name: &a [*a]",
    "a merge of itself": "name: &a {<<: *a}",
    "nested deeply": "name: " + "[" * 20_000,
    "nested deeply in mappings": "".join(" " * i + "x:\n" for i in range(900)),
    "a number of many digits": "scale: " + "9" * 10_000,
    "a date where anything may stand": "backbones: {a: {architecture: edsr, options: {x: 2026-01-01}}}",
    "a number as a key": "1: x",
    "a list as a key": "? [a, b]\n: x",
    "half a character": 'title: "\\ud800"',
    "a null byte": "title: a\0b",
    "another encoding": "\udcff\udcfe",
    "nothing": "",
    "two documents": "a: 1\n---\nb: 2",
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("case", YAMLS)
def test_profiles(tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "profile.yaml"
    path.write_bytes(YAMLS[case].encode("utf-8", "surrogateescape"))
    assert str(path) in refusal(lambda: reading.load_profile(path))
    assert list(tmp_path.iterdir()) == [path]


OUTSIDE = ["../x", "/nowhere/x", "-x", "a\nb", "$(x)", ""]


def put(*path: str) -> Callable[[Json, str], None]:
    """Put a name in place of the last key of the path, or of a value at `=`."""

    def change(content: Json, name: str) -> None:
        *parents, last = path
        target: Any = content
        for key in parents:
            target = target[key]
        if last.startswith("="):
            target[last[1:]] = name
        else:
            target[name] = target.pop(last)

    return change


PLACES: dict[str, Callable[[Json, str], None]] = {
    "name": put("=name"),
    "dataset": put("datasets", "degraded"),
    "backbone": put("backbones", "safmn"),
    "table": put("report", "tables", "table2"),
    "metric": put("scoring", "metrics", "psnr_y"),
    "baseline": put("baselines", "lora"),
    "variant": lambda content, name: content["baselines"]["lora"].update(variants={name: {"rank": 1}}),
    "architecture": put("backbones", "safmn", "=architecture"),
    "external": lambda content, name: content.update(external={name: {"title": "x"}}),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", OUTSIDE)
def test_names_that_would_lead_elsewhere(
    tmp_path: Path, place: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = profile_content()
    PLACES[place](content, name)
    path = tmp_path / "profile.yaml"
    path.write_text(yaml.safe_dump(content))
    monkeypatch.chdir(REPOSITORY)  # where the weights are that the profile names
    assert str(path) in refusal(lambda: validation.check(Matrix.of(reading.load_profile(path), str(path))))
