"""Same seed, same numbers: whatever the number of cores, the order and grouping of jobs, and what else is run."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest
import torch

from tests.reliability.conftest import Place, comparable, train_words

pytestmark = pytest.mark.slow

ROWS = ("full_finetuning/all", "lora/r2", "rank_aware/gradient")
SEEDS = (1, 2)


def with_threads(number: int) -> None:
    """As the process finds them: cores given by the workflow, or all of the machine in a shell."""
    torch.set_num_threads(number)


def numbers(place: Place, rows: Sequence[str] = ROWS, seeds: Sequence[int] = SEEDS) -> dict[str, object]:
    """All that a finished matrix says, by run, and its scores, to the byte."""
    found: dict[str, object] = {"scores": (place.root / "results/demo/scores.parquet").read_bytes()}
    for row in rows:
        for seed in seeds:
            found[f"{row} {seed}"] = place.adaptation(row, seed), comparable(place.record(row, seed))
    return found


def score(place: Place, threads: int = 1) -> None:
    for words in (
        ["score-runs", "--backbone", "safmn", "--out", "results/demo/scores/safmn.parquet"],
        ["gather", "results/demo/scores/safmn.parquet", "--out", "results/demo/scores.parquet"],
    ):
        done = place.run(*words, sabotage=partial(with_threads, threads))
        assert done.status == 0, done.said


@pytest.fixture
def one_backbone(place: Place) -> Place:
    content = place.profile()
    content["backbones"] = {"safmn": content["backbones"]["safmn"]}
    content["baselines"]["lora"]["rows"] = ["r2"]
    place.write_profile(content)
    return place


@pytest.fixture
def grouped(one_backbone: Place) -> dict[str, object]:
    """Both seeds of a row in one process, rows in their order."""
    place = one_backbone.copy(one_backbone.root.with_name("grouped"))
    for row in ROWS:
        place.succeed(*train_words(row, *SEEDS))
    score(place)
    return numbers(place)


def test_grouping_order_and_company_do_not_matter(one_backbone: Place, grouped: dict[str, object]) -> None:
    """Each run in a process of its own, in the opposite order, all at once, among runs that the other place has not."""
    words = [train_words(row, seed) for row in reversed(ROWS) for seed in (7, *reversed(SEEDS))]
    started = [one_backbone.start(*command) for command in words]
    assert [process.wait().status for process in started] == [0] * len(words)
    score(one_backbone)
    assert numbers(one_backbone) == grouped


def test_the_number_of_cores_does_not_matter(one_backbone: Place) -> None:
    """Threads are the profile's, whatever a process finds: for images, training and scores."""
    content = one_backbone.profile()
    content["compute"]["threads"] = 2
    content["seeds"] = [1]
    content["baselines"]["lora"]["rows"] = content["baselines"]["full_finetuning"]["rows"] = []
    one_backbone.write_profile(content)
    found = []
    for threads in (1, 2):
        place = one_backbone.copy(one_backbone.root.with_name(f"threads{threads}"))
        (place.root / "resources/degraded/manifest.json").unlink()
        done = place.run("data", "prepare", "degraded", sabotage=partial(with_threads, threads))
        assert done.status == 0, done.said
        done = place.run(*train_words(ROWS[-1], 1), sabotage=partial(with_threads, threads))
        assert done.status == 0, done.said
        score(place, threads)
        found.append((numbers(place, ROWS[-1:], [1]), images(place.root / "resources/degraded")))
    assert found[0] == found[1]


def images(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.png"))}


def test_images_do_not_depend_on_the_threads_of_a_profile(one_backbone: Place) -> None:
    """Two profiles share resources/: preparing for one must not make the runs of the other stale."""
    before = images(one_backbone.root / "resources/degraded")
    content = one_backbone.profile()
    content["compute"]["threads"] = 2
    one_backbone.write_profile(content)
    (one_backbone.root / "resources/degraded/manifest.json").unlink()
    one_backbone.succeed("data", "prepare", "degraded")
    assert images(one_backbone.root / "resources/degraded") == before


def test_different_seeds_differ(one_backbone: Place) -> None:
    for row in ROWS:
        one_backbone.succeed(*train_words(row, *SEEDS))
        first, second = (one_backbone.record(row, seed) for seed in SEEDS)
        assert one_backbone.adaptation(row, 1) != one_backbone.adaptation(row, 2)
        assert [point.loss for point in first.losses] != [point.loss for point in second.losses]
        assert first.start_psnr_y == second.start_psnr_y or row != "full_finetuning/all"
