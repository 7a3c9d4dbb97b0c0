"""Make what the next iterations need in a process beside training, so that a GPU does not wait for it."""

from __future__ import annotations

import ctypes
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

AHEAD = 4
"""How many items wait for the loop at most."""
PR_SET_PDEATHSIG = 1

Item = TypeVar("Item")


class _Made(Dataset[Item], Generic[Item]):
    def __init__(self, make: Callable[[int], Item]) -> None:
        self._make = make

    def __getitem__(self, index: int) -> Item:
        return self._make(index)


@contextmanager
def made_ahead(make: Callable[[int], Item], start: int, stop: int) -> Iterator[Callable[[int], Item]]:
    """Yield a function that returns what `make` returns for `start`, `start + 1` and so on, in pinned memory on CUDA.

    A forked process makes them in turn. If it is gone, or another index is asked for, the item is made here.
    """
    loader = DataLoader(
        _Made(make),
        batch_size=None,
        sampler=range(start, stop),
        num_workers=1,
        prefetch_factor=AHEAD,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_outlive_signals,
        generator=torch.Generator(),
    )
    before = signal.getsignal(signal.SIGCHLD)
    items: Iterator[Item] = iter(loader)
    if threading.current_thread() is threading.main_thread():
        # torch's handler would raise wherever training is once the process ends; `take` notices by itself.
        signal.signal(signal.SIGCHLD, before)
    expected = start

    def take(index: int) -> Item:
        nonlocal expected
        if index == expected:
            expected += 1
            try:
                return next(items)
            except Exception:  # of the process or in it: made here, a mistake is the user's one line
                expected = stop
        return make(index)

    try:
        yield take
    finally:
        items = iter(())  # without its iterator the process ends


def _outlive_signals(_worker: int) -> None:
    """Leave it to training to react to signals, and end with it: a process that stayed would hold the locks of its run."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
