"""Generate the reference of profiles from their schema: run `python -m adaptsr.config.reference`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from adaptsr import files
from adaptsr.config import schema

MARK = "<!-- reference: generated from adaptsr/config/schema.py by `python -m adaptsr.config.reference` -->"
README = Path("config/README.md")
SCHEMA = Path("config/profile.schema.json")


def json_schema() -> str:
    """Return the JSON schema of a profile, for editors."""
    return json.dumps(schema.Profile.model_json_schema(), indent=1, sort_keys=True) + "\n"


def markdown() -> str:
    """Return the reference in Markdown: a table of keys for every block of a profile."""
    blocks = [_block(model) for model in _sections(schema.Profile)]
    return "\n\n".join([MARK, "## Reference", *blocks]) + "\n"


def readme_with_reference(text: str) -> str:
    """Return the README with everything from `MARK` on replaced."""
    return text.partition(MARK)[0] + markdown()


def _sections(model: type[schema.Section]) -> list[type[schema.Section]]:
    """Return the models of a profile, each once, in reading order."""
    found = [model]
    for field in model.model_fields.values():
        for nested in _models_in(field.annotation):
            found += [section for section in _sections(nested) if section not in found]
    return found


def _models_in(annotation: Any) -> list[type[schema.Section]]:
    if isinstance(annotation, type) and issubclass(annotation, schema.Section):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models_in(argument)]


def _block(model: type[schema.Section]) -> str:
    described = " ".join((model.__doc__ or "").split())
    rows = [
        f"| `{name}` | {_type(field)} | {_default(field)} | {_meaning(field)} |"
        for name, field in model.model_fields.items()
    ]
    heading = [f"### {model.__name__}", *([described] if described else [])]
    return "\n\n".join([*heading, "\n".join(["| key | value | default | meaning |", "|---|---|---|---|", *rows])])


def _type(field: FieldInfo) -> str:
    text = (
        str(field.annotation)
        if get_args(field.annotation)
        else getattr(field.annotation, "__name__", str(field.annotation))
    )
    text = re.sub(r"typing\.Annotated\[([^,\]]+),[^\]]*\]", r"\1", text)
    text = re.sub(r", (AfterValidator|FieldInfo|Gt|Ge)\([^()]*(\([^()]*\)[^()]*)*\)", "", text)
    text = re.sub(r"Annotated\[(\w+)\]", r"\1", text.replace("typing.", ""))
    text = re.sub(r"adaptsr\.config\.schema\.", "", text).replace("NoneType", "None")
    return f"`{text}`".replace("|", "\\|")


def _default(field: FieldInfo) -> str:
    if field.default_factory is not None:
        return ""
    if field.default is PydanticUndefined:
        return "required"
    return f"`{json.dumps(field.default)}`".replace("|", "\\|") if field.default not in (None, "") else ""


def _meaning(field: FieldInfo) -> str:
    return (field.description or "").replace("|", "\\|")


def main() -> None:
    """Rewrite the JSON schema and the reference in the README."""
    with files.atomic_write(SCHEMA) as temporary:
        temporary.write_text(json_schema(), encoding="utf-8")
    with files.atomic_write(README) as temporary:
        temporary.write_text(readme_with_reference(README.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
