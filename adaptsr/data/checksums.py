"""Compare a file with its published size and checksum.

If no full checksum is published, the SHA-256 of the first file seen is kept as `<file>.sha256`, in the format of
`sha256sum`, and a different file is refused from then on.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from adaptsr import files
from adaptsr.data.catalogue import Source
from adaptsr.errors import UserError


def mismatch(source: Source, path: Path) -> str | None:
    """Say what is wrong with the file, or return None."""
    size = path.stat().st_size
    if source.bytes and size != source.bytes:
        return f"{size} bytes, expected {source.bytes}"
    if source.checksum:
        algorithm, _, expected = source.checksum.partition(":")
        found = file_digest(path, algorithm)
        if not found.startswith(expected):
            return f"its {algorithm_text(algorithm)} is {found}, expected {expected}"
    first_seen = recorded(source)
    if first_seen and file_digest(path, "sha256") != first_seen:
        return f"its SHA-256 differs from the one recorded when it was first seen ({record_path(source)})"
    return None


def file_digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def algorithm_text(algorithm: str) -> str:
    return {"sha256": "SHA-256", "md5": "MD5"}[algorithm]


def record_path(source: Source) -> Path:
    return source.path.with_name(source.file + ".sha256")


def recorded(source: Source) -> str | None:
    path = record_path(source)
    if source.fully_published or not path.is_file():
        return None
    digest = path.read_text(encoding="utf-8", errors="replace").partition(" ")[0].strip()
    if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
        raise UserError(f"{path}: expected `<SHA-256>  {source.file}`; delete it to record the checksum again")
    return digest


def record_first_seen(source: Source, path: Path) -> None:
    if source.fully_published or record_path(source).exists():
        return
    with files.atomic_write(record_path(source)) as temporary:
        temporary.write_text(f"{file_digest(path, 'sha256')}  {source.file}\n", encoding="utf-8")
