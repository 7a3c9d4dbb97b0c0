"""Whatever lies in a file, its reader gives what was asked for or one line; hypothesis looks for what does neither.

`ADAPTSR_FUZZ_EXAMPLES=5000 pytest tests/reliability/test_fuzz.py` looks longer.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adaptsr import files
from adaptsr.adaptation.reparametrization import Plan
from adaptsr.config import reading
from adaptsr.data.manifest import Manifest, read_manifest
from adaptsr.errors import UserError
from adaptsr.runs import records
from adaptsr.runs.matrix import Matrix
from adaptsr.runs.provenance import Provenance
from adaptsr.runs.records import RunRecord, read_record
from adaptsr.scoring.table import COLUMNS, Fingerprint, read_scores, typed, write_scores
from adaptsr.tensors import load_tensors, save_tensors

EXAMPLES = int(os.environ.get("ADAPTSR_FUZZ_EXAMPLES", "60"))
FUZZ = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.dates(),
    st.binary(max_size=8),
    st.sampled_from(["../x", "${x}", "~", "-1", "1e400", "0x", ".nan", "<script>", "\ud800", "a\nb", "lora/r1", "all"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.one_of(st.text(max_size=8), st.integers()), inner, max_size=4)
    ),
    max_leaves=8,
)
Mutation = tuple[int, str, Any]
MUTATIONS = st.tuples(st.integers(0, 10_000), st.sampled_from(["replace", "remove", "add"]), VALUES)


def places(content: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place of nested mappings and lists."""
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return [path, *(place for key, item in items for place in places(item, (*path, key)))]


def mutated(content: Any, mutation: Mutation) -> Any:
    number, kind, value = mutation
    *parents, last = (found := places(content)[1:])[number % len(found)]
    target = content
    for key in parents:
        target = target[key]
    if kind == "remove":
        del target[last]
    elif kind == "add" and isinstance(target[last], dict):
        target[last]["x" if not isinstance(value, str) else value] = value
    else:
        target[last] = value
    return content


def says_one_line(read: Callable[[], object]) -> None:
    try:
        read()
    except UserError as refusal:
        message = str(refusal)
        assert message.isprintable()
        assert len(message) < 3000


@pytest.fixture(scope="module")
def demo(repository: Path) -> Any:
    return yaml.safe_load((repository / "config/demo.yaml").read_text())


def planned(path: Path) -> None:
    """What the workflow does with a profile while it parses: rows and keys of all jobs."""
    matrix = Matrix.of(reading.load_profile(path, {}), str(path))
    for backbone in matrix.profile.backbones:
        for variant in matrix.variants.values():
            matrix.job_key(backbone, variant)


@FUZZ
@given(mutations=st.lists(MUTATIONS, min_size=1, max_size=3))
def test_profiles_with_anything_in_any_place(tmp_path: Path, demo: Any, mutations: list[Mutation]) -> None:
    content = copy.deepcopy(demo)
    for mutation in mutations:
        content = mutated(content, mutation)
    path = tmp_path / "profile.yaml"
    path.write_bytes(yaml.dump(content, allow_unicode=True).encode("utf-8", "surrogatepass"))
    says_one_line(lambda: planned(path))


