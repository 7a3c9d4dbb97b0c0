"""Finished runs are never lost: one that another takes the place of is set aside, and brought back by its key."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from adaptsr.adaptation.reparametrization import Plan
from adaptsr.backbones.build import build
from adaptsr.backbones.inference import restore
from adaptsr.config import schema
from adaptsr.data.manifest import manifest_path
from adaptsr.data.prepare import prepare
from adaptsr.data.store import load_split
from adaptsr.errors import UserError
from adaptsr.metrics.psnr import psnr_y
from adaptsr.runs.loading import load_run, merge_run
from adaptsr.runs.matrix import Matrix
from adaptsr.runs.records import RecordTooNew, RunRecord, read_record
from adaptsr.runs.run import Run
from adaptsr.runs.superseded import bring_back, set_aside
from adaptsr.tensors import load_tensors
from adaptsr.training import objectives
from adaptsr.training.context import TrainingContext
from adaptsr.training.termination import Terminated
from adaptsr.training.train_runs import ensure_runs, train_run
from tests import factories
from tests.factories import pairs_profile, write_pairs

ROW = "lora/r1"
SMALL = schema.Backbone(architecture="edsr", options={"num_feat": 4, "num_block": 1})
PAST = Path(__file__).parents[1] / "runs/past/record-1.json"


def write_weights(path: str, seed: int) -> None:
    torch.manual_seed(seed)
    torch.save(build(SMALL, 4).state_dict(), path)


def matrix_of(data: str = "a", weights: str = "a.pth", **training: Any) -> Matrix:
    content = pairs_profile(
        {"train": "rest", "test": "last 1"},
        training={"iterations": 2, "batch_size": 1, "crop": 32, "lr": 0.01, "validate_every": 2, **training},
    )
    content["datasets"]["photos"].update(lr=f"{data}/lr", hr=f"{data}/hr")
    content["data"]["validation"]["split"] = "train"
    content["backbones"]["edsr"]["weights"] = weights
    matrix = factories.matrix_of(content)
    prepare("photos", matrix.profile.datasets["photos"], manifest_path("photos").parent, 4)
    return matrix


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        write_pairs(Path(name), [f"{name}{i}" for i in range(3)], (8, 8))
        write_weights(f"{name}.pth", ord(name))
    return tmp_path


def train(matrix: Matrix) -> list[str]:
    said: list[str] = []
    ensure_runs(matrix, "edsr", ROW, [1], said.append)
    return said


def trained(said: list[str]) -> bool:
    return any("iteration" in line for line in said)


def place(matrix: Matrix, superseded: str = "") -> Path:
    """The folder of the run, or of one that was set aside under this key."""
    return Run("edsr", ROW, 1).folder(matrix.results / "superseded" / superseded if superseded else matrix.results)


def record_of(matrix: Matrix) -> RunRecord:
    return read_record(place(matrix) / "record.json")


@pytest.mark.parametrize(
    "other", [{"data": "b"}, {"weights": "b.pth"}, {"lr": 0.02}], ids=["data", "weights", "schedule"]
)
def test_a_then_b_keeps_both_and_a_comes_back_without_training(other: dict[str, Any]) -> None:
    matrix = matrix_of()
    train(matrix)
    first, weights = record_of(matrix), (place(matrix) / "adaptation.safetensors").read_bytes()
    said = train(matrix_of(**other))
    kept = place(matrix, first.key)
    assert any("holds another run than the profile asks for, which is kept in" in line for line in said)
    assert trained(said)
    assert read_record(kept / "record.json") == first
    second = record_of(matrix)
    assert second.key != first.key
    said = train(matrix_of())
    assert not trained(said)
    assert record_of(matrix) == first
    assert (place(matrix) / "adaptation.safetensors").read_bytes() == weights
    assert read_record(place(matrix, second.key) / "record.json") == second


def test_a_record_of_older_code_is_set_aside_and_said() -> None:
    matrix = matrix_of()
    train(matrix)
    path = place(matrix) / "record.json"
    sha256 = json.loads(path.read_text())["adaptation_sha256"]
    content = json.loads(PAST.read_text()) | {"adaptation_sha256": sha256, "plan_sha256": None}
    path.write_text(json.dumps(content))
    said = train(matrix)
    assert sum("of older code, whose keys cannot be compared" in line for line in said) == 1
    assert trained(said)
    [kept] = (matrix.results / "superseded").rglob("record.json")
    assert json.loads(kept.read_text()) == content


def test_a_run_of_later_code_is_left_alone() -> None:
    matrix = matrix_of()
    train(matrix)
    path = place(matrix) / "record.json"
    content = json.dumps(json.loads(path.read_text()) | {"schema": 99})
    path.write_text(content)
    with pytest.raises(RecordTooNew, match="schema 99"):
        train(matrix)
    assert path.read_text() == content


def test_a_run_is_not_merged_into_exchanged_weights() -> None:
    matrix = matrix_of()
    train(matrix)
    assert merge_run(place(matrix))
    shutil.copy("b.pth", "a.pth")
    with pytest.raises(
        UserError, match=r"^a\.pth: not the weights that results/small/edsr/lora/r1/seed1 was trained from"
    ):
        merge_run(place(matrix))


def test_a_record_says_how_its_run_was_trained(monkeypatch: pytest.MonkeyPatch, no_weights: Path) -> None:
    """What was used, which group matched nothing, which loss was left out; once its weights are here, it trains again."""
    objectives._objective.cache_clear()
    objective = {"terms": {"charbonnier": 1.0, "perceptual": 1.0}, "missing_weights": "leave_out"}
    groups = {"*.b": {"lr": 4.0}, "*.gone": {"lr": 2.0}}
    recipe: dict[str, Any] = {"optimizer": "lion", "ema": 0.5, "objective": objective, "groups": groups}
    matrix = matrix_of(**recipe)
    train(matrix)
    record = record_of(matrix)
    used = {"optimizer": "lion", "betas": [0.9, 0.99], "ema": 0.5}
    assert {key: record.config["training"][key] for key in used} == used
    assert record.config["training"]["groups"]["*.b"]["lr"] == 4.0
    assert record.notes == [
        "its weights are the moving average of the trained parameters, decay 0.5",
        "training.groups: '*.gone' matches no trained parameter",
    ]
    assert record.left_out["perceptual"].startswith("VGG19 weights not available")
    assert not trained(train(matrix))

    monkeypatch.setitem(objectives.LOSSES, "perceptual", lambda declared, device: functional.mse_loss)
    objectives._objective.cache_clear()
    assert any("trained without perceptual, whose weights are here now" in line for line in train(matrix))
    assert record_of(matrix).left_out == {}
    objectives._objective.cache_clear()


@pytest.mark.parametrize("average", [None, 0.5])
def test_a_run_ends_with_its_moving_average(average: float | None) -> None:
    """Its last validation is of these weights, and differs from that of the run without it."""
    matrix = matrix_of(ema=average, iterations=3)
    train(matrix)
    state = load_tensors(place(matrix) / "adaptation.safetensors")[0]
    plain = matrix_of(iterations=3, lr=0.01)
    train(plain)
    other = load_tensors(place(plain) / "adaptation.safetensors")[0]
    assert all(torch.equal(state[name], other[name]) for name in state) == (average is None)


def test_a_run_keeps_the_weights_that_did_best_on_the_validation_split() -> None:
    """A learning rate that spoils the model: the last weights are not the best, and the record says which are kept."""
    matrix = matrix_of(keep="best", iterations=6, validate_every=1, lr=0.3)
    train(matrix)
    record = record_of(matrix)
    assert record.kept == max(record.validation, key=lambda point: point.psnr_y)
    assert record.kept != record.validation[-1]
    assert record.notes == [
        f"its weights are those of iteration {record.kept.iteration} of 6, which did best on the validation split: "
        f"PSNR-Y {record.kept.psnr_y:.2f} dB (training.keep: best)"
    ]
    model, pairs = load_run(place(matrix)), load_split(manifest_path("photos"), "train")
    scores = [float(psnr_y(restore(model, lr[None]), hr[None])) for lr, hr in zip(pairs.lr, pairs.hr, strict=True)]
    assert sum(scores) / len(scores) == pytest.approx(record.kept.psnr_y, abs=1e-4)
    last = matrix_of(iterations=6, validate_every=1, lr=0.3)
    assert last.variant_key("edsr", ROW) != matrix.variant_key("edsr", ROW)


def test_a_validation_restores_as_many_images_as_the_profile_says() -> None:
    few = matrix_of(validate_images=1)
    train(few)
    pairs = load_split(manifest_path("photos"), "train")
    restored = restore(load_run(place(few)), pairs.lr[0][None])
    assert len(pairs) == 2
    assert record_of(few).validation[-1].psnr_y == pytest.approx(float(psnr_y(restored, pairs.hr[0][None])), abs=1e-4)
    assert few.variant_key("edsr", ROW) != matrix_of().variant_key("edsr", ROW)


def test_a_run_plans_and_trains_on_as_many_images_as_the_profile_says() -> None:
    def images_seen(matrix: Matrix) -> dict[str, int]:
        """A crop is a whole image here, whichever way round: the sum of its pixels tells which."""
        context = TrainingContext.of(matrix, "edsr")
        cuts = {purpose: context.cuts(matrix.profile.schedule, 1, purpose) for purpose in ("train", "calibration")}
        return {
            purpose: len({int(image.int().sum()) for index in range(20) for image in cut(index).hr})
            for purpose, cut in cuts.items()
        }

    assert images_seen(matrix_of()) == {"train": 2, "calibration": 2}
    assert images_seen(matrix_of(images=1)) == {"train": 1, "calibration": 1}
    assert matrix_of(images=1).variant_key("edsr", ROW) != matrix_of().variant_key("edsr", ROW)
    with pytest.raises(UserError, match=r"training\.images: 3, but the training split of dataset 'photos' has 2"):
        train(matrix_of(images=3))


def test_a_stopped_run_goes_on_with_its_own_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """Made again, on another card or by another library, it might differ from the one that the weights belong to."""
    matrix = matrix_of(iterations=4)
    context, variant = TrainingContext.of(matrix, "edsr"), matrix.variant(ROW, "edsr")
    with pytest.raises(Terminated):
        train_run(context, variant, 1, place(matrix), lambda line: None, lambda: True)
    plan = Plan.sha256(place(matrix))
    monkeypatch.setattr(TrainingContext, "plan", lambda *_: pytest.fail("planned again"))
    train(matrix)
    assert (record_of(matrix).resumed_from, record_of(matrix).plan_sha256) == (1, plan)


def test_a_stop_between_two_questions_writes_the_checkpoint_it_promises() -> None:
    """A signal comes at any time: what an iteration has been told once holds until its end."""
    matrix, told = matrix_of(iterations=9), iter([False, True])
    context, variant = TrainingContext.of(matrix, "edsr"), matrix.variant(ROW, "edsr")
    with pytest.raises(Terminated, match="after iteration 2; a checkpoint is written"):
        train_run(context, variant, 1, place(matrix), lambda line: None, lambda: next(told))
    assert [path.name for path in (place(matrix) / "checkpoints").glob("*.safetensors")] == ["000000002.safetensors"]


def test_two_rows_that_are_one_run_by_their_keys_are_both_kept() -> None:
    results = Path("results")
    runs = [Run("edsr", row, 1) for row in ("lora/r8", "lora/r8-paper")]
    for run in runs:
        run.folder(results).mkdir(parents=True)
        (run.folder(results) / "record.json").write_text(run.variant)
        set_aside(run, results, "key")
    assert [bring_back(run, results, "key") for run in runs] == [True, True]
    assert [(run.folder(results) / "record.json").read_text() for run in runs] == [run.variant for run in runs]


def test_what_version_0_3_set_aside_is_brought_back() -> None:
    run, kept = Run("edsr", ROW, 1), Path("results/superseded/key")
    kept.mkdir(parents=True)
    (kept / "record.json").write_text("kept")
    assert bring_back(run, Path("results"), "key")
    assert (run.folder(Path("results")) / "record.json").read_text() == "kept"


def test_validated_images_are_spread_evenly() -> None:
    training = matrix_of(validate_images=4).profile.schedule
    assert training.validated(100) == [0, 25, 50, 75]
    assert training.validated(3) == [0, 1, 2]
    assert matrix_of().profile.schedule.validated(3) == [0, 1, 2]
