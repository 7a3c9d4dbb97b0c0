"""Fetch the files of the catalogue and report their state: try mirrors in turn, check size and checksum.

A file is fetched as `<file>.part` and renamed once size and checksum are right.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import requests

from adaptsr import __version__, files
from adaptsr.data.catalogue import Source, read_catalogue, weights_file
from adaptsr.data.checksums import mismatch, record_first_seen, record_path
from adaptsr.data.transfer import Part, Refused, ask
from adaptsr.errors import UserError, listing
from adaptsr.files import expanded, size_text


@dataclass(frozen=True)
class State:
    """A file of the catalogue and its state on disk. `present` is the number of bytes on disk."""

    source: Source
    state: Literal["there", "verified", "incomplete", "missing", "wrong"]
    present: int
    problem: str | None = None


def ensure(source: Source) -> Path:
    """Return the path of the file, with size and checksum checked. Fetch it if it is missing.

    Raises `UserError` if the file on disk is the wrong one, no address provides it, or it needs a manual download.
    """
    path = source.path
    if path.is_file():
        _check_present(source)
        return path
    if source.fetch == "manual":
        raise UserError(_instructions(source))
    try:
        with files.locked(path.parent):
            if not path.is_file():
                _fetch(source, path)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written: {error.strerror or error}; run the command again to fetch the rest"
        ) from None
    return path


def fetched_weights(name: str) -> Path:
    """Return the path of a row of `weights.tsv` without fetching. Raises `UserError` if it is missing or wrong."""
    source = _weights(name)
    if not source.path.is_file():
        raise UserError(f"{name}: these weights are missing; `adaptsr data fetch {name}` puts them at {source.path}")
    _check_present(source)
    return source.path


def resolve_weights(weights: str) -> Path:
    """Return the checkpoint of a profile's `weights`, which is a path or the name of fetched weights.

    Raises `UserError` if the file is missing or wrong.
    """
    if weights_file(weights) is not None:
        return fetched_weights(weights)
    path = expanded(weights)
    if not path.is_file():
        raise UserError(
            f"{weights}: no such weights file; give the path of a checkpoint, or a name from config/weights.tsv"
        )
    return path


def status(names: Sequence[str] = ()) -> list[State]:
    """Return the states of the named datasets, archives and weights, by presence and size; default: all."""
    return [_state(source) for source in read_catalogue().sources(names)]


def verify(names: Sequence[str] = ()) -> list[State]:
    """Return the states as `status` does, and check the checksum of every file on disk."""
    return [_verified(source) for source in read_catalogue().sources(names)]


def fetch(names: Sequence[str] = ()) -> list[State]:
    """Fetch the missing files of the named or all, and return their states. Goes on after a file that fails."""
    return [_fetched(source) for source in read_catalogue().sources(names)]


def as_text(states: Sequence[State]) -> str:
    """Format the states as a table for the terminal, with a line of totals and a line for each problem."""
    rows = [("NAME", "STATE", "SIZE", "HOW", "LICENCE"), *(_cells(state) for state in states)]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[4]]) for row in rows
    ]
    problems = [f"{state.source.name}: {state.problem}" for state in states if state.problem]
    return "\n".join([*lines, _totals(states), *problems])


def _weights(name: str) -> Source:
    weights = read_catalogue().weights
    if name not in weights:
        raise UserError(f"{name}: no row of this name in config/weights.tsv; there are {listing(weights)}")
    return weights[name]


def _fetch(source: Source, path: Path) -> None:
    refusals = []
    with requests.Session() as session, Part(path.with_name(path.name + ".part")) as part:
        session.headers.update({"User-Agent": f"adaptsr/{__version__}", "Accept-Encoding": "identity"})
        for address in (source.address, *source.mirrors):
            _say(f"Fetching {source.name} ({size_text(source.bytes)}) from {urlsplit(address).netloc}")
            try:
                ask(session, source, address, part)
            except Refused as refusal:
                refusals.append(f"{address}: {refusal}")
            else:
                record_first_seen(source, part.path)
                part.finish(path)
                return
    raise UserError(
        f"{source.name}: could not be fetched: {'; '.join(refusals)}; "
        f"try again later, or put the file at {path} yourself ({_expectation(source)})"
    )


def _check_present(source: Source) -> None:
    problem = mismatch(source, source.path)
    if problem:
        remedy = (
            f"replace it with the file from {source.address}"
            if source.fetch == "manual"
            else "delete it and fetch it again"
        )
        raise UserError(f"{source.path}: not the file of {source.name}: {problem}; {remedy}")
    try:
        record_first_seen(source, source.path)
    except OSError as error:
        raise UserError(
            f"{record_path(source)}: cannot be written: {error.strerror}; the checksum of the first file seen is kept there"
        ) from None


def _instructions(source: Source) -> str:
    note = f"; {source.note}" if source.note else ""
    return (
        f"{source.name}: this file needs a manual download: get it from {source.address} and put it at {source.path} "
        f"({_expectation(source)}){note}"
    )


def _expectation(source: Source) -> str:
    size = f"{source.bytes} bytes" if source.bytes else "size not published"
    return f"{size}, {source.checksum or 'checksum not published: recorded from the first file'}"


def _state(source: Source) -> State:
    path, part = source.path, source.path.with_name(source.file + ".part")
    if path.is_file():
        size = path.stat().st_size
        if source.bytes and size != source.bytes:
            return State(source, "wrong", size, f"{path}: {size} bytes, expected {source.bytes}")
        return State(source, "there", size)
    if part.is_file() and part.stat().st_size:
        return State(source, "incomplete", part.stat().st_size)
    return State(source, "missing", 0)


def _verified(source: Source) -> State:
    state = _state(source)
    if state.state != "there":
        return state
    try:
        _check_present(source)
    except UserError as error:
        return State(source, "wrong", state.present, str(error))
    return State(source, "verified", state.present)


def _fetched(source: Source) -> State:
    try:
        return State(source, "verified", ensure(source).stat().st_size)
    except UserError as error:
        state = _state(source)
        return State(source, state.state, state.present, str(error))


def _cells(state: State) -> tuple[str, str, str, str, str]:
    source = state.source
    size = size_text(source.bytes or (state.present if state.state in ("there", "verified") else None))
    shown = f"{state.state} {size_text(state.present)}" if state.state == "incomplete" else state.state
    return source.name, shown, size, source.fetch, source.licence


def _totals(states: Sequence[State]) -> str:
    there = [state for state in states if state.state in ("there", "verified")]
    absent = [state for state in states if state not in there]
    unknown = sum(not state.source.bytes for state in absent)
    missing = sum(max(0, (state.source.bytes or 0) - state.present) for state in absent)
    more = f" and {unknown} of unknown size" if unknown else ""
    present = size_text(sum(state.present for state in there))
    return f"{len(there)} of {len(states)} files present ({present}); {size_text(missing)}{more} left to fetch"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
