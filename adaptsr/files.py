"""Write files atomically, lock folders, digest content, and read JSON."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from adaptsr.errors import UserError


def expanded(text: str) -> Path:
    """The path that a user wrote, `~` being the home folder; that of a user who is not there stays as it is."""
    return Path(os.path.expanduser(text))  # noqa: PTH111 (pathlib raises for a user who is not there)


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


CLOSED = (errno.EROFS, errno.EACCES, errno.EPERM)


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its name when the block ends well, and vanishes otherwise.

    The content is flushed to disk before the rename, so that a power cut cannot leave a finished name on a torn file.
    `UserError` where the disk is full or the folder cannot be written.
    """
    with _refusal_explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=f".tmp{path.suffix}")
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.chmod(0o644)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def _refusal_explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (*FULL, *CLOSED):
            raise
        advice = "make room" if error.errno in FULL else "make the folder writable"
        raise UserError(
            f"{path}: cannot be written: {os.strerror(error.errno)}; {advice} and run the same command again"
        ) from error


def remove(path: Path) -> None:
    """Remove a file or a folder with all in it, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def remove_torn(folder: Path) -> None:
    """Remove what writes that were killed have left in a folder that nobody else writes to now."""
    for path in folder.glob(".*.tmp*"):
        path.unlink()


@contextmanager
def locked(folder: Path, waiting: Callable[[], None] = lambda: None, name: str = ".lock") -> Iterator[None]:
    """Hold a folder against other processes; the kernel lets go of it when this one dies, however it dies.

    `waiting` is called once where another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def write_json(path: Path, content: object) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def digest(content: object) -> str:
    """SHA-256 of the canonical JSON of `content`."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path, expected: str) -> Mapping[str, Any]:
    """A JSON object from `path`; `UserError` says what was `expected` there."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; expected {expected}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot read this file: {error.strerror}; expected {expected}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON ({error}); expected {expected}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: a JSON object was expected: {expected}")
    return content
