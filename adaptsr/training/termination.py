"""Turn SIGTERM into a question asked between two steps."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Terminated(Exception):
    """SIGTERM arrived. Finished work is kept, and the same command continues from there."""


@contextmanager
def sigterm_noted() -> Iterator[Callable[[], bool]]:
    """Yield a function that says whether SIGTERM has arrived, to be asked between iterations and between runs."""
    noted = False

    def note(_signal: int, _frame: FrameType | None) -> None:
        nonlocal noted
        noted = True

    try:
        before = signal.signal(signal.SIGTERM, note)
    except ValueError:  # not the main thread, which alone may handle signals
        yield lambda: False
        return
    try:
        yield lambda: noted
    finally:
        signal.signal(signal.SIGTERM, before)
