"""Write files atomically, lock folders, digest content, and read and check JSON."""

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
from typing import Any, TypeVar

import pydantic

from adaptsr.errors import UserError

Model = TypeVar("Model", bound=pydantic.BaseModel)


def expanded(text: str) -> Path:
    """Expand `~`; leave the path unchanged if that home is unknown."""
    return Path(os.path.expanduser(text))  # noqa: PTH111 (pathlib raises for an unknown user)


NODE_FOLDER = Path("/tmp") / f"adaptsr-{os.getuid()}"  # not TMPDIR, which may differ between two shells
"""Where this user's processes on this machine keep locks and stamps."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
CLOSED = (errno.EROFS, errno.EACCES, errno.EPERM)
TAKEN = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR)
_ADVICE = {
    **dict.fromkeys(FULL, "make room and run the same command again"),
    **dict.fromkeys(CLOSED, "make the folder writable and run the same command again"),
    **dict.fromkeys(TAKEN, "a file or folder of that name is in the way; choose another name, or move it"),
    errno.ENAMETOOLONG: "give it a shorter name",
}


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`. Rename it to `path` if the block succeeds, delete it otherwise.

    Flushes the content to disk before the rename: a power cut must not leave a torn file under a finished name.
    Raises `UserError` if the disk is full or the folder is not writable.
    """
    with refusal_explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.name[:40]}.", suffix=f".tmp{path.suffix[-20:]}"
        )
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
def refusal_explained(path: Path) -> Iterator[None]:
    """Raise `UserError` where the block finds the disk full, the folder of `path` closed, or its name taken or too long."""
    try:
        yield
    except OSError as error:
        if error.errno not in _ADVICE:
            raise
        raise UserError(f"{path}: cannot be written: {os.strerror(error.errno)}; {_ADVICE[error.errno]}") from error


def link_or_copy(source: Path, target: Path) -> None:
    """Link a file, or copy it where the disk is another or has no links, with its times."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def own_folder(folder: Path) -> Path:
    """Make a folder that nobody else may enter, or return the one there is. Raises `UserError` if it is somebody else's."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat(follow_symlinks=False).st_uid != os.getuid():
        raise UserError(
            f"{folder}: belongs to another user, but is for your locks and stamps; ask its owner to remove it"
        )
    return folder


def remove(path: Path) -> None:
    """Remove a file, or a folder with its content, if it exists."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def remove_torn(folder: Path) -> None:
    """Remove the temporary files of killed writes. No other process may be writing to the folder."""
    for path in folder.glob(".*.tmp*"):
        path.unlink()


@contextmanager
def locked(folder: Path, waiting: Callable[[], None] = lambda: None, name: str = ".lock") -> Iterator[None]:
    """Lock a folder against other processes. The kernel releases the lock whenever this process dies.

    Calls `waiting` once if another process holds the lock.
    """
    with refusal_explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / name).open("w")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def write_json(path: Path, content: object) -> None:
    """Write JSON with sorted keys, atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(json_text(content), encoding="utf-8")


def json_text(content: object) -> str:
    """Format JSON with sorted keys, as it is written to files."""
    return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def digest(content: object) -> str:
    """Return the SHA-256 of the canonical JSON of `content`, in hex."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path, expected: str) -> Mapping[str, Any]:
    """Read a JSON object. Raises `UserError`, naming what was `expected`, if the file is missing or invalid."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; expected {expected}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot read this file: {error.strerror}; expected {expected}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON ({error}); expected {expected}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: not a JSON object; expected {expected}")
    return content


def validated(model: type[Model], content: Any, place: str, advice: str) -> Model:
    """Return JSON content as a model. Raises `UserError` that names `place`, the first wrong key and the `advice`."""
    try:
        return model.model_validate(content)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the file"
        raise UserError(f"{place}: {key}: {first['msg']}; {advice}") from None


def size_text(size: int | None) -> str:
    """Format a number of bytes for people: `3.5 GB`."""
    if size is None:
        return "unknown"
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} B"
