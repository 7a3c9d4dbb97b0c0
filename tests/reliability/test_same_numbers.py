"""Same seed, same numbers: whatever the number of cores, the order and grouping of jobs, and what else is run."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest
import torch

from tests.factories import tree
from tests.reliability.conftest import GATHER, PREPARE, SCORE_RUNS, SCORES, Place, train_words

pytestmark = pytest.mark.slow

ROWS = ("full_finetuning/all", "lora/r2", "rank_aware/gradient")
SEEDS = (1, 2)


def with_threads(number: int) -> None:
    """As the process finds them: cores given by the workflow, or all of the machine in a shell."""
    torch.set_num_threads(number)


def numbers(place: Place, rows: Sequence[str] = ROWS, seeds: Sequence[int] = SEEDS) -> dict[str, object]:
    """All that a finished matrix says, by run, and its scores, to the byte."""
    found: dict[str, object] = {"scores": (place.root / SCORES).read_bytes()}
    return found | {f"{row} {seed}": place.result(row, seed) for row in rows for seed in seeds}


def score(place: Place, threads: int = 1) -> None:
    for words in (SCORE_RUNS, GATHER):
        place.succeed(*words, sabotage=partial(with_threads, threads))


@pytest.fixture
def one_backbone(place: Place) -> Place:
    place.narrow(*ROWS)
    return place


@pytest.fixture
def grouped(one_backbone: Place) -> dict[str, object]:
    """Both seeds of a row in one process, rows in their order."""
    place = one_backbone.copy("grouped")
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
        place = one_backbone.copy(f"threads{threads}")
        (place.root / "resources/degraded/manifest.json").unlink()
        for words in (PREPARE, train_words(ROWS[-1], 1)):
            place.succeed(*words, sabotage=partial(with_threads, threads))
        score(place, threads)
        found.append((numbers(place, ROWS[-1:], [1]), images(place.root / "resources/degraded")))
    assert found[0] == found[1]


def images(folder: Path) -> dict[str, bytes]:
    return {name: content for name, content in tree(folder).items() if name.endswith(".png")}


def test_images_do_not_depend_on_the_threads_of_a_profile(one_backbone: Place) -> None:
    """Two profiles share resources/: preparing for one must not make the runs of the other stale."""
    before = images(one_backbone.root / "resources/degraded")
    content = one_backbone.profile()
    content["compute"]["threads"] = 2
    one_backbone.write_profile(content)
    (one_backbone.root / "resources/degraded/manifest.json").unlink()
    one_backbone.succeed(*PREPARE)
    assert images(one_backbone.root / "resources/degraded") == before


def test_different_seeds_differ(one_backbone: Place) -> None:
    for row in ROWS:
        one_backbone.succeed(*train_words(row, *SEEDS))
        first, second = (one_backbone.record(row, seed) for seed in SEEDS)
        assert one_backbone.result(row, 1)[0] != one_backbone.result(row, 2)[0]
        assert [point.loss for point in first.losses] != [point.loss for point in second.losses]
        assert first.start_psnr_y == second.start_psnr_y or row != "full_finetuning/all"
