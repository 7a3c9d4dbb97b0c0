"""The command line. In: words. Out: calls of the other packages, their results printed, and an exit status."""

from adaptsr.cli.main import main

__all__ = ["main"]
