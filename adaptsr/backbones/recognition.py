"""Recognise a checkpoint file by its first bytes, whatever its name, and say in one line what another file is."""

from __future__ import annotations

import re
import struct
import tarfile
import zipfile
from pathlib import Path
from typing import Literal

from adaptsr.errors import UserError

HEAD_BYTES = 512
LONGEST_HEADER = 100_000_000
"""Bytes of the longest header that the safetensors format allows."""

_UNPACK = "unpack it and give the checkpoint inside"
_EXPORTED = "give the checkpoint that it was exported from"
_FOREIGN: tuple[tuple[bytes, str, str], ...] = (
    (rb"version https://git-lfs", "a Git LFS pointer, not the weights", "run `git lfs pull` in its repository"),
    (rb"# xet version", "a Xet pointer, not the weights", "fetch the file itself"),
    (
        rb"(?i)\s*(<!--.*?-->\s*)*<(!doctype html|html|head|body|script)",
        "a web page, often a log-in or confirmation page saved in place of a file",
        "fetch the file itself",
    ),
    (rb"\s*<", "an XML document, often an error message saved in place of a file", "fetch the file itself"),
    (rb"\s*[\[{]\s*[\"\]}]", "a JSON document, not the weights", "give the file that holds the tensors"),
    (rb"\x1f\x8b|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd|\x04\x22\x4d\x18", "a compressed file", _UNPACK),
    (rb"Rar!|7z\xbc\xaf", "an archive", _UNPACK),
    (rb"\x08[\x01-\x1f][\x12\x1a\x22\x3a\x42]", "an ONNX model", _EXPORTED),
    (rb"7767517\s", "an ncnn model", _EXPORTED),
    (rb".{4}TFL3", "a TensorFlow Lite model", _EXPORTED),
    (rb"GGUF", "a GGUF model", _EXPORTED),
    (rb"\x89HDF", "an HDF5 (Keras) file", "convert it to a PyTorch state dict"),
    (rb"MATLAB", "a MATLAB file", "convert it to a PyTorch state dict"),
    (rb"\x93NUMPY", "a NumPy array", "convert it to a PyTorch state dict"),
    (rb"\x89PNG|\xff\xd8\xff|GIF8|RIFF|BM|II\*\x00|MM\x00\*", "an image", "give the checkpoint"),
    (rb"%PDF", "a PDF document", "give the checkpoint"),
    (rb"\x00{64}", "a file that begins with zeros, probably an unfinished download", "fetch it again"),
)
"""First bytes of files that are no checkpoints (a pattern), what such a file is, and what to do."""


def recognised(path: Path) -> Literal["safetensors", "torch"]:
    """Return which reader takes a file. Raises `UserError` that says what the file is if neither does."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
        size = path.stat().st_size
    except IsADirectoryError:
        raise UserError(f"{path}: a folder; give the checkpoint file in it") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; give a checkpoint file") from None
    if not head:
        raise UserError(f"{path}: an empty file; fetch it again")
    if _is_safetensors(path, head, size):
        return "safetensors"
    if head.startswith(b"PK"):
        _check_zip(path)
        return "torch"
    if head[257:262] == b"ustar":
        _check_tar(path)
        return "torch"
    if re.match(rb"\x80[\x02-\x05]", head):
        return "torch"
    for pattern, what, advice in _FOREIGN:
        if re.match(pattern, head, re.DOTALL):
            raise UserError(f"{path}: {what}; {advice}")
    begins = repr(head[:24].decode()) if head[:24].isascii() else head[:8].hex(" ")
    what = "a text file" if _is_text(head) else "an unknown kind of file"
    raise UserError(f"{path}: {what}, which begins {begins}; give a .safetensors or PyTorch checkpoint")


def _is_text(head: bytes) -> bool:
    return all(byte in b"\t\n\r\f" or 32 <= byte < 127 for byte in head)


def _is_safetensors(path: Path, head: bytes, size: int) -> bool:
    if len(head) < 9 or head[8:9] != b"{":
        return False
    (header,) = struct.unpack("<Q", head[:8])
    if header > LONGEST_HEADER:
        return False
    if 8 + header > size:
        raise UserError(f"{path}: a safetensors file cut short, at {size} bytes; fetch it again")
    return True


def _check_zip(path: Path) -> None:
    """Raise `UserError` unless a zip file is one that torch.save wrote."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        raise UserError(f"{path}: a PyTorch checkpoint (zip) that is damaged or cut short; fetch it again") from None
    if any(name.endswith("/constants.pkl") for name in names):
        raise UserError(
            f"{path}: a TorchScript archive, which holds code; save its `state_dict()` with torch.save and give that file"
        )
    if not any(name.endswith("/data.pkl") for name in names):
        inside = ", ".join(repr(name[:60]) for name in names[:3]) + (", ..." if len(names) > 3 else "")
        raise UserError(f"{path}: a zip archive of other files ({inside or 'none'}); {_UNPACK}")


def _check_tar(path: Path) -> None:
    """Raise `UserError` unless a tar file is one that the first releases of torch.save wrote."""
    try:
        with tarfile.open(path) as archive:
            names = archive.getnames()
    except (tarfile.TarError, OSError):
        names = []
    if not {"pickle", "storages", "tensors"} <= set(names):
        raise UserError(f"{path}: a tar archive; {_UNPACK}")
