"""A value that a profile cannot mean is refused with its file, line and key; what editors add to a file is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from adaptsr.config import strict_yaml
from adaptsr.config.reading import load_profile
from adaptsr.config.schema import Profile
from tests.factories import pairs_profile, refusal

BLUR = "data.train.0.degradation.first"
AMBIGUOUS = "is read differently by YAML 1.1 and 1.2"
SUM = "expected probabilities that sum to 1"
MILESTONES = "expected increasing fractions of the iterations, above 0 and below 1"

REFUSED = [
    *[("training.iterations", text, AMBIGUOUS) for text in ("yes", "On", "010", "0o10", "0b11", "1:30", "1:30.5", "1_000", "-012")],
    ("seeds", "[1, 010]", AMBIGUOUS),
    ("backbones.edsr.options.num_feat", "1_6", AMBIGUOUS),
    ("title", "no", AMBIGUOUS),
    ("compute.deterministic", "off", AMBIGUOUS),
    ("training.iterations", "true", "expected a number, found True"),
    ("seeds", "[true]", "expected a number, found True"),
    (f"{BLUR}.blur_sigma", "[true, 2]", "expected a number, found True"),
    *[("training.iterations", text, "") for text in ("0", "-5", "1.5", ".inf", "ten", "null", "[10]")],
    *[("training.lr", text, "") for text in ("0", "-1e-3", ".inf", ".nan", "1,5")],
    *[("training.milestones", text, MILESTONES) for text in ("[250000]", "[0.5, 0.5]", "[0.8, 0.5]", "[0]", "[1.0]")],
    ("baselines.lora.training.milestones", "[100, 200]", MILESTONES),
    ("training.decay", "75", "less than or equal to 1"),
    ("seeds", "[3, 4, 3]", "seed 3 is listed twice"),
    ("seeds", "[]", "at least 1 item"),
    ("seeds", "[-1]", "greater than or equal to 0"),
    *[(f"{BLUR}.kernel_probabilities", text, SUM) for text in ("[0, 0, 0, 0, 0, 0]", "[1, 1, 0, 0, 0, 0]")],
    (f"{BLUR}.kernel_probabilities", "[2, -1, 0, 0, 0, 0]", "less than or equal to 1"),
    (f"{BLUR}.resize_probabilities", "[0.2, 0.2, 0.2]", SUM),
    (f"{BLUR}.sinc_probability", "1.5", "less than or equal to 1"),
    (f"{BLUR}.blur_probability", "-0.1", "greater than or equal to 0"),
    (f"{BLUR}.kernel_size_max", "20", "expected an odd number of at least 7"),
    (f"{BLUR}.kernel_size_max", "5", "expected an odd number of at least 7"),
    *[(f"{BLUR}.blur_sigma", text, "of at least 0.01, the smaller first") for text in ("[3, 1]", "[-1, 3]", "[0, 3]")],
    (f"{BLUR}.gaussian_sigma", "[-1, 30]", "of at least 0, the smaller first"),
    *[(f"{BLUR}.{key}", "[1.2, 1.5]", "with 1 between them") for key in ("resize_range", "generalized_beta", "plateau_beta")],
    *[(f"{BLUR}.jpeg_quality", text, "from 1 to 99") for text in ("[0, 50]", "[90, 100]", "[60, 40]", "[30, 950]")],
]  # fmt: skip


def write(path: Path, key: str, text: str) -> int:
    """Write a small profile with this YAML at a key, and return the line of the key."""
    content: Any = pairs_profile({"train": "rest", "test": "first 1", "validation": "last 1"}, baselines={"lora": {}})
    content["data"]["train"][0]["degradation"] = {"first": {}}
    *parents, last = key.split(".")
    section = content
    for part in parents:
        section = section[int(part)] if isinstance(section, list) else section.setdefault(part, {})
    section[last] = "PLACE"
    lines = yaml.safe_dump(content).splitlines()
    number = next(number for number, line in enumerate(lines, start=1) if line.endswith("PLACE"))
    path.write_text("\n".join(lines).replace("PLACE", text), encoding="utf-8")
    return number


def read(folder: Path, key: str, text: str) -> Profile:
    write(folder / "small.yaml", key, text)
    return load_profile(folder / "small.yaml")


@pytest.mark.parametrize(("key", "text", "said"), REFUSED)
def test_a_value_that_cannot_be_meant_is_refused(tmp_path: Path, key: str, text: str, said: str) -> None:
    path = tmp_path / "small.yaml"
    line = write(path, key, text)
    message = refusal(lambda: load_profile(path))
    assert message.startswith((f"{path}:{line}: {key}: ", f"{path}:{line}: {key}."))
    assert said in message


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("training.iterations", "1e3", 1000),
        ("training.iterations", "0x10", 16),
        ("training.lr", "1e-3", 0.001),
        ("training.lr", "1.5E3", 1500.0),
        ("training.milestones", "[.5, 0.75]", [0.5, 0.75]),
        ("backbones.edsr.options.res_scale", "1e-1", 0.1),
        ("title", "'no'", "no"),
        ("title", "v1.2.3", "v1.2.3"),
        ("compute.deterministic", "False", False),
        (f"{BLUR}.resize_probabilities", "[0.333, 0.333, 0.333]", (0.333, 0.333, 0.333)),
        (f"{BLUR}.gaussian_sigma", "[0, 0]", (0.0, 0.0)),
    ],
)
def test_numbers_and_text_are_those_of_yaml_1_2(tmp_path: Path, key: str, text: str, value: object) -> None:
    found: Any = read(tmp_path, key, text)
    for part in key.split("."):
        found = found[int(part)] if part.isdigit() else found[part] if isinstance(found, dict) else getattr(found, part)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("seeds", "[1]\nseeds: [7]"),
        ("title", '"A"\n"title": B'),
        ("compute", "{threads: 1, threads: 2}"),
        ("compute", "{<<: {threads: 1}, <<: {threads: 2}}"),
    ],
)
def test_a_key_that_stands_twice_is_refused_with_both_lines(tmp_path: Path, key: str, text: str) -> None:
    path = tmp_path / "small.yaml"
    first = write(path, key, text)
    message = refusal(lambda: load_profile(path))
    assert message.startswith(f"{path}:{first + text.count(chr(10))}: {key}")
    assert message.endswith(f": this key is already in line {first}; keep one of the two")


def test_a_key_beside_a_merge_overrides_it(tmp_path: Path) -> None:
    assert read(tmp_path, "compute", "{<<: {threads: 1, device: cpu}, threads: 2}").compute.threads == 2
    assert "compute.threads: " in refusal(lambda: read(tmp_path, "compute", "{<<: {threads: 0}}"))


def test_a_mistake_of_two_parts_has_a_line_too(tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    line = write(path, "training.crop", "30")
    assert refusal(lambda: load_profile(path)).startswith(f"{path}:{line}: training.crop: 30 is not a multiple")


def test_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    write(path, "title", "A")
    path.write_text(path.read_text(encoding="utf-8"), encoding="utf-8-sig")
    assert load_profile(path).title == "A"


TEXTS = (
    "1e5",
    "0o17",
    "010",
    "1_000",
    "1:30",
    "yes",
    "No",
    "on",
    "~",
    "null",
    "true",
    ".5",
    "1.",
    "0x1f",
    ".inf",
    "2026-11-28",
    "",
    " a ",
    "a: b",
    "ü",
    "-",
    "a\nb",
)


def test_what_is_written_is_read_back_as_it_was() -> None:
    content = {"texts": [*TEXTS], **{f"key {text}": text for text in TEXTS}, "numbers": [1, 1e5, 1e-5, 0.1, True, None]}
    assert strict_yaml.parse(strict_yaml.text_of(content), Path("a.yaml")).content == content
