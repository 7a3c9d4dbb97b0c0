"""Fetch the files of the catalogue: resume broken transfers, try mirrors in turn, check size and checksum.

A file is fetched as `<file>.part` and renamed once size and checksum are right. A Range request resumes a broken
transfer. If no full checksum is published, the SHA-256 of the first file seen is kept as `<file>.sha256`, in the format of
`sha256sum`, and a different file is refused from then on.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Literal
from urllib.parse import urljoin, urlsplit

import requests
import urllib3.exceptions
from tqdm import tqdm

from adaptsr import __version__, files
from adaptsr.data.catalogue import Source, read_catalogue, weights_file
from adaptsr.errors import UserError, listing
from adaptsr.files import expanded

ATTEMPTS = 4
"""Attempts in a row without any data before an address is given up."""
FIRST_PAUSE_SECONDS = 1.0
"""Pause after the first such attempt; it doubles each time."""
TIMEOUT_SECONDS = (15, 60)
CHUNK_BYTES = 1 << 20
LONGEST_PAGE_BYTES = 1 << 20
WORTH_ASKING_AGAIN = (408, 425, 429, 500, 502, 503, 504)


class _Refused(Exception):
    """The address does not provide the file, and another attempt would not help."""


class _BrokenOff(Exception):
    """The transfer ended early; another attempt may help."""


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


def ensure_weights(name: str) -> Path:
    """Return the path of a row of `weights.tsv`. Fetch the file if it is missing."""
    return ensure(_weights(name))


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


def size_text(size: int | None) -> str:
    """Format a number of bytes for people: `3.5 GB`."""
    if size is None:
        return "unknown"
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} B"


def _weights(name: str) -> Source:
    weights = read_catalogue().weights
    if name not in weights:
        raise UserError(f"{name}: no row of this name in config/weights.tsv; there are {listing(weights)}")
    return weights[name]


def _fetch(source: Source, path: Path) -> None:
    refusals = []
    with requests.Session() as session, _Part(path.with_name(path.name + ".part")) as part:
        session.headers.update({"User-Agent": f"adaptsr/{__version__}", "Accept-Encoding": "identity"})
        for address in (source.address, *source.mirrors):
            _say(f"Fetching {source.name} ({size_text(source.bytes)}) from {urlsplit(address).netloc}")
            try:
                _ask(session, source, address, part)
            except _Refused as refusal:
                refusals.append(f"{address}: {refusal}")
            else:
                _record_first_seen(source, part.path)
                part.finish(path)
                return
    raise UserError(
        f"{source.name}: could not be fetched: {'; '.join(refusals)}; "
        f"try again later, or put the file at {path} yourself ({_expectation(source)})"
    )


def _ask(session: requests.Session, source: Source, address: str, part: _Part) -> None:
    """Complete the part from this address, or raise `_Refused` with the reason why it does not provide the file."""
    idle = 0
    while True:
        before = part.size
        try:
            _transfer(session, source, address, part)
            part.flush()
            problem = _mismatch(source, part.path)
            if problem is None:
                return
            part.start_over()
            if not before:
                raise _Refused(problem)
        except (requests.RequestException, urllib3.exceptions.HTTPError, _BrokenOff) as error:
            idle = 0 if part.size > before else idle + 1
            if idle == ATTEMPTS:
                raise _Refused(f"{ATTEMPTS} attempts in a row got no data: {_one_line(error)}") from None
            time.sleep(FIRST_PAUSE_SECONDS * 2 ** (idle - 1))


def _transfer(session: requests.Session, source: Source, address: str, part: _Part) -> None:
    """Request the rest of the part once, and append it."""
    if source.bytes and part.size >= source.bytes:
        if part.size == source.bytes:
            return
        part.start_over()
    with _answer(session, address, _range(source, address, part)) as response:
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            part.start_over()
            raise _BrokenOff("the server's file is shorter than the part on disk")
        if response.status_code != requests.codes.partial_content:
            part.start_over()
        elif not response.headers.get("Content-Range", "").startswith(f"bytes {part.size}-"):
            part.start_over()
            raise _BrokenOff("the server sent a different range than requested")
        total = _announced(source, response, part.size)
        part.remember(address, response.headers.get("ETag") or response.headers.get("Last-Modified"))
        _append(source, response, part, total)


def _append(source: Source, response: requests.Response, part: _Part, total: int | None) -> None:
    most = source.bytes or total
    with tqdm(
        total=total, initial=part.size, unit="B", unit_scale=True, desc=source.file, file=sys.stderr, disable=None
    ) as bar:
        size = part.size
        for chunk in response.raw.stream(CHUNK_BYTES, decode_content=False):
            size += len(chunk)
            if most is not None and size > most:
                part.start_over()
                raise _Refused(f"received more than the expected {most} bytes")
            part.append(chunk)
            bar.update(len(chunk))
    if total is not None and part.size < total:
        raise _BrokenOff(f"received {part.size} of {total} bytes")


def _announced(source: Source, response: requests.Response, offset: int) -> int | None:
    """Return the size of the whole file that the server states, checked against the catalogue and the free space."""
    length = response.headers.get("Content-Length", "")
    total = offset + int(length) if length.isdigit() else None
    if total is None and not (source.bytes or source.checksum) and not response.raw.chunked:
        raise _Refused("the server does not state the size of the file, so a truncated one would go unnoticed")
    if total is not None and source.bytes and total != source.bytes:
        raise _Refused(f"the server's file has {total} bytes, expected {source.bytes}")
    needed = (total or source.bytes or offset) - offset
    free = shutil.disk_usage(source.path.parent).free
    if needed > free:
        raise UserError(
            f"{source.path}: needs {size_text(needed)}, but {size_text(free)} are free on this disk; make room"
        )
    return total


def _range(source: Source, address: str, part: _Part) -> dict[str, str]:
    """Return the headers that request the rest of the part.

    Without a published checksum, a mix of two files would go unnoticed. So the server must confirm (If-Range) that it
    still has the file that the part came from.
    """
    if not part.size:
        return {}
    headers = {"Range": f"bytes={part.size}-"}
    if source.fully_published:
        return headers
    validator = part.validator(address)
    if validator is None or validator.startswith("W/"):
        part.start_over()
        return {}
    return headers | {"If-Range": validator}


@contextmanager
def _answer(session: requests.Session, address: str, headers: dict[str, str]) -> Iterator[requests.Response]:
    """Yield the response with the file, after confirming Google Drive's warning page if one comes."""
    with _get(session, address, headers) as response:
        if not _is_page(response):
            yield response
            return
        form = _ConfirmationForm(response)
    if form.address is None:
        raise _Refused(f"received a web page instead of the file ({form.title or 'without a title'})")
    with _get(session, form.address, headers, form.fields) as response:
        if _is_page(response):
            raise _Refused("received another web page after confirming the download")
        yield response


