"""Extract files from untrusted zip, tar and tar.gz archives.

An archive never decides where a file is written: member paths are only compared with patterns, and files get names that
this module chooses. Even so, an archive is refused as a whole if a member could do harm elsewhere (an absolute path, `..`,
a link, a device) or if it unpacks to far more than its size: it is not the file that its publisher meant.
"""

from __future__ import annotations

import gzip
import io
import re
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from adaptsr.data.catalogue import Images
from adaptsr.errors import UserError

MOST_MEMBERS = 1_000_000
MOST_TIMES_ITS_SIZE = 20
"""An archive that unpacks to more than this many times its size is a bomb: images hardly compress."""
SMALLEST_LIMIT_BYTES = 64 << 20
MOST_BYTES_AT_ONCE = 16 << 20
CHUNK_BYTES = 1 << 20

IMAGE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _.()+-]*")


@dataclass(frozen=True)
class Selection:
    """Images of an archive to write to `folder`, below the target. `count` is their expected number, if known."""

    images: Images
    folder: str
    count: int | None


@dataclass(frozen=True)
class Member:
    """An entry of an archive; `open` reads its content."""

    path: str
    size: int
    refusal: str | None
    is_file: bool
    open: Callable[[], IO[bytes]]


class Refused(Exception):
    """The archive must not be unpacked."""


def unpack(archive: Path, selections: Sequence[Selection], target: Path) -> None:
    """Write the selected images as `target/<folder>/<name><suffix>`; skip other members.

    Raises `UserError`, naming archive and member, for a harmful member, a damaged archive, a bomb or an unexpected number
    of images. The caller then removes the files already written: `target` should be a temporary folder, renamed at the end.
    """
    counts: Counter[Selection] = Counter()
    with reading(archive, target) as members:
        for member in members:
            _extract(member, selections, counts, target)
    for selection in selections:
        if not counts[selection] or selection.count not in (None, counts[selection]):
            raise _wrong_count(archive, selection, str(counts[selection]))


@contextmanager
def reading(archive: Path, target: Path) -> Iterator[Iterator[Member]]:
    """Yield the files in an archive that is to be unpacked to `target`, and turn what fails in the block into `UserError`s.

    Raises `UserError`, naming archive and member, for a harmful member, a damaged archive and a bomb. The block raises
    `Refused` for a member that it does not expect.
    """
    try:
        with _members(archive) as members:
            yield _harmless_files(_within_limits(members, archive.stat().st_size))
    except Refused as refusal:
        raise UserError(f"{archive}: refused: {refusal}; this is not the archive its publisher meant") from None
    except _DAMAGED as error:
        raise UserError(
            f"{archive}: damaged, or not a zip, tar or tar.gz archive ({_one_line(error)}); delete it and fetch it again"
        ) from None
    except OSError as error:
        reason = error.strerror or error
        raise UserError(
            f"{archive}: cannot be unpacked to {target}: {reason}; make room there, or make the folder writable"
        ) from None


def _harmless_files(members: Iterable[Member]) -> Iterator[Member]:
    for member in members:
        if member.refusal:
            raise Refused(f"{_shown(member.path)}: {member.refusal}")
        if member.is_file:
            yield member


_DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    zlib.error,
    struct.error,
    EOFError,
    RuntimeError,  # of zipfile also for an unknown compression method
    ValueError,
    LookupError,
    OverflowError,
)


def _extract(member: Member, selections: Sequence[Selection], counts: Counter[Selection], target: Path) -> None:
    for selection in selections:
        name = selection.images.name_of(member.path)
        if name is None:
            continue
        if not IMAGE_NAME.fullmatch(name):
            raise Refused(f"{_shown(member.path)}: invalid image name {_shown(name)}")
        counts[selection] += 1
        if selection.count is not None and counts[selection] > selection.count:
            raise Refused(f"more than the expected {selection.count} images match {selection.images.pattern!r}")
        extract(member, target / selection.folder / f"{name}{selection.images.suffix}")


