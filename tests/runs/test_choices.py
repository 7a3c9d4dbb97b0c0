"""Grids, choices, and how a choice reaches the key of a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adaptsr.config.reading import load_profile
from adaptsr.errors import UserError
from adaptsr.files import file_sha256
from adaptsr.runs.choices import best
from adaptsr.runs.matrix import Matrix
from adaptsr.runs.validation import check
from tests.factories import REPOSITORY, Json, choice, matrix_of, pairs_profile, profile_content, write_pairs

GRID = {"lr": [1e-3, 1e-2], "alpha": [1.0, 2.0]}
ROW = "lora/r1"


def tuned(change: Callable[[Json], Any] = lambda content: None, **tuning: object) -> Matrix:
    content = profile_content()
    content["tuning"] = {"grid": GRID, "seeds": [101], "metric": "psnr_y", **tuning}
    change(content)
    return matrix_of(content)


def choose(matrix: Matrix, folder: Path | None = None, **options: object) -> None:
    """Write the choice of `ROW` on SAFMN, as tuning or (in `folder`) a choice made before has it."""
    path = folder / f"safmn/{ROW}.json" if folder else matrix.choice_path("safmn", ROW)
    assert path
    choice(options=options, asked=matrix.asked_of_tuning("safmn", ROW)).write(path)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_every_variant_gets_the_same_grid_but_for_options_that_it_lacks_or_sets() -> None:
    matrix = tuned()
    assert matrix.points("full_finetuning/all") == [{"lr": 1e-3}, {"lr": 1e-2}]
    assert matrix.points(ROW) == [{"lr": lr, "alpha": alpha} for lr in (1e-3, 1e-2) for alpha in (1.0, 2.0)]
    own = tuned(lambda c: c["baselines"]["lora"].update(rows=["r1", "mine"], variants={"mine": {"alpha": 3.0}}))
    assert own.points("lora/mine") == [{"lr": 1e-3}, {"lr": 1e-2}]
    assert tuned(grid={"alpha": [1.0, 2.0]}).choice("safmn", "full_finetuning/all") is None
    assert matrix.choice("safmn", "lora/r64") is None, "the demo does not run it"


def test_a_choice_changes_the_schedule_the_options_and_the_key() -> None:
    matrix = tuned()
    with pytest.raises(
        UserError, match=r"results/demo/tuning/choices/safmn/lora/r1\.json: no such file; .* run snakemake"
    ):
        matrix.variant_key("safmn", ROW)
    keys = []
    for chosen in ({"lr": 1e-3, "alpha": 1.0}, {"lr": 1e-2, "alpha": 1.0}, {"lr": 1e-2, "alpha": 2.0}):
        choose(matrix, **chosen)
        variant = matrix.variant(ROW, "safmn")
        assert (matrix.training(variant, "safmn").lr, variant.options["alpha"]) == (chosen["lr"], chosen["alpha"])
        keys.append(matrix.variant_key("safmn", ROW))
    assert len(set(keys)) == 3
    by_hand = matrix_of(profile_content() | {"training": profile_content()["training"] | {"lr": 1e-2}})
    assert keys[1] == by_hand.variant_key("safmn", ROW), "a choice is what a profile may state itself"
    assert matrix.untuned.variant_key("safmn", ROW) == matrix_of(profile_content()).variant_key("safmn", ROW)


@pytest.mark.parametrize(
    ("change", "again"),
    [
        (lambda c: c["tuning"].update(grid={"lr": [1e-3, 1e-2, 0.1]}), True),
        (lambda c: c["tuning"].update(seeds=[102]), True),
        (lambda c: c["tuning"].update(metric="ssim_y"), True),
        (lambda c: c["tuning"].update(training={"iterations": 7}), True),
        (lambda c: c.update(protocol=2), True),
        (lambda c: c["training"].update(lr=0.5), False),  # every point has its own
        (lambda c: c.update(seeds=[8, 9], title="Another"), False),
        (lambda c: c["scoring"]["metrics"]["psnr_y"].update(title="Another"), False),
    ],
)
def test_what_was_tried_is_what_makes_a_choice_stale(change: Callable[[Json], Any], again: bool) -> None:
    matrix = tuned(change)
    asked, before = (one.asked_of_tuning("safmn", ROW) for one in (matrix, tuned()))
    assert (asked != before) == again
    choose(tuned(), lr=1e-2, alpha=1.0)
    if again:
        with pytest.raises(UserError, match="chosen on another grid, schedule or metric"):
            matrix.chosen("safmn", ROW)


def test_choices_made_before_are_used_as_long_as_they_are_of_this_grid() -> None:
    folder = Path("made-before")
    matrix = tuned(choices=str(folder))
    assert matrix.choice_path("safmn", ROW) == Path("results/demo/tuning/choices/safmn/lora/r1.json")
    choose(matrix, folder, lr=1e-2, alpha=1.0)
    assert matrix.choice_path("safmn", ROW) == folder / "safmn/lora/r1.json"
    assert matrix.chosen("safmn", ROW) == {"lr": 1e-2, "alpha": 1.0}
    other = tuned(choices=str(folder), seeds=[102])
    assert other.choice_path("safmn", ROW) == Path("results/demo/tuning/choices/safmn/lora/r1.json")


def test_tuning_runs_have_a_place_seeds_a_schedule_and_images_of_their_own() -> None:
    matrix = tuned(lambda c: c["baselines"]["lora"].update(training={"iterations": 999}), training={"iterations": 7})
    at = matrix.at({"lr": 1e-2, "alpha": 2.0})
    assert at.results == Path("results/demo/tuning/lr=0.01,alpha=2.0")
    assert at.profile.seeds == [101]
    assert [(test.dataset, test.split) for test in at.tests] == [("degraded", "validation")]
    assert list(at.profile.scoring.metrics) == ["psnr_y"]
    variant = at.variant(ROW, "safmn")
    assert (at.training(variant, "safmn").iterations, matrix.untuned.training(variant, "safmn").iterations) == (7, 999)


def test_a_diverged_seed_rules_a_point_out() -> None:
    curve = choice({1e-3: [22.0, 22.2], 1e-2: [30.0, None], 0.1: [22.4, 22.0]}).tried
    assert best(curve, lower_is_better=False) == {"lr": 0.1}
    assert best(curve, lower_is_better=True) == {"lr": 1e-3}
    assert best(choice({1e-3: [None], 1e-2: [None]}).tried, lower_is_better=True) == {}


def test_training_may_differ_by_variant() -> None:
    content = profile_content()
    content["baselines"]["lora"].update(
        training={"lr": 5e-3, "decay": 0.5},
        variants={"r4": {"training": {"lr": 7e-3}}, "r9": {"rank": 9, "training": {"decay": 0.9}}},
        rows=["r1", "r4", "r9"],
    )
    matrix = matrix_of(content)
    found = {}
    for name in ("r1", "r4", "r9"):
        variant = matrix.variant(f"lora/{name}")
        training = matrix.training(variant, "safmn")
        found[name] = (variant.options["rank"], training.lr, training.decay)
    assert found == {"r1": (1, 5e-3, 0.5), "r4": (4, 7e-3, 0.5), "r9": (9, 5e-3, 0.9)}
    assert "training" not in matrix.variant("lora/r9").options


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"seeds": [1, 101]}, r"tuning\.seeds: seed 1 is reported"),
    ({"seeds": [101, 101]}, r"tuning\.seeds: seed 101 is listed twice"),
    ({"metric": "psnr"}, r"tuning\.metric: no metric 'psnr' \(did you mean 'psnr_y'"),
    ({"grid": {}}, r"tuning\.grid"),
    ({"grid": {"lr": [1e-3]}}, r"tuning\.grid: lr: expected two or more different values"),
    ({"grid": {"lr": [1e-3, "1e-3"]}}, r"tuning\.grid: lr: expected two or more different values"),
    ({"grid": {"lr": [1e-3, -1.0]}}, r"tuning\.grid: lr: Input should be greater than 0, found -1\.0"),
    ({"grid": {"lr": [1e-3, None]}}, r"tuning\.grid: lr: expected two or more different values"),
    ({"grid": {"iterations": [5, 6]}}, r"tuning\.grid: iterations is the same at every point"),
    ({"grid": {"lr": list(range(1, 40)), "alpha": list(range(40))}}, r"tuning\.grid: 1,560 points, at most 1000"),
    ({"grid": {"alpah": [1, 2]}}, r"tuning\.grid: no option 'alpah' \(did you mean 'alpha'\?\)"),
    ({"grid": {"size": [1, 2]}}, r"tuning\.grid\.size: every variant sets 'size' itself"),
]


@pytest.mark.parametrize(("tuning", "said"), MISTAKES)
def test_a_mistake_is_one_line(tuning: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said) as refused:
        check(tuned(**tuning), weights=False)
    assert "\n" not in str(refused.value)


def paper(**validation: str) -> Callable[[], Matrix]:
    content = profile_content("paper")
    content["tuning"] = {"grid": {"lr": [1e-3, 1e-2]}, "seeds": [101], "metric": "psnr_y"}
    content["data"]["validation"].update(validation)
    del content["baselines"]["rank_aware"]["variants"]["gan"]["start"]  # not in a tuned profile
    return lambda: matrix_of(content)


def pairs(validation: str, rule: str) -> Callable[[], Matrix]:
    def made() -> Matrix:
        write_pairs(Path("pairs"), ["a", "b"])
        content = pairs_profile(
            {"test": "first 1", "train": "last 1"}, tuning={"grid": {"lr": [1, 2]}, "seeds": [9], "metric": "psnr_y"}
        )
        content["datasets"]["more"] = content["datasets"]["photos"] | {"split": {"validation": rule}}
        content["data"]["validation"] = {
            "dataset": validation,
            "split": "validation" if validation == "more" else "test",
        }
        return matrix_of(content)

    return made


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (
            paper(),
            r"div2k_unknown \(validation\) and the test dataset div2k_crops show the same photographs \(DIV2K 0801-0900\)",
        ),
        (paper(dataset="realsr", split="test"), r"realsr \(test\) and the test dataset realsr_crops"),
        (paper(dataset="realsr", split="train"), None),
        (pairs("photos", ""), r"photos \(test\) and the test dataset photos"),
        (pairs("more", "all"), r"more \(validation\) and the test dataset photos show the same photographs .*hr/a\b"),
        (pairs("more", "last 1"), None),
    ],
)
def test_choices_are_never_made_on_test_photographs(made: Callable[[], Matrix], said: str | None) -> None:
    matrix = made()
    if said is None:
        check(matrix, weights=False)
    else:
        with pytest.raises(UserError, match=said):
            check(matrix, weights=False)


def test_the_demo_ships_choices_of_its_own_grid() -> None:
    """`snakemake demo_tuning` remakes them."""
    profile = load_profile(REPOSITORY / "config/demo.yaml")
    assert profile.tuning
    assert profile.tuning.choices
    changes = {"choices": str(REPOSITORY / profile.tuning.choices)}
    profile = profile.model_copy(update={"tuning": profile.tuning.model_copy(update=changes)})
    matrix = Matrix.of(profile, "demo.yaml")
    for name, backbone in profile.backbones.items():
        weights = file_sha256(REPOSITORY / str(backbone.weights))
        for row in matrix.variants:
            shipped = matrix.choice(name, row)
            assert shipped, (name, row)
            assert shipped.inputs.weights == weights, (name, row)
