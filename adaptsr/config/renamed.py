"""What profiles called otherwise: old keys and values, accepted for one version with a line that says the new name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Key:
    """A key that has a new name. `at` leads to it, with dots between the parts; `*` stands for any name or index."""

    at: str
    new: str


@dataclass(frozen=True)
class Value:
    """A text that has a new name, at the places to which `at` leads.

    An `old` that ends in `/` is the beginning of a text, as in `outputs/*`; the rest of the text stays.
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
"""Applied in this order: a later line sees the names that an earlier one gives."""


def with_new_names(content: Any, renamed: tuple[Key | Value, ...] = RENAMED) -> tuple[Any, list[str]]:
    """Return the content of a profile under today's names, and one line for each rename that it still needs.

    A key is left alone where the new one is there as well: the schema then refuses the old one.
    """
    said = []
    for rename in renamed:
        changed = _apply(content, tuple(rename.at.split(".")), rename)
        if changed != content:
            old = rename.at.rpartition(".")[2] if isinstance(rename, Key) else rename.old
            said.append(
                f"{rename.at}: {old!r} is now called {rename.new!r}; rename it, the next version refuses the old name"
            )
        content = changed
    return content, said


def _apply(content: Any, at: tuple[str, ...], rename: Key | Value) -> Any:
    """Return `content` with the rename made below it, where `at` leads; what leads nowhere stays as it is."""
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
