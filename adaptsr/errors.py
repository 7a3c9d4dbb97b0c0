"""Errors that a user can mend."""

from __future__ import annotations


class UserError(Exception):
    """A mistake in what the user gave: one line saying what, where, what was expected and what to do.

    The command line prints the line alone and exits with status 2; anything else is a fault of ours and keeps its
    traceback.
    """

    def __str__(self) -> str:
        """The line, with what is not printable written out: names of files may hold line breaks and terminal codes."""
        return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in super().__str__())