def extract(member: Member, path: Path) -> None:
    """Write a member's content to a new file; its folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with member.open() as source, path.open("xb") as file:
            shutil.copyfileobj(source, file, CHUNK_BYTES)
    except FileExistsError:
        raise Refused(f"{_shown(member.path)}: a second image named {path.name!r} for {path.parent.name}") from None
    if path.stat().st_size != member.size:
        raise EOFError(f"{_shown(member.path)}: {path.stat().st_size} of {member.size} bytes")


def _within_limits(members: Iterable[Member], archive_size: int) -> Iterator[Member]:
    most = max(SMALLEST_LIMIT_BYTES, MOST_TIMES_ITS_SIZE * archive_size)
    total = 0
    for number, member in enumerate(members, start=1):
        total += member.size
        if number > MOST_MEMBERS:
            raise Refused(f"more than {MOST_MEMBERS} members")
        if member.size < 0 or total > most:
            raise Refused(f"its members claim more than {most} bytes, {MOST_TIMES_ITS_SIZE} times its size")
        yield member


@contextmanager
def _members(archive: Path) -> Iterator[Iterator[Member]]:
    with archive.open("rb") as file:
        start = file.read(512)
    if start[:2] == b"PK":
        with zipfile.ZipFile(archive) as content:
            yield _zip_members(content)
    elif start[:2] == b"\x1f\x8b" or start[257:262] == b"ustar":
        opened = _BoundedFile(archive) if start[257:262] == b"ustar" else _BoundedGzip(archive)
        with opened as stream, tarfile.open(fileobj=cast(IO[bytes], stream), mode="r:") as content:
            yield _tar_members(content)
    else:
        raise ValueError("its first bytes match none of these formats")


def _zip_members(content: zipfile.ZipFile) -> Iterator[Member]:
    for info in content.infolist():
        kind = stat.S_IFMT(info.external_attr >> 16)
        yield Member(
            path=_normal(info.filename),
            size=info.file_size,
            refusal=_path_refusal(info.orig_filename) or _zip_refusal(info, kind),
            is_file=not info.filename.endswith("/"),
            open=lambda info=info: content.open(info),  # type: ignore[misc]
        )


def _zip_refusal(info: zipfile.ZipInfo, kind: int) -> str | None:
    if kind == stat.S_IFLNK:
        return "a link"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "a device or other special file"
    if info.flag_bits & 1:
        return "encrypted"
    known = info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
    return None if known else "an unsupported compression method"


def _tar_members(content: tarfile.TarFile) -> Iterator[Member]:
    for info in content:
        yield Member(
            path=_normal(info.name),
            size=info.size,
            refusal=_path_refusal(info.name) or _tar_refusal(info),
            is_file=info.isreg(),
            open=lambda info=info: cast(IO[bytes], content.extractfile(info)),  # type: ignore[misc]
        )


def _tar_refusal(info: tarfile.TarInfo) -> str | None:
    if info.issym() or info.islnk():
        return "a link"
    return None if (info.isreg() and not info.issparse()) or info.isdir() else "a device or other special file"


def _path_refusal(path: str) -> str | None:
    if path.startswith("/") or re.match(r"[A-Za-z]:", path):
        return "an absolute path"
    if ".." in re.split(r"[/\\]", path):
        return "a path that leads out of the archive"
    if "\\" in path or not path.isprintable() or not path:
        return "a path that is empty or has a backslash or a control character"
    return None


def _normal(path: str) -> str:
    return path.removeprefix("./")


class _BoundedGzip(gzip.GzipFile):
    """A gzip file that limits the size of a read: tarfile reads a whole extended header into memory."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(_bounded(size))


class _BoundedFile(io.FileIO):
    """A plain file with the same limit."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(_bounded(size)) or b""


def _bounded(size: int | None) -> int:
    if size is None or not 0 <= size <= MOST_BYTES_AT_ONCE:
        raise tarfile.ReadError(f"a header claims {size} bytes")
    return size


def _wrong_count(archive: Path, selection: Selection, found: str) -> UserError:
    expected = "at least 1" if selection.count is None else selection.count
    return UserError(
        f"{archive}: {found} images match {selection.images.pattern!r} for {selection.folder}, expected {expected}; "
        "if this is the publisher's archive, correct its row in config/datasets.tsv"
    )


def _shown(text: str) -> str:
    """Return the text quoted and cut, with control characters escaped."""
    return ascii(text) if len(text) <= 200 else ascii(text[:200]) + "..."


def _one_line(error: BaseException) -> str:
    return " ".join(ascii(str(error))[1:-1].split())[:200] or type(error).__name__
