"""Turn a profile's first schema violation into one line: file, line, key, what was expected."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pydantic

from adaptsr.config.schema import DATASET_KINDS, Profile, Section
from adaptsr.config.strict_yaml import Document
from adaptsr.errors import UserError, listing, suggestion


def validate(content: Mapping[str, Any], path: Path, document: Document | None = None) -> Profile:
    """Return the checked profile. Raises `UserError` with one line for the first mistake.

    document: the file that the content was read from, which knows the lines of its keys.
    """
    try:
        return Profile.model_validate(content)
    except pydantic.ValidationError as error:
        raise UserError(first_mistake(error, content, path, document or Document(content, {}))) from None


def first_mistake(error: pydantic.ValidationError, content: Mapping[str, Any], path: Path, document: Document) -> str:
    """Return `file:line: key: what is wrong` for the first unknown key, or else for the first mistake."""
    mistake = next((item for item in error.errors() if item["type"] == "extra_forbidden"), error.errors()[0])
    location = [
        part
        for part in mistake["loc"]
        if part not in (*DATASET_KINDS, "[key]") or part in _keys_at(content, mistake["loc"])
    ]
    where = ".".join(str(part) for part in location)
    message = mistake["msg"].removeprefix("Value error, ")
    if mistake["type"] == "extra_forbidden":
        allowed = _allowed_keys(mistake["loc"][:-1], content)
        message = (
            f"unknown key{suggestion(str(mistake['loc'][-1]), allowed)}; allowed are {listing(allowed)}"
            if allowed
            else "unknown key"
        )
    elif mistake["type"] == "missing":
        message = "this key is missing"
    elif not isinstance(mistake["input"], dict | list):
        message = f"{message}, found {mistake['input']!r}"
    # A check of the whole profile says where at the start of its message.
    place = document.where(path, location or message.partition(": ")[0].split("."))
    return f"{place}: {where}: {message}" if where else f"{place}: {message}"


def _keys_at(content: Mapping[str, Any], location: tuple[int | str, ...]) -> set[str]:
    keys: set[str] = set()
    value: Any = content
    for part in location:
        if isinstance(value, dict) and part in value:
            keys.add(str(part))
            value = value[part]
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            value = value[part]
    return keys


def _allowed_keys(location: tuple[int | str, ...], content: Mapping[str, Any]) -> list[str]:
    """Return the keys of the section at `location`, by walking the models along the content."""
    from typing import get_args

    current: Any = Profile
    for part in location:
        candidates = [current, *_nested_types(current)]
        models = [c for c in candidates if isinstance(c, type) and issubclass(c, Section)]
        following = None
        for model in models:
            if isinstance(part, str) and part in model.model_fields:
                following = model.model_fields[part].annotation
                break
            if model.model_fields.get("kind") and part in get_args(model.model_fields["kind"].annotation):
                following = model
                break
        current = following if following is not None else current
    models = [c for c in [current, *_nested_types(current)] if isinstance(c, type) and issubclass(c, Section)]
    return sorted(models[0].model_fields) if models else []


def _nested_types(annotation: Any) -> list[Any]:
    from typing import get_args

    found: list[Any] = []
    for argument in get_args(annotation):
        found.append(argument)
        found += _nested_types(argument)
    return found
