"""The error of a user's mistake, and the phrases that its messages share."""

from __future__ import annotations

import difflib
from typing import Any


class UserError(Exception):
    """A mistake in what the user gave: one line saying what, where, what was expected and what to do.

    The command line prints the line alone and exits with status 2; anything else is a fault of ours and keeps its
    traceback.
    """

    def __str__(self) -> str:
        """The line, with what is not printable written out: names of files may hold line breaks and terminal codes."""
        return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in super().__str__())


def suggestion(name: str, known: Any) -> str:
    """` (did you mean X?)` for a close name, else nothing."""
    close = difflib.get_close_matches(name, [str(item) for item in known], n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def listing(names: Any) -> str:
    return ", ".join(sorted(str(name) for name in names)) or "none"
