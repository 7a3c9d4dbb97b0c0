"""Report the progress of long work, one line of text at a time."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable

Progress = Callable[[str], None]
"""Receives a line of progress."""


@functools.cache
def say_once(line: str) -> None:
    """Print a line on stderr, unless this process has printed it before."""
    print("".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in line), file=sys.stderr, flush=True)
