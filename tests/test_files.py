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


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EISDIR])
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


def test_a_file_in_the_place_of_a_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(
        UserError, match=r"taken/out\.json: cannot be written: .*; a file or folder of that name is in the way"
    ):
        files.write_json(tmp_path / "taken/out.json", {})
    with pytest.raises(UserError, match="taken: cannot be written"), files.locked(tmp_path / "taken"):
        pass
    assert (tmp_path / "taken").read_text() == "mine"


def test_names_as_long_as_the_system_allows_are_written(tmp_path: Path) -> None:
    """The name of the temporary file beside must not be longer."""
    for name in ("n" * 250 + ".json", "ü" * 120 + ".json"):
        files.write_json(tmp_path / name, {"a": 1})
        assert files.read_json(tmp_path / name, "a file") == {"a": 1}
    with pytest.raises(UserError, match="give it a shorter name"):
        files.write_json(tmp_path / ("n" * 300), {})


def test_where_a_disk_has_no_links_files_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    (tmp_path / "a").write_text("content")
    os.utime(tmp_path / "a", (1, 2))
    monkeypatch.setattr(os, "link", refuse)
    files.link_or_copy(tmp_path / "a", tmp_path / "b")
    assert ((tmp_path / "b").read_text(), (tmp_path / "b").stat().st_mtime) == ("content", 2)
