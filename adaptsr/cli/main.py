"""Run the benchmark from the shell: `adaptsr <command>`; `adaptsr --help` lists the commands."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from adaptsr import __version__
from adaptsr.cli import backbones, baselines, camera, data, estimate, export, report, restore, results, score, train
from adaptsr.errors import UserError
from adaptsr.project import find_root

ROOMS = (train, score, report, estimate, data, backbones, baselines, export, camera, restore, results)

RENAMED: Mapping[str, Mapping[str, str]] = {
    "plan": {"plan": "estimate"},
    "evaluate": {"evaluate": "score-runs", "--outputs": "--external"},
}
"""Former commands, kept for one version, each with the words that replace its own."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command inside the project's root and return the exit status.

    A user's mistake ends in one line on stderr and status 2; `--debug` raises it instead.
    """
    words = _current_words(sys.argv[1:] if arguments is None else arguments)
    debug = False
    try:
        parsed = _parser().parse_args(words)
        debug = parsed.debug
        command: Callable[[argparse.Namespace], int | None] = parsed.command
        with contextlib.chdir(find_root(Path.cwd())):
            return command(parsed) or 0
    except UserError as error:
        if debug:
            raise
        print(f"adaptsr: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader of our output has closed it; Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parser() -> argparse.ArgumentParser:
    description = __doc__.splitlines()[0] if __doc__ else None
    parser = argparse.ArgumentParser(prog="adaptsr", description=description)
    parser.add_argument("--version", action="version", version=f"adaptsr {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for room in ROOMS:
        room.add(commands)
    return parser


def _current_words(words: Sequence[str]) -> list[str]:
    """Replace a former command by its present name, with one line on stderr."""
    command = next((word for word in words if not word.startswith("-")), "")
    if command not in RENAMED:
        return list(words)
    replaced = RENAMED[command]
    print(f"adaptsr: {command!r} is deprecated, use 'adaptsr {replaced[command]}'", file=sys.stderr)
    return [replaced.get(word, word) for word in words]
