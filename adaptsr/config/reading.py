"""Read a profile from YAML, whole and strictly, and fill in its settings."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adaptsr.config import strict_yaml
from adaptsr.config.mistakes import validate
from adaptsr.config.renamed import with_new_names
from adaptsr.config.schema import Profile
from adaptsr.errors import UserError, listing
from adaptsr.files import expanded

MOST_BYTES = 1 << 20
SETTING = re.compile(r"\$\{([a-z_]+)\}")


def load_profile(path: Path, settings: Mapping[str, str] | None = None, *, partly: bool = False) -> Profile:
    """Read a profile whole and check it.

    Replaces `${name}` in the file's values by the text `settings[name]`, with `~` expanded; `partly` leaves it as it is
    where the setting is missing, for results that are read where the data are not. Reads old names of keys and
    values as the new ones and prints a line on stderr for each. Raises `UserError`, one line with file and key, for any
    mistake.
    """
    text = _read_text(path)
    document = strict_yaml.parse(text, path)
    content = document.content
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a mapping of keys at the top of the profile, found {type(content).__name__}")
    known = {name: f"${{{name}}}" for name in SETTING.findall(text)} if partly else {}
    filled = _fill(content, {**known, **(settings or {})}, path)
    _refuse_unused(path, text, settings or {})
    current, renames = with_new_names(filled)
    for line in renames:
        print(f"adaptsr: {path}: {line}", file=sys.stderr, flush=True)
    return validate(current, path, document)


def _read_text(path: Path) -> str:
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"{path}: not a file; give the path of a YAML file such as config/demo.yaml")
        if path.stat().st_size > MOST_BYTES:
            raise UserError(f"{path}: larger than {MOST_BYTES} bytes; expected a profile in YAML")
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(
            f"{path}: cannot read this profile: {error.strerror}; give the path of a YAML file such as config/demo.yaml"
        ) from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text file in UTF-8; expected a profile in YAML") from None


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
        if not strict_yaml.is_text(settings[name]):
            raise UserError(f"{path}: the setting {name!r} is not valid text: {settings[name]!a}")
        return str(expanded(settings[name])) if settings[name].startswith("~") else settings[name]

    return SETTING.sub(replace, value)


def _refuse_unused(path: Path, text: str, settings: Mapping[str, str]) -> None:
    known = set(SETTING.findall(text))
    for name in settings:
        if name not in known:
            allowed = listing(known) if known else "none"
            raise UserError(f"{path}: this profile does not use the setting {name!r}; it takes {allowed}")