@FUZZ
@given(data=st.data())
def test_profiles_as_text_with_damage(tmp_path: Path, repository: Path, data: st.DataObject) -> None:
    text = bytearray((repository / "config/demo.yaml").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        length = data.draw(st.integers(0, 20))
        signs = st.text(alphabet="[]{}:,&*!|>-?'\"#%@` \n\tab01.$", max_size=6)
        text[start : start + length] = data.draw(st.one_of(signs.map(str.encode), st.binary(max_size=4)))
    path = tmp_path / "profile.yaml"
    path.write_bytes(bytes(text))
    says_one_line(lambda: planned(path))


@FUZZ
@given(
    content=st.one_of(
        st.binary(max_size=200),
        VALUES.map(lambda value: yaml.dump(value, allow_unicode=True).encode("utf-8", "replace")),
    )
)
def test_profiles_of_anything(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "profile.yaml"
    path.write_bytes(content)
    says_one_line(lambda: planned(path))


@FUZZ
@given(settings_=st.dictionaries(st.sampled_from(["data", "weights", "x"]), st.text(max_size=30), max_size=3))
def test_settings_of_anything(tmp_path: Path, demo: Any, settings_: dict[str, str]) -> None:
    content = copy.deepcopy(demo)
    content["title"] = "${data}"
    content["backbones"]["safmn"]["weights"] = "${weights}"
    path = tmp_path / "profile.yaml"
    path.write_text(yaml.safe_dump(content))
    says_one_line(lambda: reading.load_profile(path, settings_))


RECORD = RunRecord(
    job="0" * 64,
    data="0" * 64,
    status="finished",
    profile="demo",
    backbone="safmn",
    baseline="lora",
    variant="r1",
    seed=1,
    config={"backbone": {"architecture": "SAFMN"}, "scale": 4},
    title="LoRA",
    extension=None,
    notes=["a note"],
    total_parameters=10,
    trainable_parameters=1,
    iterations=2,
    resumed_from=0,
    wall_seconds=0.5,
    peak_memory_bytes=1,
    start_psnr_y=20.0,
    losses=[records.LossPoint(iteration=1, loss=0.5), records.LossPoint(iteration=2, loss=None)],
    validation=[records.ValidationPoint(iteration=0, psnr_y=20.0, seconds=0.0)],
    provenance=Provenance(
        code_version="0", code_dirty=None, packages={}, python="", system="", processor="", cores=1, device="cpu"
    ),
)
BASIS = Fingerprint(weights={"a/b/c/seed1": "0" * 64}, tests={"x/test": "1" * 64}, metrics={"psnr_y": "2" * 64})
MANIFEST = {
    "dataset": "x",
    "scale": 4,
    "kind": "pairs",
    "split_rule": "",
    "splits": {"test": [{"name": "a", "scene": "a", "lr": "a", "hr": "b", "lr_sha256": "c", "hr_sha256": "d"}]},
}
JSON_FILES: dict[str, tuple[Any, Callable[[Path], object]]] = {
    "record.json": (RECORD.model_dump(mode="json"), read_record),
    "manifest.json": (MANIFEST, lambda path: read_manifest(path).digest()),
    "plan.json": ({"ranks": {"a": 1}}, lambda path: Plan.load(path.parent)),
}


@pytest.mark.parametrize("name", JSON_FILES)
@FUZZ
@given(mutations=st.lists(MUTATIONS, min_size=1, max_size=3))
def test_records_with_anything_in_any_place(tmp_path: Path, name: str, mutations: list[Mutation]) -> None:
    content, read = JSON_FILES[name]
    changed = copy.deepcopy(content)
    for mutation in mutations:
        if len(places(changed)) > 1:
            changed = mutated(changed, mutation)
    (tmp_path / name).write_bytes(json.dumps(changed, default=str, skipkeys=True).encode("utf-8", "surrogatepass"))
    says_one_line(lambda: read(tmp_path / name))


@pytest.mark.parametrize("name", JSON_FILES)
@FUZZ
@given(data=st.data())
def test_records_with_damage(tmp_path: Path, name: str, data: st.DataObject) -> None:
    content, read = JSON_FILES[name]
    text = bytearray(json.dumps(content).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        text[start : start + data.draw(st.integers(0, 10))] = data.draw(st.binary(max_size=4))
    (tmp_path / name).write_bytes(bytes(text))
    says_one_line(lambda: read(tmp_path / name))


def test_the_record_that_is_changed_is_sound(tmp_path: Path) -> None:
    RECORD.write(tmp_path / "record.json")
    assert read_record(tmp_path / "record.json") == RECORD
    files.write_json(tmp_path / "manifest.json", MANIFEST)
    assert read_manifest(tmp_path / "manifest.json") == Manifest.model_validate(MANIFEST)


def damaged(content: bytes, data: st.DataObject) -> bytes:
    changed = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    return bytes(changed[: data.draw(st.integers(0, len(changed)))] if data.draw(st.booleans()) else changed)


@FUZZ
@given(data=st.data())
def test_tensors_with_damage(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "adaptation.safetensors"
    save_tensors(path, {"a": torch.arange(8.0), "b": torch.ones(2, 3)}, {"key": "x"})
    path.write_bytes(damaged(path.read_bytes(), data))
    says_one_line(lambda: load_tensors(path))


def same_rows(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    assert found.equals(expected)


@FUZZ
@given(data=st.data())
def test_scores_with_damage_are_the_rows_of_before_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    """The checksum is there for this: no damage anywhere gives other numbers."""
    row = dict.fromkeys(COLUMNS, "x") | {"seed": 1, "value": 27.5, "crop_border": 0}
    frame = typed(pd.DataFrame([row | {"image": str(image), "value": 27.5 + image} for image in range(3)]))
    path = tmp_path / "scores.parquet"
    write_scores(frame, path, BASIS, "key")
    path.write_bytes(damaged(path.read_bytes(), data))
    says_one_line(lambda: same_rows(read_scores(path).rows, frame))
