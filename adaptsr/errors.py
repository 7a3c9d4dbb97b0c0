"""Errors that a user can mend."""

from __future__ import annotations


class UserError(Exception):
    """A mistake in what the user gave: one line saying what, where, what was expected and what to do.

    The command line prints the line alone and exits with status 2; anything else is a fault of ours and keeps its
    traceback.
    """
