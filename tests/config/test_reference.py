"""The generated reference of profiles is current; `python -m adaptsr.config.reference` rewrites it."""

from __future__ import annotations

from adaptsr.config import reference
from tests.factories import REPOSITORY


def test_the_json_schema_is_current() -> None:
    assert (REPOSITORY / reference.SCHEMA).read_text(encoding="utf-8") == reference.json_schema()


def test_the_reference_in_the_readme_is_current() -> None:
    text = (REPOSITORY / reference.README).read_text(encoding="utf-8")
    assert reference.MARK in text
    assert reference.readme_with_reference(text) == text
