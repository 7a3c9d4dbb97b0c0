"""How long a model trains follows from timed steps, the time that is given and the memory that is free."""

from __future__ import annotations

import pytest
import torch

from adaptsr.camera import schedule as module
from adaptsr.camera.placing import Placed
from adaptsr.camera.schedule import FACTORS, Cost, Schedule, schedule

PLACED = Placed({}, 100, train=10**6, validation=10_000, test=100_000)
COST = Cost(step=0.5, pixel=1e-5, held=10**9)
CPU = torch.device("cpu")


def chosen(
    minutes: float = 15.0, iterations: int | None = None, cores: int = 2, cost: Cost = COST, seeds: int = 2
) -> Schedule:
    return schedule(cost, PLACED, seeds, cores, CPU, iterations, minutes)


@pytest.fixture(autouse=True)
def memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "free_memory", lambda device: 10**10)


@pytest.mark.parametrize("minutes", [5, 15, 60])
@pytest.mark.parametrize("cores", [1, 2])
def test_the_time_is_used_and_not_exceeded(minutes: float, cores: int) -> None:
    made = chosen(minutes, cores=cores)
    assert 0.9 * 60 * minutes < made.seconds <= 60 * minutes
    assert made.tried == made.iterations // 4


def test_one_core_trains_half_as_much_as_two() -> None:
    """Both seeds and the trials share it."""
    one, two = (chosen(60, cores=cores).iterations for cores in (1, 2))
    assert 0.6 < one / two < 0.67


def test_iterations_that_are_given_are_used_and_their_time_is_said() -> None:
    made = chosen(iterations=1000)
    assert (made.iterations, made.tried) == (1000, 250)
    assert "1000 iterations, 3 learning rates tried for 250: about 2" in made.text
    assert "2 processes at once" in made.text
    assert made.seconds > 0.5 * (1000 + len(FACTORS) * 250)


def test_a_short_schedule_is_not_tuned() -> None:
    made = chosen(iterations=60)
    assert made.tried == 0
    assert "the learning rate not tuned" in made.text


def test_on_a_gpu_each_run_has_a_card_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def on(cards: int) -> Schedule:
        monkeypatch.setattr(module, "shared_gpus", lambda: [None] * cards)
        return schedule(COST, PLACED, 3, 16, torch.device("cuda"), 1000, 15)

    assert [on(cards).processes for cards in (0, 1, 2, 8)] == [1, 1, 2, 3]
    assert on(1).seconds > 2 * on(8).seconds


def test_seeds_train_one_after_another_where_memory_is_small() -> None:
    made = chosen(cost=Cost(0.5, 1e-5, 6 * 10**9))
    assert made.processes == 1
    assert made.held == 6 * 10**9 + 10**6
    assert made.iterations < chosen().iterations
