"""`adaptsr` commands as processes that can be killed, forked from one that has paid for the imports."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

from adaptsr.cli import main
from adaptsr.project import VARIABLE

Sabotage = Callable[[], None]
"""Called in the new process before the command, to make something fail there."""

TIMEOUT_SECONDS = 120.0


@dataclass(frozen=True)
class Done:
    """How a command ended; a signal is its negative number."""

    status: int
    said: str

    @property
    def lines(self) -> list[str]:
        return self.said.splitlines()

    @property
    def mistake(self) -> str:
        """The one line with which it refused."""
        found = [line for line in self.lines if line.startswith("adaptsr: ")]
        assert len(found) == 1, self.said
        assert "Traceback" not in self.said
        return found[0]


@dataclass
class Started:
    """A command on its way; the log is what it says on both streams."""

    process: ForkServerProcess
    log: Path

    @property
    def alive(self) -> bool:
        return self.process.is_alive()

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    def kill(self, number: int) -> Done:
        if self.alive:
            os.kill(self.pid, number)
        return self.wait()

    def wait(self) -> Done:
        self.process.join(TIMEOUT_SECONDS)
        if self.process.exitcode is None:
            self.process.kill()
            raise AssertionError(f"not done in {TIMEOUT_SECONDS} s: {self.log.read_text()[-2000:]}")
        return Done(self.process.exitcode, self.log.read_text(errors="replace"))


@cache
def _context() -> ForkServerContext:
    os.environ["OMP_NUM_THREADS"] = "1"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.reliability.preloaded"])
    return context


def start(root: Path, *words: str, sabotage: Sabotage | None = None) -> Started:
    """Start `adaptsr <words>` in a folder; `sabotage` has to be picklable."""
    log = root / f"command-{time.monotonic_ns()}.log"
    process = _context().Process(target=_run, args=(root, words, log, sabotage), daemon=True)
    process.start()
    return Started(process, log)


def run(root: Path, *words: str, sabotage: Sabotage | None = None) -> Done:
    return start(root, *words, sabotage=sabotage).wait()


def succeed(root: Path, *words: str, sabotage: Sabotage | None = None) -> Done:
    done = run(root, *words, sabotage=sabotage)
    assert done.status == 0, done.said[-3000:]
    return done


def replace(place: object, name: str, other: Callable[..., Any]) -> None:
    """Put another function in place of one of ours, in this process: a sabotage's tool."""
    setattr(place, name, other)


def wait_until(condition: Callable[[], bool], seconds: float = TIMEOUT_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.002)


def _run(root: Path, words: tuple[str, ...], log: Path, sabotage: Sabotage | None) -> None:
    os.chdir(root)
    os.environ[VARIABLE] = str(root)
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    if sabotage:
        sabotage()
    sys.exit(main(list(words)))
