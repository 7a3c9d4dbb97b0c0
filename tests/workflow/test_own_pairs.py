"""A folder of pairs and a weights file of one's own: known by content, kept apart, and never lost."""

from __future__ import annotations

import shutil

import pytest
import safetensors.torch

from adaptsr.data.images import write_png
from tests.factories import noise, write_pair
from tests.workflow.conftest import Workspace

pytestmark = pytest.mark.slow

RUN = "results/demo/given/lora/r1/seed1"


@pytest.fixture(scope="module")
def own(workspace: Workspace) -> Workspace:
    """A profile that takes data and weights from the command line, five pairs, and two weights files."""
    for name in "abcde":
        write_pair(workspace.root / "pairs", name)
    first = workspace.root / "resources/demo/safmn.safetensors"
    shutil.copy(first, workspace.root / "first.safetensors")
    changed = {key: value * 1.01 for key, value in safetensors.torch.load_file(first).items()}
    safetensors.torch.save_file(changed, workspace.root / "second.safetensors")
    content = workspace.profile()
    content["datasets"] = {
        "camera": {
            "kind": "pairs",
            "lr": "${data}/lr",
            "hr": "${data}/hr",
            "split": {"train": "rest", "validation": "first 1", "test": "last 1"},
        }
    }
    content["data"] = {
        "train": [{"dataset": "camera"}],
        "validation": {"dataset": "camera", "split": "validation"},
        "test": [{"dataset": "camera"}],
    }
    content["backbones"] = {"given": {"architecture": "auto", "weights": "${weights}"}}
    content["baselines"] = {name: {"rows": []} for name in content["baselines"]} | {"lora": {"rows": ["r1"]}}
    content["seeds"] = [1]
    content.pop("pretraining", None)
    content["report"]["comparisons"] = []
    workspace.write_profile(content)
    return workspace


def run(own: Workspace, data: str = "pairs", weights: str = "first.safetensors") -> str:
    done = own.snakemake(
        "--cores", "2", "results/demo/scores.parquet", "--config", f"data={data}", f"weights={weights}"
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


def superseded(own: Workspace) -> int:
    return len(list((own.root / "results/demo/superseded").rglob("record.json")))


def trained(said: str) -> bool:
    return "validation PSNR-Y" in said


def test_a_path_however_spelled_is_the_same_data(own: Workspace) -> None:
    assert trained(run(own))
    for data in ("pairs/", "./pairs", str(own.root / "pairs")):
        assert "Nothing to be done" in run(own, data)


def test_an_added_and_a_removed_pair_are_noticed(own: Workspace) -> None:
    before = (own.root / RUN / "adaptation.safetensors").read_bytes()
    write_pair(own.root / "pairs", "bb")
    assert trained(run(own))
    assert superseded(own) == 1
    for side in ("lr", "hr"):
        (own.root / f"pairs/{side}/bb.png").unlink()
    said = run(own)
    assert not trained(said)
    assert "brought back" in said
    assert (own.root / RUN / "adaptation.safetensors").read_bytes() == before


def test_a_changed_pair_is_noticed(own: Workspace) -> None:
    path = own.root / "pairs/hr/c.png"
    before = path.read_bytes()
    write_png(path, noise("hr c", 64, 64) // 2)
    assert trained(run(own))
    path.write_bytes(before)
    assert not trained(run(own))


def test_other_weights_make_another_run_and_both_are_kept(own: Workspace) -> None:
    kept = superseded(own)
    assert trained(run(own, weights="second.safetensors"))
    assert superseded(own) == kept + 1
    assert not trained(run(own))


def test_a_run_is_not_merged_into_exchanged_weights(own: Workspace) -> None:
    path = own.root / "first.safetensors"
    before = path.read_bytes()
    shutil.copy(own.root / "second.safetensors", path)
    done = own.adaptsr("merge", RUN, "-o", "merged.safetensors")
    path.write_bytes(before)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"first.safetensors: not the weights that {RUN} was trained from" in done.stderr
    assert not (own.root / "merged.safetensors").exists()
    assert own.adaptsr("merge", RUN, "-o", "merged.safetensors").returncode == 0
