"""What a profile costs is derived from published numbers, and what is not known is said to be so."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adaptsr.errors import UserError
from adaptsr.runs import estimate
from adaptsr.runs.keys import Inputs
from adaptsr.runs.records import RunRecord
from tests.factories import matrix_of, profile_content

Change = Callable[[dict[str, Any]], None]


def made(name: str, change: Change = lambda content: None) -> estimate.Estimate:
    content = profile_content(name)
    change(content)
    return estimate.estimate(matrix_of(content))


@pytest.fixture(autouse=True)
def nothing_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with none of the data; the catalogue is found beside the package."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


def one_run(backbone: str, baseline: str, variant: str) -> Change:
    """Leaves one variant with one seed on one backbone."""

    def change(content: dict[str, Any]) -> None:
        content["seeds"] = [1]
        content["backbones"] = {backbone: content["backbones"][backbone]}
        for name, changes in content["baselines"].items():
            changes["rows"] = [variant] if name == baseline else []
            changes.pop("only", None)
        content["baselines"].setdefault("peft_library", {"rows": []})
        content["report"]["comparisons"] = []

    return change


@pytest.mark.parametrize(
    ("backbone", "baseline", "variant", "hours"),
    [
        ("swinir", "lora", "r8", 4),
        ("swinir", "full_finetuning", "all", 23),
        ("safmn", "lora", "r8", 1),
        ("safmn", "full_finetuning", "all", 9),
    ],
)
def test_the_hours_that_the_paper_prints(backbone: str, baseline: str, variant: str, hours: float) -> None:
    plan = made("paper", one_run(backbone, baseline, variant))
    assert plan.backbones[0].runs == 1
    assert plan.backbones[0].training_hours == pytest.approx(hours, abs=0.1)
    assert plan.backbones[0].how == "published"


def test_hours_follow_the_pixels_of_an_iteration() -> None:
    def halve(content: dict[str, Any]) -> None:
        one_run("swinir", "lora", "r8")(content)
        content["training"].update(batch_size=16, crop=128)

    assert made("paper", halve).backbones[0].training_hours == pytest.approx(2, abs=0.05)


def test_hours_of_validation_follow_its_images() -> None:
    def whole(content: dict[str, Any]) -> None:
        del content["training"]["validate_images"]

    few, all_of_them = (made("paper", change).backbones[0].validation_hours for change in (lambda content: None, whole))
    assert all_of_them == pytest.approx(5 * (few or 0))  # 20 of DIV2K's 100


def test_the_paper_profile_says_what_is_estimated_and_what_has_to_be_got() -> None:
    plan = made("paper")
    how = {backbone.name: backbone.how for backbone in plan.backbones}
    assert how["edsr"].startswith("estimate: not published")
    assert how["drct"].startswith("estimate: training not published")
    assert plan.hours == pytest.approx(sum(backbone.hours or 0 for backbone in plan.backbones))
    states = {state.source.name: state for state in plan.downloads}
    assert {"div2k-train-hr", "stablesr-testsets", "swinir-m-x4", "drct-x4", "realesrgan-x4plus"} <= set(states)
    assert {state.state for state in plan.downloads} == {"missing"}
    assert states["drealsr-test"].source.fetch == "manual"
    known = [state.source.bytes or 0 for state in plan.downloads if state.source.folder.name == "archives"]
    assert plan.archive_bytes == sum(known)
    text = estimate.to_text(plan)
    assert "Left out until its archive is there: drealsr." in text
    assert "metric weights: AlexNet, missing" in text
    assert "realsr-v3" in text.partition("Disk:")[2], "its size is not published"


def test_images_that_two_datasets_share_are_counted_for_both() -> None:
    """DIV2K's HR images are unpacked for the bicubic and for the unknown degradation."""

    def without_unknown(content: dict[str, Any]) -> None:
        content["data"]["train"] = [content["data"]["train"][0]]
        content["data"]["validation"]["dataset"] = "div2k"

    with_both, with_one = made("paper"), made("paper", without_unknown)
    hr = 3_530_603_713 + 448_993_893
    assert with_both.image_bytes - with_one.image_bytes >= hr
    assert with_both.archive_bytes - with_one.archive_bytes < 10**9


def test_decoded_images_are_counted_by_their_pixels() -> None:
    """Of the demo: 5 scenes of 16 patches to train on, 3 of 2 and 8 of 2 to validate and test, each 128 pixels wide."""
    patches = 6 * 16 + (3 + 8) * 2  # one scene has two photographs
    assert made("demo").decoded_bytes == 3 * patches * (128**2 + 32**2)


def test_the_iphone_profile_takes_less_than_an_hour() -> None:
    plan = made("iphone")
    assert plan.hours is not None
    assert 0 < plan.hours < 1


def test_what_nothing_is_published_for_has_no_hours() -> None:
    plan = made("demo")
    assert {backbone.training_hours for backbone in plan.backbones} == {None}
    assert plan.hours is None
    assert not plan.downloads
    assert "No downloads" in estimate.to_text(plan)


def test_finished_runs_are_counted_and_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the finished seeds of a row took is what the others will take."""

    asked = matrix_of(profile_content())

    def found(path: Path) -> RunRecord:
        """The first seed is of this profile, the second of an earlier one, the others are not there."""
        seed = int(path.parent.name.removeprefix("seed"))
        if seed > 2:
            raise UserError("no such record")
        backbone, baseline, variant = path.parts[-5:-2]
        key = asked.variant_key(backbone, f"{baseline}/{variant}") if seed == 1 else "of an earlier profile"
        inputs = Inputs(weights=None, train=(), validation="not here")
        return RunRecord.model_construct(variant_key=key, inputs=inputs, seed=seed, wall_seconds=3600.0)

    monkeypatch.setattr(estimate.records, "read_record", found)
    plan = estimate.estimate(asked).backbones[0]
    seeds = 5
    assert plan.finished == plan.runs // seeds
    assert plan.training_hours == pytest.approx(plan.finished * (seeds - 1))


def test_the_plan_as_json() -> None:
    plan = json.loads(json.dumps(estimate.to_json(made("paper"))))
    assert plan["gpu_hours"] > 1000
    assert plan["bytes"]["archives"] > 7e9
    assert len(plan["backbones"]) == 4


def test_planning_costs_no_torch(repository: Path) -> None:
    program = "import adaptsr.runs.estimate, sys; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=repository, check=False)
    assert done.returncode == 0


def test_measured_times_of_a_card_count_instead_of_the_paper_s() -> None:
    """Steps of config/timings.tsv in seconds, times the iterations of the profile."""
    change = one_run("swinir", "lora", "r8")
    content = profile_content("paper")
    change(content)
    matrix = matrix_of(content)
    (backbone,) = estimate.estimate(matrix, "H200").backbones
    iterations = matrix.training(matrix.variant("lora/r8"), "swinir").iterations
    assert backbone.training_hours == pytest.approx(iterations * 0.0403 / 3600)
    notes = " ".join(estimate.estimate(matrix, "H200").notes)
    assert "Hours are of one H200, by steps measured on 2026-11-27" in notes
    assert "This profile has training.precision: float32, training.compile: none" in notes
    assert "RTX 4090" not in notes
    with pytest.raises(UserError, match=r"config/timings.tsv has no card 'H20' \(did you mean 'H200'\?\)"):
        estimate.estimate(matrix, "H20")


def test_hours_are_shared_by_gpus() -> None:
    found = made("paper-core")
    assert found.hours
    assert f"On 4 GPUs: {found.hours / 4:,.1f} hours" in estimate.to_text(found, 4)
    assert "GPUs:" not in estimate.to_text(found)
