"""Read a profile from YAML, whole and strictly, and fill in its settings."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from adaptsr.config.mistakes import validate
from adaptsr.config.renamed import with_new_names
from adaptsr.config.schema import Profile
from adaptsr.errors import UserError, listing
from adaptsr.files import expanded

MOST_BYTES = 1 << 20
MOST_VALUES = 100_000
MOST_LEVELS = 40


def load_profile(path: Path, settings: Mapping[str, str] | None = None) -> Profile:
    """Read a profile whole and check it.

    Replaces `${name}` in the file's values by the text `settings[name]`, with `~` expanded. Reads old names of keys and
    values as the new ones and prints a line on stderr for each. Raises `UserError`, one line with file and key, for any
    mistake.
    """
    text = _read_text(path)
    try:
        content = yaml.safe_load(text)
    except Exception as error:  # YAML's tags raise almost anything on values of the wrong form
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())[:300]}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a mapping of keys at the top of the profile, found {type(content).__name__}")
    _refuse_unplain(content, path)
    filled = _fill(content, dict(settings or {}), path)
    _refuse_unplain(filled, path)
    _refuse_unused(path, text, settings or {})
    current, renames = with_new_names(filled)
    for line in renames:
        print(f"adaptsr: {path}: {line}", file=sys.stderr, flush=True)
    return validate(current, path)


def _read_text(path: Path) -> str:
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"{path}: not a file; give the path of a YAML file such as config/demo.yaml")
        if path.stat().st_size > MOST_BYTES:
            raise UserError(f"{path}: larger than {MOST_BYTES} bytes; expected a profile in YAML")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"{path}: cannot read this profile: {error.strerror}; give the path of a YAML file such as config/demo.yaml"
        ) from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text file in UTF-8; expected a profile in YAML") from None


def _refuse_unplain(content: Any, path: Path) -> None:
    """Raise `UserError` for values that a profile cannot hold: dates, bytes, sets, non-text keys, lone surrogates.

    Counts an alias every time it is used: a short file must not expand to a huge or endless one.
    """
    waiting: list[tuple[tuple[str, ...], Any]] = [((), content)]
    values = 0
    while waiting:
        where, value = waiting.pop()
        values += 1
        if values > MOST_VALUES or len(where) > MOST_LEVELS:
            raise UserError(
                f"{path}: more than {MOST_VALUES} values or {MOST_LEVELS} levels, with every alias (*name) expanded"
            )
        found = _unplain(value)
        if found:
            raise UserError(f"{path}: {'.'.join(where) or 'the file'}: {found}; put it in quotes if you mean text")
        if isinstance(value, dict):
            waiting += [((*where, str(key)), item) for key, item in value.items()]
        elif isinstance(value, list):
            waiting += [((*where, str(index)), item) for index, item in enumerate(value)]


def _unplain(value: Any) -> str | None:
    if isinstance(value, dict):
        return next((f"the key {key!r} is not text" for key in value if not _is_text(key)), None)
    if isinstance(value, str):
        return None if _is_text(value) else f"{value!a} is not valid text"
    known = value is None or isinstance(value, bool | int | float | list)
    return None if known else f"a profile cannot hold a {type(value).__name__} ({str(value)[:40]})"


def _is_text(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _fill(value: Any, settings: dict[str, str], path: Path) -> Any:
    if isinstance(value, dict):
        return {key: _fill(item, settings, path) for key, item in value.items()}
    if isinstance(value, list):
        return [_fill(item, settings, path) for item in value]
    if not isinstance(value, str):
        return value

    def replace(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in settings:
            raise UserError(
                f"{path}: the setting {name!r} is missing; pass `--config {name}=...` to snakemake or `--set {name}=...` to adaptsr"
            )
        return str(expanded(settings[name])) if settings[name].startswith("~") else settings[name]

    return re.sub(r"\$\{([a-z_]+)\}", replace, value)


def _refuse_unused(path: Path, text: str, settings: Mapping[str, str]) -> None:
    known = set(re.findall(r"\$\{([a-z_]+)\}", text))
    for name in settings:
        if name not in known:
            allowed = listing(known) if known else "none"
            raise UserError(f"{path}: this profile does not use the setting {name!r}; it takes {allowed}")
