"""The error of a user's mistake, and the phrases that its messages share."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence
from typing import Any

MOST_PROBLEMS_SHOWN = 20


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


def check_known(where: str, kind: str, name: str, names: Collection[str]) -> str:
    """Return `name`. Raises `UserError` with the nearest of `names`, and all of them, if it is not among them."""
    if name not in names:
        raise unknown(where, kind, name, names)
    return name


def unknown(where: str, kind: str, name: str, names: Collection[str]) -> UserError:
    """Make the error for a name that is not among `names`."""
    return UserError(f"{where}: no {kind} {name!r}{suggestion(name, names)}; there are {listing(names)}")


def listing(names: Any) -> str:
    return ", ".join(sorted(str(name) for name in names)) or "none"


def raise_all(where: str, problems: Sequence[str]) -> None:
    """Raise one `UserError` that lists the problems found at `where`, the first of them in full; do nothing without any."""
    if problems:
        count = f"{len(problems)} problems: " if len(problems) > 1 else ""
        hidden = len(problems) - MOST_PROBLEMS_SHOWN
        more = f"; and {hidden} more" if hidden > 0 else ""
        raise UserError(f"{where}: {count}{'; '.join(problems[:MOST_PROBLEMS_SHOWN])}{more}")
