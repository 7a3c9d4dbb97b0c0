"""Archives that mean harm are refused in one line and write nothing but images of our names into the target."""

from __future__ import annotations

import contextlib
import gzip
import io
import re
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adaptsr.data import unpack as module
from adaptsr.data.catalogue import Images
from adaptsr.data.unpack import Selection, unpack
from adaptsr.errors import UserError
from tests.factories import refusal, tree

IMAGES = {f"set/lr/{name}.png": f"image {name}".encode() * 50 for name in ("a", "b", "c")}
ALL = Selection(Images("set", "set/lr/{name}.png"), "train/lr", 3)
EXTRACTED = {f"train/lr/{Path(name).name}": content for name, content in IMAGES.items()}


def zip_of(members: dict[str, bytes], change: Callable[[zipfile.ZipInfo], None] = lambda _: None) -> bytes:
    """A zip archive; `change` edits the entry of each member that is not one of the images."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            if name not in IMAGES:
                change(info)
            archive.writestr(info, content)
    return file.getvalue()


def tar_of(
    members: dict[str, bytes],
    change: Callable[[tarfile.TarInfo], None] = lambda _: None,
    form: int = tarfile.PAX_FORMAT,
) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz", format=form) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            if name not in IMAGES:
                change(info)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def with_mode(mode: int) -> Callable[[zipfile.ZipInfo], None]:
    def change(info: zipfile.ZipInfo) -> None:
        info.create_system = 3
        info.external_attr = mode << 16

    return change


def with_type(kind: bytes, link: str = "") -> Callable[[tarfile.TarInfo], None]:
    def change(info: tarfile.TarInfo) -> None:
        info.type, info.linkname = kind, link

    return change


def patched(archive: bytes, place: int, content: bytes) -> bytes:
    """The zip archive with bytes of its last member's entry in the central directory replaced."""
    start = archive.rindex(b"PK\x01\x02") + place
    return archive[:start] + content + archive[start + len(content) :]


def claiming(archive: bytes, size: int) -> bytes:
    return patched(archive, 24, size.to_bytes(4, "little"))


def tar_claiming(size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    """A tar.gz archive of one header that claims `size` bytes, followed by nothing."""
    info = tarfile.TarInfo("set/lr/huge.png")
    info.size, info.type = size, kind
    return gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + bytes(1024))


def unpacked(archive: bytes, tmp_path: Path, *selections: Selection) -> dict[str, bytes]:
    """What is written of the archive; nothing may ever be written elsewhere."""
    work = tmp_path / "work"
    work.mkdir(exist_ok=True)
    (work / "archive").write_bytes(archive)
    target = work / "target"

    def elsewhere() -> set[Path]:
        return {found for found in tmp_path.rglob("*") if not found.is_relative_to(target)}

    before = elsewhere()
    try:
        unpack(work / "archive", selections or (ALL,), target)
    finally:
        assert elsewhere() == before
        assert not [found for found in work.rglob("*") if found.is_symlink()]
    return tree(target)


@pytest.mark.parametrize("pack", [zip_of, tar_of, lambda *words: gzip.decompress(tar_of(*words))])
class TestGood:
    def test_only_what_is_wanted_is_written(self, tmp_path: Path, pack: Callable[..., bytes]) -> None:
        others = {"set/README": b"x", "set/hr/a.png": b"y", "set/lr/deeper/a.png": b"z", "__MACOSX/set/lr/._a.png": b""}
        dotted = {f"./{name}": content for name, content in IMAGES.items()}
        assert unpacked(pack(others | dotted), tmp_path) == EXTRACTED

    def test_several_selections(self, tmp_path: Path, pack: Callable[..., bytes]) -> None:
        one = Selection(Images("set", "set/*/{name}.png"), "test/hr", None)
        two = Selection(Images("set", "**/{name}_LR4.png"), "test/lr", 1)
        found = unpacked(pack(IMAGES | {"x/y/d_LR4.png": b"d"}), tmp_path, one, two)
        assert set(found) == {"test/hr/a.png", "test/hr/b.png", "test/hr/c.png", "test/lr/d.png"}

    @pytest.mark.parametrize(
        ("path", "count", "said"),
        [
            ("set/lr/{name}.png", 4, "3 images match .*, expected 4"),
            ("set/lr/{name}.png", 2, "more than the .* 2 im"),
            ("set/{name}.jpg", None, "0 images match .*, expected at least 1"),
        ],
    )
    def test_numbers_of_images(
        self, tmp_path: Path, pack: Callable[..., bytes], path: str, count: int | None, said: str
    ) -> None:
        selection = Selection(Images("set", path), "train/lr", count)
        assert re.search(said, refusal(lambda: unpacked(pack(IMAGES), tmp_path, selection)))


