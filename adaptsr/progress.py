"""The callback that receives the progress of long work, one line of text at a time."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str], None]
