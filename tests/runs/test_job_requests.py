"""What jobs ask a cluster for follows the estimate, and is bounded where nothing is known."""

from __future__ import annotations

import pytest
import yaml

from adaptsr.runs import job_requests
from adaptsr.runs.estimate import estimate
from adaptsr.runs.parts import Part, take_part
from tests.factories import REPOSITORY, matrix_of, profile_content


def test_a_training_job_asks_for_twice_the_estimate() -> None:
    paper = matrix_of(profile_content("paper"))
    backbone = estimate(take_part(paper, Part("safmn", "1", "lora/r8"))).backbones[0]
    hours = (backbone.training_hours or 0) + (backbone.validation_hours or 0)
    minutes = job_requests.training_minutes(paper, "safmn", "lora/r8", 1)
    assert minutes == pytest.approx(15 + 2 * 60 * hours, abs=1)
    assert job_requests.training_minutes(paper, "safmn", "lora/r8", 2) == pytest.approx(2 * minutes - 15, abs=1)
    assert job_requests.training_minutes(paper, "swinir", "full_finetuning/all", 1) == 24 * 60


def test_a_scoring_job_asks_for_its_rows_and_seeds() -> None:
    paper = matrix_of(profile_content("paper"))
    one, two = (
        job_requests.scoring_minutes(paper, "swinir", rows, paper.tests[0].dataset)
        for rows in (["lora/r1"], ["lora/r1", "lora/r4"])
    )
    assert 15 < one < two < 24 * 60


def test_tuning_asks_for_all_points() -> None:
    content = profile_content("paper")
    content["tuning"] = {
        "grid": {"lr": [1e-4, 1e-3]},
        "seeds": [9],
        "training": {"iterations": 10000},
        "metric": "psnr_y",
    }
    tuned = matrix_of(content)
    assert 15 < job_requests.tuning_minutes(tuned, "safmn", "lora/r8") < 24 * 60


def test_what_is_not_known_has_a_bound() -> None:
    """Nothing is published of the demo's backbones, and published times are not of a CPU."""
    demo = matrix_of(profile_content())
    assert job_requests.training_minutes(demo, "safmn", "lora/r1", 5) == job_requests.UNKNOWN_MINUTES
    assert job_requests.scoring_minutes(demo, "safmn", ["lora/r1"], "degraded") == job_requests.UNKNOWN_MINUTES
    assert job_requests.scoring_minutes(demo, None, ["external/x"], "degraded") == job_requests.UNKNOWN_MINUTES


def test_memory_on_a_cpu_follows_the_pixels_of_a_batch() -> None:
    content = profile_content()
    assert job_requests.training_mb(matrix_of(content).profile, matrix_of(content).profile.training) < 2500
    content["training"].update(batch_size=8, crop=256)
    assert job_requests.training_mb(matrix_of(content).profile, matrix_of(content).profile.training) > 15_000
    content["compute"]["device"] = "auto"
    assert job_requests.training_mb(matrix_of(content).profile, matrix_of(content).profile.training) == 8000


def test_execution_profiles_say_how_often_and_rules_do_not() -> None:
    """A rule's own `retries` cannot be raised by a user."""
    default, slurm = (
        yaml.safe_load((REPOSITORY / "profiles" / name / "config.yaml").read_text()) for name in ("default", "slurm")
    )
    assert (default["retries"], slurm["retries"]) == (1, 20)
    shared = default.keys() - {"cores", "retries"}
    assert {key: slurm.get(key) for key in shared} == {key: default[key] for key in shared}
    assert not [path for path in (REPOSITORY / "workflow/rules").glob("*.smk") if "retries:" in path.read_text()]
