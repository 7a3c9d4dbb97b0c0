"""A file is written whole or not at all, and what the system refuses is one line."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from adaptsr import files
from adaptsr.errors import UserError


def test_json_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": 1}', encoding="utf-8-sig")
    assert files.read_json(tmp_path / "a.json", "a test's file") == {"a": 1}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_what_the_system_refuses_to_write_is_one_line(tmp_path: Path, number: int) -> None:
    def write_half(path: Path) -> None:
        with files.atomic_write(path) as temporary:
            temporary.write_bytes(b"half")
            raise OSError(number, os.strerror(number))

    with pytest.raises(UserError) as caught:
        write_half(tmp_path / "scores.parquet")
    assert str(caught.value).startswith(f"{tmp_path / 'scores.parquet'}: cannot be written: {os.strerror(number)}")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_at_the_very_end_of_a_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Delayed allocation: some file systems say it only when the file is flushed."""

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "record.json").write_text("before")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left on device"):
        files.write_json(tmp_path / "record.json", {"after": 1})
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"record.json": "before"}