def test_the_folder_entries_of_a_tar(tmp_path: Path) -> None:
    folders = {"set": b"", "set/lr": b""}
    assert unpacked(tar_of(folders | IMAGES, with_type(tarfile.DIRTYPE)), tmp_path) == EXTRACTED


EVIL = {"evil": b"x"}
BIG = {"set/lr/big.png": bytes(80 << 20)}

HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "zip: parent": (lambda: zip_of(IMAGES | {"../evil": b"x"}), "a path that leads out"),
    "zip: parent that stays inside": (lambda: zip_of(IMAGES | {"set/lr/../x.png": b"x"}), "a path that leads out"),
    "zip: parent with backslashes": (lambda: zip_of(IMAGES | {"set\\..\\..\\evil": b"x"}), "a path that leads out"),
    "zip: absolute": (lambda: zip_of(IMAGES | {"/nowhere/evil": b"x"}), "an absolute path"),
    "zip: drive letter": (lambda: zip_of(IMAGES | {"C:/evil": b"x"}), "an absolute path"),
    "zip: backslash": (lambda: zip_of(IMAGES | {"set\\evil": b"x"}), "a backslash or a control"),
    "zip: newline": (lambda: zip_of(IMAGES | {"set/lr/a\nb.png": b"x"}), "a backslash or a control"),
    "zip: no name": (lambda: zip_of(IMAGES | {"\0": b"x"}), "a path that is empty"),
    "zip: link": (lambda: zip_of(IMAGES | {"evil": b"/etc/passwd"}, with_mode(stat.S_IFLNK | 0o777)), "a link"),
    "zip: an image that is a link": (
        lambda: zip_of({"set/lr/z.png": b"/etc/passwd"}, with_mode(stat.S_IFLNK | 0o777)),
        "a link",
    ),
    "zip: device": (lambda: zip_of(IMAGES | EVIL, with_mode(stat.S_IFCHR | 0o666)), "a device or other special file"),
    "zip: pipe": (lambda: zip_of(IMAGES | EVIL, with_mode(stat.S_IFIFO | 0o666)), "a device or other special file"),
    "zip: encrypted": (lambda: patched(zip_of(IMAGES | EVIL), 8, b"\x01\x00"), "encrypted"),
    "zip: lzma": (
        lambda: zip_of(IMAGES | EVIL, lambda info: setattr(info, "compress_type", zipfile.ZIP_LZMA)),
        "an unsupported compression method",
    ),
    "zip: bomb": (lambda: zip_of(BIG), "claim more than 67108864 bytes"),
    "zip: claims more than it has": (lambda: claiming(zip_of(IMAGES | EVIL), 100 << 20), "claim more than 67108864"),
    "zip: an image that claims more than it has": (lambda: claiming(zip_of(IMAGES), 4000), "damaged"),
    "zip: an image that claims less than it has": (lambda: claiming(zip_of(IMAGES), 40), "damaged"),
    "zip: a name that begins with a dash": (lambda: zip_of({"set/lr/-rf.png": b"x"}), "invalid image name '-rf'"),
    "zip: a hidden name": (lambda: zip_of({"set/lr/.a.png": b"x"}), "invalid image name"),
    "zip: a name with markup": (lambda: zip_of({"set/lr/<b>.png": b"x"}), "invalid image name"),
    "zip: truncated": (lambda: zip_of(IMAGES)[:-30], "damaged"),
    "zip: two of a name": (
        lambda: zip_of({"set/lr/a.png": b"x", "set/lr/A.png": b"y", "other/lr/a.png": b"z"}),
        "a second image named 'a.png'",
    ),
    "tar: parent": (lambda: tar_of(IMAGES | {"../evil": b"x"}), "a path that leads out"),
    "tar: absolute": (lambda: tar_of(IMAGES | {"/nowhere/evil": b"x"}), "an absolute path"),
    "tar: symbolic link": (lambda: tar_of(EVIL | IMAGES, with_type(tarfile.SYMTYPE, "/etc/passwd")), "a link"),
    "tar: hard link": (lambda: tar_of(EVIL | IMAGES, with_type(tarfile.LNKTYPE, "/etc/passwd")), "a link"),
    "tar: character device": (lambda: tar_of({"evil": b""} | IMAGES, with_type(tarfile.CHRTYPE)), "a device or"),
    "tar: pipe": (lambda: tar_of({"evil": b""} | IMAGES, with_type(tarfile.FIFOTYPE)), "a device or"),
    "tar: long parent": (lambda: tar_of(IMAGES | {"x/" * 200 + "../" * 300 + "evil": b""}), "a path that leads out"),
    "tar: bomb": (lambda: tar_of(BIG), "claim more than 67108864 bytes"),
    "tar: claims terabytes": (lambda: tar_claiming(1 << 42), "claim more than 67108864 bytes"),
    "tar: a negative size": (lambda: tar_claiming(-512), "refused|damaged"),
    "tar: a long name of gigabytes": (lambda: tar_claiming(4 << 30, tarfile.GNUTYPE_LONGNAME), "a header claims"),
    "tar: an extended header of gigabytes": (lambda: tar_claiming(4 << 30, tarfile.XHDTYPE), "a header claims"),
    "tar: a sparse file": (lambda: tar_claiming(0, tarfile.GNUTYPE_SPARSE), "a device or other|damaged"),
    "tar: cut in an image": (
        lambda: gzip.compress(gzip.decompress(tar_of(IMAGES, form=tarfile.USTAR_FORMAT))[:700]),
        "damaged",
    ),
    "plain tar: parent": (lambda: gzip.decompress(tar_of(IMAGES | {"../evil": b"x"})), "a path that leads out"),
    "plain tar: a long name of gigabytes": (
        lambda: gzip.decompress(tar_claiming(4 << 30, tarfile.GNUTYPE_LONGNAME)),
        "a header claims",
    ),
    "plain tar: cut": (lambda: gzip.decompress(tar_of(IMAGES, form=tarfile.USTAR_FORMAT))[:700], "damaged"),
    "neither": (lambda: b"<html>not found</html>", "damaged, or not a zip, tar or tar.gz archive"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_refused_in_one_line_with_nothing_written_elsewhere(tmp_path: Path, case: str) -> None:
    make, said = HOSTILE[case]
    selection = Selection(Images("set", "*/lr/{name}.png"), "train/lr", None)
    message = refusal(lambda: unpacked(make(), tmp_path, selection))
    assert re.search(said, message)
    assert message.startswith(str(tmp_path / "work/archive"))


def test_too_many_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_MEMBERS", 2)
    assert "more than 2 members" in refusal(lambda: unpacked(zip_of(IMAGES), tmp_path))


def test_a_disk_that_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.shutil, "copyfileobj", full)
    message = refusal(lambda: unpacked(zip_of(IMAGES), tmp_path))
    assert re.search(r"cannot be unpacked to .*: No space left on device", message)


@pytest.mark.parametrize("pack", [zip_of, tar_of])
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_anywhere_gives_the_images_or_one_line(
    tmp_path: Path, pack: Callable[..., bytes], data: st.DataObject
) -> None:
    """Fuzzing: bytes are overwritten anywhere; checksums may not see all of it, but what is written is inside."""
    archive = bytearray(pack(IMAGES))
    for _ in range(data.draw(st.integers(1, 4))):
        archive[data.draw(st.integers(0, len(archive) - 1))] = data.draw(st.integers(0, 255))
    shutil.rmtree(tmp_path / "work", ignore_errors=True)
    with contextlib.suppress(UserError):
        assert len(unpacked(bytes(archive), tmp_path)) == 3
