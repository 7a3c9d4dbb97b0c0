"""Old names of a profile's keys and values: accepted for one version, with a line that gives the new name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Key:
    """A renamed key. `at` is its path, with dots between the parts; `*` matches any name or index."""

    at: str
    new: str


@dataclass(frozen=True)
class Value:
    """A renamed value at the places that `at` matches.

    An `old` that ends in `/` is a prefix, as in `outputs/*`; the rest of the value is kept.
    """

    at: str
    old: str
    new: str


RENAMED: tuple[Key | Value, ...] = (
    Value("datasets.*.kind", "photographs", "sample_images"),
    Key("outputs", "external"),
    Value("report.tables.*.rows.*", "outputs/", "external/"),
    Key("report.comparisons.*.reference", "compared_with"),
)
"""Applied in this order: later entries see the new names of earlier ones."""


def with_new_names(content: Any, renamed: tuple[Key | Value, ...] = RENAMED) -> tuple[Any, list[str]]:
    """Return the content of a profile under current names, and one line for each old name in it.

    Leaves an old key alone if the new one is present as well: the schema then refuses the old one.
    """
    said = []
    for rename in renamed:
        changed = _apply(content, tuple(rename.at.split(".")), rename)
        if changed != content:
            old = rename.at.rpartition(".")[2] if isinstance(rename, Key) else rename.old
            said.append(
                f"{rename.at}: {old!r} is now called {rename.new!r}; rename it: the next version refuses the old name"
            )
        content = changed
    return content, said


def _apply(content: Any, at: tuple[str, ...], rename: Key | Value) -> Any:
    """Return `content` with the rename applied at the places that `at` matches below it."""
    if not at:
        return _new_value(content, rename) if isinstance(rename, Value) else content
    first, rest = at[0], at[1:]
    if isinstance(content, list) and first == "*":
        return [_apply(item, rest, rename) for item in content]
    if not isinstance(content, dict):
        return content
    if isinstance(rename, Key) and not rest:
        free = rename.new not in content
        return {rename.new if free and key == first else key: value for key, value in content.items()}
    return {key: _apply(value, rest, rename) if first in ("*", key) else value for key, value in content.items()}


def _new_value(value: Any, rename: Value) -> Any:
    if rename.old.endswith("/") and isinstance(value, str):
        return rename.new + value.removeprefix(rename.old) if value.startswith(rename.old) else value
    return rename.new if value == rename.old else value
