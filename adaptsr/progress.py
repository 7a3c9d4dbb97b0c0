"""Report the progress of long work, one line of text at a time."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable

from adaptsr.errors import printable

Progress = Callable[[str], None]
"""Receives a line of progress."""


@functools.cache
def say_once(line: str) -> None:
    """Print a line on stderr, unless this process has printed it before."""
    print(printable(line), file=sys.stderr, flush=True)
