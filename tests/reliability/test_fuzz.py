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
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from adaptsr.adaptation.reparametrization import Plan
from adaptsr.config import reading
from adaptsr.data.manifest import read_manifest
from adaptsr.errors import UserError
from adaptsr.runs.choices import read_choice
from adaptsr.runs.matrix import Matrix
from adaptsr.runs.records import read_record
from adaptsr.scoring.table import COLUMNS, Fingerprint, read_scores, typed, write_scores
from adaptsr.tensors import load_tensors, save_tensors
from tests.factories import choice, profile_content, run_record

FUZZ = settings(
    max_examples=int(os.environ.get("ADAPTSR_FUZZ_EXAMPLES", "60")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
SCALARS = st.one_of(
    st.none(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.dates(),
    st.sampled_from(["../x", "${x}", "~nobody", "-1", "1e400", ".nan", "<script>", "\ud800", "a\nb", "lora/r1"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.one_of(st.text(max_size=8), st.integers()), inner, max_size=4)
    ),
    max_leaves=8,
)
MUTATIONS = st.lists(st.tuples(st.integers(0, 10_000), st.booleans(), VALUES), min_size=1, max_size=3)


def places(content: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place of nested mappings and lists."""
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return [path, *(place for key, item in items for place in places(item, (*path, key)))]


def mutated(content: Any, mutations: list[tuple[int, bool, Any]]) -> Any:
    """A copy in which values are removed or replaced."""
    changed = copy.deepcopy(content)
    for number, remove, value in mutations:
        if found := places(changed)[1:]:
            *parents, last = found[number % len(found)]
            target = changed
            for key in parents:
                target = target[key]
            if remove:
                del target[last]
            else:
                target[last] = value
    return changed


def damaged(content: bytes, data: st.DataObject) -> bytes:
    changed = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(changed)))
        changed[start : start + data.draw(st.integers(0, 10))] = data.draw(st.binary(max_size=4))
    return bytes(changed)


def says_one_line(read: Callable[[], object]) -> None:
    message = ""
    try:
        read()
    except UserError as refused:
        message = str(refused)
    assert message.isprintable()
    assert len(message) < 3000


def planned(path: Path) -> None:
    """What the workflow does with a profile while it parses: rows and keys of all jobs."""
    matrix = Matrix.of(reading.load_profile(path, {}), str(path))
    for backbone in matrix.profile.backbones:
        for row in matrix.variants:
            matrix.untuned.variant_key(backbone, row)
            matrix.choice_path(backbone, row)


TUNING = {"grid": {"lr": [1e-3, 1e-2], "alpha": [1, 2]}, "seeds": [9], "metric": "psnr_y", "choices": "nowhere"}
ITEM = {"name": "a", "scene": "a", "lr": "a", "hr": "b", "lr_sha256": "c", "hr_sha256": "d"}
MANIFEST = {"dataset": "x", "scale": 4, "kind": "pairs", "split_rule": "", "splits": {"test": [ITEM]}}
READERS: dict[str, tuple[Any, Callable[[Path], object]]] = {
    "profile.yaml": (profile_content() | {"tuning": TUNING}, planned),
    "choice.json": (choice().model_dump(mode="json"), read_choice),
    "record.json": (run_record().model_dump(mode="json", by_alias=True), read_record),
    "manifest.json": (MANIFEST, lambda path: read_manifest(path).digest()),
    "plan.json": ({"ranks": {"a": 1}}, lambda path: Plan.load(path.parent)),
}


@pytest.mark.parametrize("name", READERS)
@FUZZ
@example(mutations=[])
@given(mutations=MUTATIONS)
def test_files_with_anything_in_any_place(tmp_path: Path, name: str, mutations: list[tuple[int, bool, Any]]) -> None:
    """Values are replaced or removed; a file in which nothing is changed is sound."""
    content, read = READERS[name]
    changed = mutated(content, mutations)
    text = yaml.dump(changed, allow_unicode=True) if name.endswith("yaml") else json.dumps(changed, default=str)
    (tmp_path / name).write_bytes(text.encode("utf-8", "surrogatepass"))
    if mutations:
        says_one_line(lambda: read(tmp_path / name))
    else:
        read(tmp_path / name)


@FUZZ
@given(data=st.data())
def test_damaged_tensors_and_scores_are_those_of_before_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    """The checksum of scores is there for this: no damage anywhere gives other numbers."""
    path = tmp_path / "adaptation.safetensors"
    save_tensors(path, {"a": torch.arange(8.0), "b": torch.ones(2, 3)}, {"key": "x"})
    path.write_bytes(damaged(path.read_bytes(), data))
    says_one_line(lambda: load_tensors(path))

    row = dict.fromkeys(COLUMNS, "x") | {"seed": 1, "crop_border": 0}
    frame = typed(pd.DataFrame([row | {"image": str(image), "value": 27.5 + image} for image in range(3)]))
    path = tmp_path / "scores.parquet"
    write_scores(frame, path, Fingerprint(weights={}, tests={}, metrics={}))
    path.write_bytes(damaged(path.read_bytes(), data))
    says_one_line(lambda: pd.testing.assert_frame_equal(read_scores(path).rows, frame))
