"""Transfer one file over HTTP: resume a broken transfer by a Range request, confirm Google Drive's page."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urljoin

import requests
import urllib3.exceptions
from tqdm import tqdm

from adaptsr import files
from adaptsr.data.catalogue import Source
from adaptsr.data.checksums import mismatch
from adaptsr.errors import UserError, one_line
from adaptsr.files import size_text

ATTEMPTS = 4
"""Attempts in a row without any data before an address is given up."""


FIRST_PAUSE_SECONDS = 1.0
"""Pause after the first such attempt; it doubles each time."""


TIMEOUT_SECONDS = (15, 60)


CHUNK_BYTES = 1 << 20


LONGEST_PAGE_BYTES = 1 << 20


WORTH_ASKING_AGAIN = (408, 425, 429, 500, 502, 503, 504)


class Refused(Exception):
    """The address does not provide the file, and another attempt would not help."""


class BrokenOff(Exception):
    """The transfer ended early; another attempt may help."""


def ask(session: requests.Session, source: Source, address: str, part: Part) -> None:
    """Complete the part from this address, or raise `Refused` with the reason why it does not provide the file."""
    idle = 0
    while True:
        before = part.size
        try:
            _transfer(session, source, address, part)
            part.flush()
            problem = mismatch(source, part.path)
            if problem is None:
                return
            part.start_over()
            if not before:
                raise Refused(problem)
        except (requests.RequestException, urllib3.exceptions.HTTPError, BrokenOff) as error:
            idle = 0 if part.size > before else idle + 1
            if idle == ATTEMPTS:
                raise Refused(f"{ATTEMPTS} attempts in a row got no data: {one_line(error)}") from None
            time.sleep(FIRST_PAUSE_SECONDS * 2 ** (idle - 1))


def _transfer(session: requests.Session, source: Source, address: str, part: Part) -> None:
    """Request the rest of the part once, and append it."""
    if source.bytes and part.size >= source.bytes:
        if part.size == source.bytes:
            return
        part.start_over()
    with _answer(session, address, _range(source, address, part)) as response:
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            part.start_over()
            raise BrokenOff("the server's file is shorter than the part on disk")
        if response.status_code != requests.codes.partial_content:
            part.start_over()
        elif not response.headers.get("Content-Range", "").startswith(f"bytes {part.size}-"):
            part.start_over()
            raise BrokenOff("the server sent a different range than requested")
        total = _announced(source, response, part.size)
        part.remember(address, response.headers.get("ETag") or response.headers.get("Last-Modified"))
        _append(source, response, part, total)


def _append(source: Source, response: requests.Response, part: Part, total: int | None) -> None:
    most = source.bytes or total
    with tqdm(
        total=total, initial=part.size, unit="B", unit_scale=True, desc=source.file, file=sys.stderr, disable=None
    ) as bar:
        size = part.size
        for chunk in response.raw.stream(CHUNK_BYTES, decode_content=False):
            size += len(chunk)
            if most is not None and size > most:
                part.start_over()
                raise Refused(f"received more than the expected {most} bytes")
            part.append(chunk)
            bar.update(len(chunk))
    if total is not None and part.size < total:
        raise BrokenOff(f"received {part.size} of {total} bytes")


def _announced(source: Source, response: requests.Response, offset: int) -> int | None:
    """Return the size of the whole file that the server states, checked against the catalogue and the free space."""
    length = response.headers.get("Content-Length", "")
    total = offset + int(length) if length.isdigit() else None
    if total is None and not (source.bytes or source.checksum) and not response.raw.chunked:
        raise Refused("the server does not state the size of the file, so a truncated one would go unnoticed")
    if total is not None and source.bytes and total != source.bytes:
        raise Refused(f"the server's file has {total} bytes, expected {source.bytes}")
    needed = (total or source.bytes or offset) - offset
    free = shutil.disk_usage(source.path.parent).free
    if needed > free:
        raise UserError(
            f"{source.path}: needs {size_text(needed)}, but {size_text(free)} are free on this disk; make room"
        )
    return total


def _range(source: Source, address: str, part: Part) -> dict[str, str]:
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
        raise Refused(f"received a web page instead of the file ({form.title or 'without a title'})")
    with _get(session, form.address, headers, form.fields) as response:
        if _is_page(response):
            raise Refused("received another web page after confirming the download")
        yield response


@contextmanager
def _get(
    session: requests.Session, address: str, headers: dict[str, str], fields: dict[str, str] | None = None
) -> Iterator[requests.Response]:
    with session.get(address, headers=headers, params=fields, stream=True, timeout=TIMEOUT_SECONDS) as response:
        status = response.status_code
        if status in WORTH_ASKING_AGAIN:
            raise BrokenOff(f"{status} {response.reason}")
        if not response.ok and status != requests.codes.requested_range_not_satisfiable:
            raise Refused(f"{status} {response.reason}")
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


class Part:
    """The unfinished file beside the final name, open to append, and a note of its origin.

    Leaving the `with` block keeps the part unless it is empty.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._origin = path.with_name(path.name + ".json")

    def __enter__(self) -> Part:
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
