"""What a run's key is made of: content, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydantic
import pytest
import torch

from adaptsr.backbones.build import build
from adaptsr.config import schema
from adaptsr.data.images import write_png
from adaptsr.data.manifest import manifest_path
from adaptsr.data.prepare import prepare
from adaptsr.runs import keys
from adaptsr.runs.matrix import Matrix
from tests.factories import Json, matrix_of, profile_content, write_pair, write_pairs

Change = Callable[[Json], Any]

GOLDEN = {
    ("edsr", "full_finetuning/all"): "a1e48fe861e7b61a743645f6b45b76d9b5e265bc2327bda472580cd7d43fc7eb",
    ("edsr", "lora/r1"): "42907f1b58729b3841c7d85204d40111421eacb2b8963f12c0f3078703255efb",
    ("edsr", "rank_aware/gradient"): "e289e51b48823d20cdc9a37753716883fb8edb8a262905589990e1b2b35c55ff",
    ("swinir", "lora/r1"): "4fbe9c944cb432ed3799268c5eacfee33d87a738d3c289df50e46d10c080a15d",
}
RUN_KEY = "cb7b36225870275c1ca7527d80cc3b312ff25cd8c57cf989afb17b668e8950ec"
INPUTS = keys.Inputs(weights="1" * 64, train=("2" * 64,), validation="3" * 64)


def demo(change: Change = lambda content: None) -> Matrix:
    """The demo's schedule as it was when these keys were first made."""
    content = profile_content()
    content["training"]["validate_every"] = 100
    content["baselines"]["full_finetuning"]["training"]["lr"] = 1e-3
    change(content)
    return matrix_of(content)


def variant_keys(matrix: Matrix) -> dict[tuple[str, str], str]:
    return {(backbone, row): matrix.variant_key(backbone, row) for backbone, row in GOLDEN}


def test_keys_are_those_of_earlier_code() -> None:
    """A change here makes finished runs of every profile stale: days of training, so never by accident."""
    assert variant_keys(demo()) == GOLDEN
    assert keys.run_key(GOLDEN["edsr", "lora/r1"], INPUTS, 1) == RUN_KEY


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.update(title="Another title"),
        lambda c: c.update(name="another-name"),
        lambda c: c["backbones"]["edsr"].update(title="Another title"),
        lambda c: c["backbones"]["edsr"].update(weights="elsewhere/edsr.safetensors"),
        lambda c: c["backbones"]["edsr"].update(kinds={}),
        lambda c: c["training"].update(precision="float32", diverged_above=10.0),
        lambda c: c["training"].update(checkpoint_minutes=1.0, checkpoint_iterations=5),
        lambda c: c["compute"].update(device="auto", jobs_per_gpu=3, seeds_per_job=1),
        lambda c: c["data"]["train"][0].update(weight=1.0),
        lambda c: c["scoring"]["metrics"].pop("gmsd"),
        lambda c: c["report"].update(comparisons=[]),
        lambda c: c["baselines"]["rank_aware"]["variants"]["gradient"].update(title="Another title"),
    ],
    ids=range(12),
)
def test_what_changes_no_result_changes_no_key(change: Change) -> None:
    assert variant_keys(demo(change)) == GOLDEN


@pytest.mark.parametrize(
    ("change", "stale"),
    [
        (lambda c: c.update(protocol=2), set(GOLDEN)),
        (lambda c: c["compute"].update(threads=2), set(GOLDEN)),
        (lambda c: c["compute"].update(deterministic=False), set(GOLDEN)),
        (lambda c: c["training"].update(iterations=100), set(GOLDEN)),
        (lambda c: c["data"]["train"][0].update(weight=2.0), set(GOLDEN)),
        (lambda c: c["data"]["train"][0].update(degradation={}), set(GOLDEN)),
        (lambda c: c["backbones"]["swinir"].update(kinds={"conv_first": "skip"}), {("swinir", "lora/r1")}),
        (
            lambda c: c["baselines"]["rank_aware"]["variants"]["gradient"].update(budget="lora/r2"),
            {("edsr", "rank_aware/gradient")},
        ),
        (
            lambda c: c["baselines"]["lora"].update(variants={"r4": {"rank": 3}}),
            {("edsr", "rank_aware/gradient")},
        ),
        (
            lambda c: c["baselines"]["full_finetuning"]["training"].update(lr=1e-4),
            {("edsr", "full_finetuning/all")},
        ),
    ],
    ids=range(10),
)
def test_what_changes_results_changes_keys(change: Change, stale: set[tuple[str, str]]) -> None:
    after = variant_keys(demo(change))
    assert {name for name in GOLDEN if after[name] != GOLDEN[name]} == stale


