"""Read pyiqa's table of metrics and its classes from their source files. Imports neither torch nor pyiqa."""

from __future__ import annotations

import ast
import importlib.util
import itertools
import runpy
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from adaptsr.errors import UserError


class PyiqaClass(NamedTuple):
    """A network of pyiqa. options: its constructor's, with defaults. files: those it downloads, by its own names for them."""

    options: Mapping[str, Any]
    files: Mapping[str, str]


@cache
def pyiqa_metrics() -> Mapping[str, Mapping[str, Any]]:
    """Return pyiqa's table of metrics by name."""
    table: Mapping[str, Mapping[str, Any]] = runpy.run_path(str(_folder() / "default_model_configs.py"))[
        "DEFAULT_CONFIGS"
    ]
    return table


@cache
def pyiqa_class(architecture: str) -> PyiqaClass:
    """Return what the definition of a class says; empty if it is not found."""
    for path in sorted((_folder() / "archs").glob("*_arch.py")):
        source = path.read_text(encoding="utf-8")
        if f"class {architecture}(" in source:
            module = ast.parse(source)
            return PyiqaClass(dict(_options(module, architecture)), dict(_files(module)))
    return PyiqaClass({}, {})


def pyiqa_weights(name: str, architecture: str, options: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return what a metric calls its trained weights (`koniq`), and their file; None if its definition does not say.

    A class keeps a table of its files, whose names are an option, two options joined, the metric's name, or `url`.
    """
    known = pyiqa_class(architecture)
    words = [name, *(value for value in {**known.options, **options}.values() if isinstance(value, str))]
    joined = [f"{one}{sign}{other}" for one, other in itertools.permutations(words, 2) for sign in "_-"]
    found = next((word for word in (*joined, *words[1:], name, "url") if word in known.files), None)
    if found is None and len(known.files) == 1:
        found = next(iter(known.files))
    return (found, known.files[found]) if found else None


def _folder() -> Path:
    spec = importlib.util.find_spec("pyiqa")
    if spec is None or not spec.submodule_search_locations:
        raise UserError("pyiqa is not installed; set up the environment from requirements.lock")
    return Path(next(iter(spec.submodule_search_locations)))


def _options(module: ast.Module, architecture: str) -> Iterator[tuple[str, Any]]:
    members = (
        d for node in module.body if isinstance(node, ast.ClassDef) and node.name == architecture for d in node.body
    )
    for member in members:
        if isinstance(member, ast.FunctionDef) and member.name == "__init__":
            named = member.args.args
            defaults = [*[None] * (len(named) - len(member.args.defaults)), *member.args.defaults]
            for argument, default in zip(
                [*named, *member.args.kwonlyargs], [*defaults, *member.args.kw_defaults], strict=True
            ):
                if argument.arg not in ("self", "crop_border"):
                    yield argument.arg, default.value if isinstance(default, ast.Constant) else None


def _files(module: ast.Module) -> Iterator[tuple[str, str]]:
    for node in module.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict) and _name(node) == "default_model_urls":
            for key, value in zip(node.value.keys, node.value.values, strict=True):
                given = [*value.args, *(word.value for word in value.keywords)] if isinstance(value, ast.Call) else []
                if isinstance(key, ast.Constant) and given and isinstance(given[0], ast.Constant):
                    yield str(key.value), str(given[0].value)


def _name(node: ast.Assign) -> str:
    return ast.unparse(node.targets[0])