@contextmanager
def _get(
    session: requests.Session, address: str, headers: dict[str, str], fields: dict[str, str] | None = None
) -> Iterator[requests.Response]:
    with session.get(address, headers=headers, params=fields, stream=True, timeout=TIMEOUT_SECONDS) as response:
        status = response.status_code
        if status in WORTH_ASKING_AGAIN:
            raise _BrokenOff(f"{status} {response.reason}")
        if not response.ok and status != requests.codes.requested_range_not_satisfiable:
            raise _Refused(f"{status} {response.reason}")
        yield response


def _is_page(response: requests.Response) -> bool:
    return response.ok and response.headers.get("Content-Type", "").startswith("text/html")


class _ConfirmationForm(HTMLParser):
    """Google Drive's `download-form` in a page: its address and hidden fields. `address` is None without a form."""

    def __init__(self, response: requests.Response) -> None:
        super().__init__()
        self.address: str | None = None
        self.fields: dict[str, str] = {}
        self.title = ""
        self._base = response.url
        self._in_form = self._in_title = False
        page: bytes = response.raw.read(LONGEST_PAGE_BYTES, decode_content=True)
        self.feed(page.decode("utf-8", errors="replace"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {key: value or "" for key, value in attrs}
        self._in_title = tag == "title"
        if tag == "form":
            self._in_form = given.get("id") == "download-form"
            if self._in_form:
                self.address = urljoin(self._base, given.get("action", ""))
        elif tag == "input" and self._in_form and given.get("name"):
            self.fields[given["name"]] = given.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        self._in_title = False
        self._in_form = self._in_form and tag != "form"

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title = " ".join(data.split())[:100]


class _Part:
    """The unfinished file beside the final name, open to append, and a note of its origin.

    Leaving the `with` block keeps the part unless it is empty.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._origin = path.with_name(path.name + ".json")

    def __enter__(self) -> _Part:
        self._file = self.path.open("ab")
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        if self.path.exists() and not self.path.stat().st_size:
            self.path.unlink()
            self._origin.unlink(missing_ok=True)

    @property
    def size(self) -> int:
        return self._file.tell()

    def append(self, chunk: bytes) -> None:
        self._file.write(chunk)

    def flush(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())

    def start_over(self) -> None:
        self._file.truncate(0)
        self._file.seek(0)

    def remember(self, address: str, validator: str | None) -> None:
        """Note the origin of the first byte; later bytes are only appended if they are of the same content."""
        if not self.size:
            files.write_json(self._origin, {"address": address, "validator": validator})

    def validator(self, address: str) -> str | None:
        """Return the server's validator (ETag or date) of the part if it came from this address, else None."""
        try:
            origin = json.loads(self._origin.read_text(encoding="utf-8"))
            return str(origin["validator"]) if origin["address"] == address and origin["validator"] else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def finish(self, path: Path) -> None:
        self.path.replace(path)
        self._origin.unlink(missing_ok=True)


def _mismatch(source: Source, path: Path) -> str | None:
    """Say what is wrong with the file, or return None."""
    size = path.stat().st_size
    if source.bytes and size != source.bytes:
        return f"{size} bytes, expected {source.bytes}"
    if source.checksum:
        algorithm, _, expected = source.checksum.partition(":")
        found = _digest(path, algorithm)
        if not found.startswith(expected):
            return f"its {_algorithm_text(algorithm)} is {found}, expected {expected}"
    recorded = _recorded(source)
    if recorded and _digest(path, "sha256") != recorded:
        return f"its SHA-256 differs from the one recorded when it was first seen ({_record(source)})"
    return None


def _digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def _algorithm_text(algorithm: str) -> str:
    return {"sha256": "SHA-256", "md5": "MD5"}[algorithm]


def _record(source: Source) -> Path:
    return source.path.with_name(source.file + ".sha256")


def _recorded(source: Source) -> str | None:
    path = _record(source)
    if source.fully_published or not path.is_file():
        return None
    digest = path.read_text(encoding="utf-8", errors="replace").partition(" ")[0].strip()
    if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
        raise UserError(f"{path}: expected `<SHA-256>  {source.file}`; delete it to record the checksum again")
    return digest


def _record_first_seen(source: Source, path: Path) -> None:
    if source.fully_published or _record(source).exists():
        return
    with files.atomic_write(_record(source)) as temporary:
        temporary.write_text(f"{_digest(path, 'sha256')}  {source.file}\n", encoding="utf-8")


def _check_present(source: Source) -> None:
    problem = _mismatch(source, source.path)
    if problem:
        remedy = (
            f"replace it with the file from {source.address}"
            if source.fetch == "manual"
            else "delete it and fetch it again"
        )
        raise UserError(f"{source.path}: not the file of {source.name}: {problem}; {remedy}")
    try:
        _record_first_seen(source, source.path)
    except OSError as error:
        raise UserError(
            f"{_record(source)}: cannot be written: {error.strerror}; the checksum of the first file seen is kept there"
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


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
