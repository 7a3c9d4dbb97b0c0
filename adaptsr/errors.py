"""The error for a user's mistake, and the phrases that its messages share."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Sequence
from typing import Any

MOST_PROBLEMS_SHOWN = 20
MOST_NAMES_SHOWN = 3


class UserError(Exception):
    """A user's mistake, in one line: what is wrong, where, what was expected, what to do.

    The command line prints only this line and exits with status 2. Any other exception is a bug and keeps its traceback.
    """

    def __str__(self) -> str:
        """Return the line with unprintable characters escaped."""
        return printable(super().__str__())


def printable(text: str) -> str:
    """Escape unprintable characters: names of files, and what others have written, may hold line breaks and terminal codes."""
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)


def one_line(error: object, most: int = 200) -> str:
    """Return an error's message on one line, cut to `most` characters; its kind if it has none."""
    return " ".join(str(error).split())[:most] or type(error).__name__


def suggestion(name: str, known: Any) -> str:
    """Return ` (did you mean X?)` if a known name is close, else an empty text."""
    close = difflib.get_close_matches(name, [str(item) for item in known], n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def check_known(where: str, kind: str, name: str, names: Collection[str]) -> str:
    """Return `name`. Raises `UserError`, listing `names` and the nearest one, if `name` is not among them."""
    if name not in names:
        raise unknown(where, kind, name, names)
    return name


def unknown(where: str, kind: str, name: str, names: Collection[str]) -> UserError:
    """Make the error for a name that is not among `names`."""
    return UserError(f"{where}: no {kind} {name!r}{suggestion(name, names)}; there are {listing(names)}")


def listing(names: Any) -> str:
    """Return the names sorted and joined by commas, or `none`."""
    return ", ".join(sorted(str(name) for name in names)) or "none"


def first_names(names: Collection[str]) -> str:
    """Join the first names by commas and count the others: `a, b, c and 7 more`."""
    hidden = len(names) - MOST_NAMES_SHOWN
    return ", ".join(list(names)[:MOST_NAMES_SHOWN]) + (f" and {hidden} more" if hidden > 0 else "")


def raise_all(where: str, problems: Sequence[str]) -> None:
    """Raise one `UserError` for all problems at `where`; do nothing without any.

    A problem is `subject: reason`. Problems whose reasons differ at most in their numbers are one entry, with the first
    subjects; at most `MOST_PROBLEMS_SHOWN` entries are shown.
    """
    if not problems:
        return
    alike: dict[str, list[str]] = {}
    for problem in problems:
        subject, _, reason = problem.partition(": ")
        alike.setdefault(re.sub(r"-?[\d.]*\d", "0", reason) or subject, []).append(problem)
    entries = [_entry(same) for same in alike.values()]
    count = f"{len(problems)} problems: " if len(problems) > 1 else ""
    hidden = len(entries) - MOST_PROBLEMS_SHOWN
    more = f"; and {hidden} more" if hidden > 0 else ""
    raise UserError(f"{where}: {count}{'; '.join(entries[:MOST_PROBLEMS_SHOWN])}{more}")


def _entry(alike: Sequence[str]) -> str:
    others = [problem.partition(": ")[0] for problem in alike[1:]]
    return f"{alike[0]} (likewise {first_names(others)})" if others else alike[0]