def test_a_new_option_with_a_default_changes_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """In every section that enters a key, as code of a later day would have it."""
    changed = ("Blur", "Degradation", "Compute", "Backbone", "Training", "Source")

    def rebuild() -> None:
        for name in (*changed, "Data", "Profile"):
            getattr(schema, name).model_rebuild(force=True)

    for name in changed:
        section: type[pydantic.BaseModel] = getattr(schema, name)
        section.model_fields["new_option"] = pydantic.fields.FieldInfo(annotation=int, default=7)
    try:
        rebuild()
        matrix = demo()
        assert matrix.profile.training.model_dump()["new_option"] == 7
        assert variant_keys(matrix) == GOLDEN
        assert variant_keys(demo(lambda c: c["training"].update(new_option=8))) != GOLDEN
    finally:
        for name in changed:
            del getattr(schema, name).model_fields["new_option"]
        rebuild()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_pairs(Path("pairs"), "abc", (8, 8))
    torch.manual_seed(0)
    small = schema.Backbone(architecture="edsr", options={"num_feat": 4, "num_block": 1})
    torch.save(build(small, 4).state_dict(), "edsr.pth")
    return tmp_path


def on_pairs(lr: str, hr: str, weights: str = "edsr.pth") -> keys.Inputs:
    """The inputs of a profile on a folder of pairs, prepared anew."""

    def change(content: Json) -> None:
        split = {"train": "rest", "test": "last 1"}
        content["datasets"] = {"pairs": {"kind": "pairs", "lr": lr, "hr": hr, "split": split}}
        content["data"] = {
            "train": [{"dataset": "pairs"}],
            "validation": {"dataset": "pairs", "split": "train"},
            "test": [{"dataset": "pairs"}],
        }
        content["backbones"]["edsr"]["weights"] = weights
        content["pretraining"] = None

    matrix = demo(change)
    prepare("pairs", matrix.profile.datasets["pairs"], manifest_path("pairs").parent, 4)
    return matrix.inputs("edsr")


def test_a_folder_is_known_by_its_images(folder: Path) -> None:
    """However its path is written, and wherever it lies."""
    first = on_pairs("pairs/lr", "pairs/hr")
    assert first == on_pairs("pairs/lr/", "pairs/hr/") == on_pairs(str(folder / "pairs/lr"), "./pairs/hr")
    (folder / "pairs").rename(folder / "moved")
    assert on_pairs("moved/lr", "moved/hr", str(folder / "edsr.pth")) == first
    write_png(Path("moved/hr/a.png"), torch.zeros(3, 32, 32, dtype=torch.uint8))
    changed = on_pairs("moved/lr", "moved/hr")
    assert changed.train != first.train
    assert changed.weights == first.weights
    write_pair(Path("moved"), "0", (8, 8))
    added = on_pairs("moved/lr", "moved/hr")
    assert added.train not in (first.train, changed.train)
    for side in ("lr", "hr"):
        Path(f"moved/{side}/0.png").unlink()
    assert on_pairs("moved/lr", "moved/hr") == changed


def test_weights_are_known_by_their_content(folder: Path) -> None:
    first = on_pairs("pairs/lr", "pairs/hr")
    Path("edsr.pth").rename("copy.pth")
    assert on_pairs("pairs/lr", "pairs/hr", "copy.pth") == first
    Path("copy.pth").write_bytes(Path("copy.pth").read_bytes() + b" ")
    assert on_pairs("pairs/lr", "pairs/hr", "copy.pth").weights != first.weights
