"""Read YAML strictly: every key once, plain values alone, and no number that YAML 1.1 and 1.2 read differently."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from adaptsr.errors import UserError, one_line

MOST_VALUES = 100_000
MOST_LEVELS = 40

_TAG = "tag:yaml.org,2002:"
_AMBIGUOUS = "!ambiguous"
_PLAIN = tuple(_TAG + kind for kind in ("str", "int", "float", "bool", "null", "map", "seq", "merge"))
_SCALARS: Mapping[str, str] = {
    _AMBIGUOUS: r"(?i:yes|no|on|off)|[-+]?(0[0-9_]+|0[ob][0-9_]+|[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?|[0-9][0-9.]*_[0-9_.]*)",
    _TAG + "bool": r"true|True|TRUE|false|False|FALSE",
    _TAG + "int": r"[-+]?[0-9]+|0x[0-9a-fA-F]+",
    _TAG + "float": r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
}
"""Plain scalars, first match first: those that the versions of YAML disagree on, and the booleans and numbers of 1.2."""


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the plain scalars of YAML 1.2. A date still has the tag of a date."""

    yaml_implicit_resolvers = {  # noqa: RUF012 (PyYAML's own name, which it copies for every class)
        first: [(tag, pattern) for tag, pattern in known if tag.removeprefix(_TAG) not in ("bool", "int", "float")]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


class _Writer(yaml.SafeDumper):
    """Quotes every text that the loader would take for something else, besides those of YAML 1.1."""

    yaml_implicit_resolvers = {first: list(known) for first, known in yaml.SafeDumper.yaml_implicit_resolvers.items()}  # noqa: RUF012


for _tag, _pattern in _SCALARS.items():
    for _class in (_Loader, _Writer):
        _class.add_implicit_resolver(_tag, re.compile(rf"^(?:{_pattern})$"), list("-+.0123456789tTfFyYnNoO"))
_Loader.add_constructor(_TAG + "int", lambda _, node: int(node.value, 16 if "x" in node.value else 10))


@dataclass(frozen=True)
class Document:
    """The content of a YAML file and the line of every key and list item by its path."""

    content: Any
    lines: Mapping[tuple[str, ...], int]

    def where(self, path: Path, location: Sequence[int | str]) -> str:
        """Return `file:line` of the longest part of a location that has a line, else `file`."""
        parts = tuple(str(part) for part in location)
        line = next((found for end in range(len(parts), 0, -1) if (found := self.lines.get(parts[:end]))), None)
        return f"{path}:{line}" if line else str(path)


def parse(text: str, path: Path) -> Document:
    """Read one document. Raises `UserError`, one line with file, line and key, for what a profile cannot hold."""
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        walk = _Walk(path)
        if root is not None:
            walk.visit(root, ())
        return Document(loader.construct_document(root) if root is not None else None, walk.lines)
    except UserError:
        raise
    except Exception as error:  # YAML's tags raise almost anything on values of the wrong form
        raise UserError(f"{path}: not valid YAML: {one_line(error, 300)}") from None


def text_of(content: Any) -> str:
    """Write content as YAML that `parse` reads back as it is."""
    return yaml.dump(content, Dumper=_Writer, sort_keys=False, allow_unicode=True)


def is_text(value: str) -> bool:
    """Say whether a string has no half characters (lone surrogates)."""
    return value.isascii() or not re.search("[\ud800-\udfff]", value)


@dataclass
class _Walk:
    """Visits every node of a document, an alias every time it is used: a short file must not expand to a huge one."""

    path: Path
    lines: dict[tuple[str, ...], int] = field(default_factory=dict)
    values: int = 0

    def visit(self, node: yaml.Node, where: tuple[str, ...]) -> None:
        self.values += 1
        if self.values > MOST_VALUES or len(where) > MOST_LEVELS:
            raise UserError(
                f"{self.path}: more than {MOST_VALUES} values or {MOST_LEVELS} levels, with every alias (*name) expanded"
            )
        if node.tag == _AMBIGUOUS:
            raise self._refused(
                node, where, f"{node.value} is read differently by YAML 1.1 and 1.2; {_advice(node.value)}"
            )
        if node.tag not in _PLAIN:
            kind = node.tag.removeprefix(_TAG)
            shown = str(node.value)[:40] if isinstance(node, yaml.ScalarNode) else "..."
            raise self._refused(node, where, f"a profile cannot hold a {kind} ({shown}); put it in quotes")
        if isinstance(node, yaml.MappingNode):
            self._visit_mapping(node, where)
        elif isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                self._visit_at(item, (*where, str(index)), item)
        elif not is_text(node.value):
            raise self._refused(node, where, f"{node.value!a} is not valid text")

    def _visit_mapping(self, node: yaml.MappingNode, where: tuple[str, ...]) -> None:
        first: dict[str, int] = {}
        merges = []
        for key, value in node.value:
            self.visit(key, where)
            if key.tag not in (_TAG + "str", _TAG + "merge"):
                raise self._refused(
                    key, where, f"the key {key.value if isinstance(key, yaml.ScalarNode) else '...'} is not text"
                )
            if key.value in first:
                said = f"this key is already in line {first[key.value]}; keep one of the two"
                raise self._refused(key, (*where, key.value), said)
            first[key.value] = _line(key)
            if key.tag == _TAG + "merge":
                merges.append(value)
            else:
                self._visit_at(value, (*where, key.value), key)
        for value in merges:  # after the keys of the mapping itself, which win
            self.visit(value, where)

    def _visit_at(self, node: yaml.Node, where: tuple[str, ...], mark: yaml.Node) -> None:
        self.lines.setdefault(where, _line(mark))
        self.visit(node, where)

    def _refused(self, node: yaml.Node, where: tuple[str, ...], what: str) -> UserError:
        return UserError(f"{self.path}:{_line(node)}: {'.'.join(where) or 'the file'}: {what}")


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _advice(value: str) -> str:
    if value[0].isalpha():
        return f"write true or false, or '{value}' in quotes if you mean text"
    return "write a plain decimal number such as 10, or put it in quotes if you mean text"
