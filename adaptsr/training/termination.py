"""Turn SIGTERM into a question asked between two steps."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Terminated(Exception):
    """SIGTERM came; what is done is kept, and the rest goes on from there when it is started again."""


@contextmanager
def sigterm_noted() -> Iterator[Callable[[], bool]]:
    """Turn SIGTERM into a question that is asked between two iterations and between two runs."""
    noted = False

    def note(_signal: int, _frame: FrameType | None) -> None:
        nonlocal noted
        noted = True

    try:
        before = signal.signal(signal.SIGTERM, note)
    except ValueError:  # not the main thread: somebody else looks after signals
        yield lambda: False
        return
    try:
        yield lambda: noted
    finally:
        signal.signal(signal.SIGTERM, before)
