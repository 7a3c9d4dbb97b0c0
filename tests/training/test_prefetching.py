"""What a process makes ahead is what the loop would make, whatever happens to the process."""

from __future__ import annotations

import os
import signal
import time

import psutil
import pytest
import torch

from adaptsr.config.schema import Degradation
from adaptsr.data.sampling import WeightedSource, cut_batch, finish, sample_batch
from adaptsr.errors import UserError
from adaptsr.randomness import seed_globals
from adaptsr.training.prefetching import made_ahead
from tests.data.test_sampling import pair_set

SOURCES = [
    WeightedSource(pair_set(height=40, width=40)),
    WeightedSource(pair_set(height=40, width=40), 1.0, Degradation()),
]


def made_by(index: int) -> tuple[int, int]:
    return index, os.getpid()


def helper() -> psutil.Process:
    """The newest child of this process: other tests may have left theirs."""
    return max(psutil.Process().children(), key=psutil.Process.create_time)


NEEDS_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=NEEDS_CUDA)])
def test_batches_made_ahead_are_the_same_bits(device: str) -> None:
    """Whatever the global generators of either process are at: noise is drawn from torch's."""
    with made_ahead(lambda index: cut_batch(SOURCES, 1, index, 4, 32, 4, "train"), 3, 9) as take:
        for index in range(3, 9):
            seed_globals(index)
            before = torch.get_rng_state()
            batch = finish(take(index), 4, device)
            assert torch.equal(torch.get_rng_state(), before)
            expected = sample_batch(SOURCES, 1, index, 4, 32, 4, device=device)
            assert all(torch.equal(*pair) for pair in zip(batch, expected, strict=True))


def test_another_process_makes_them_and_ends_with_the_block() -> None:
    with made_ahead(made_by, 0, 100) as take:
        index, process = take(0)
        assert (index, process) == (0, helper().pid)
        assert take(7) == (7, os.getpid()), "an index out of turn is made here"
        assert take(1)[0] == 1
    deadline = time.monotonic() + 10
    while psutil.pid_exists(process) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not psutil.pid_exists(process)


@pytest.mark.parametrize(
    ("number", "survives"), [(signal.SIGTERM, True), (signal.SIGINT, True), (signal.SIGKILL, False)]
)
def test_signals_to_the_process_lose_nothing(number: signal.Signals, survives: bool) -> None:
    """Slurm and Ctrl-C send theirs to all processes of a job."""
    with made_ahead(made_by, 0, 100) as take:
        take(0)
        other = helper()
        other.send_signal(number)
        made = [take(index) for index in range(1, 40)]
        assert [index for index, _ in made] == list(range(1, 40))
        assert (made[-1][1] == other.pid) == survives


def test_a_process_that_dies_while_training_computes_does_not_stop_it() -> None:
    """As the system kills it where memory runs out: torch's handler would raise in the middle of a step."""
    with made_ahead(made_by, 0, 100) as take:
        take(0)
        other = helper()
        other.kill()
        until = time.monotonic() + 1
        while time.monotonic() < until:
            sum(range(1000))
        assert [take(index)[0] for index in range(1, 20)] == list(range(1, 20))


def test_a_mistake_is_the_users_one_line() -> None:
    def refuse(index: int) -> int:
        raise UserError("a crop that is too large")

    with made_ahead(refuse, 0, 3) as take, pytest.raises(UserError, match=r"^a crop that is too large$"):
        take(0)


def test_the_process_dies_with_its_parent() -> None:
    """Killed with SIGKILL, training leaves no process that holds the lock of its run."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        with made_ahead(made_by, 0, 100) as take:
            os.write(writing, str(take(0)[1]).encode())
            time.sleep(60)
    process = int(os.read(reading, 20))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    deadline = time.monotonic() + 3
    while alive(process) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not alive(process)


def alive(process: int) -> bool:
    return psutil.pid_exists(process) and psutil.Process(process).status() != psutil.STATUS_ZOMBIE
