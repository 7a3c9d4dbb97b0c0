"""Checkpoints that mean harm: nothing is executed or written, and one line says what was refused."""

from __future__ import annotations

import io
import json
import pickle
import struct
import tarfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from adaptsr.backbones.checkpoints import read_checkpoint
from adaptsr.tensors import load_tensors
from tests.factories import Touch, refusal, zipped

TENSORS = {"conv_first.weight": torch.zeros(4, 3, 3, 3)}


class TouchInState(Touch):
    """The same, hidden in the state of an object that is harmless to make."""

    def __reduce__(self) -> tuple[Any, ...]:
        return OrderedDict, (), {"x": Touch(self.sentinel)}


def saved(content: object, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def torch_zip(data: bytes) -> bytes:
    """torch.save's container around a pickle of our own."""
    return zipped({"archive/data.pkl": data, "archive/version": b"3\n", "archive/byteorder": b"little"})


def tarred(data: bytes) -> bytes:
    """The container of torch.save's first releases."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in {"pickle": data, "storages": b"", "tensors": b""}.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def torchscript() -> bytes:
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), buffer)  # type: ignore[no-untyped-call]
    return buffer.getvalue()


def bombed() -> bytes:
    """A checkpoint whose members unpack to a thousand times its size."""
    sound = zipfile.ZipFile(io.BytesIO(saved({"w": torch.zeros(64 << 20, dtype=torch.uint8)})))
    return zipped({name: sound.read(name) for name in sound.namelist()}, zipfile.ZIP_DEFLATED)


def safetensors_of(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def offsets(first: int, last: int) -> dict[str, Any]:
    return {"w": {"dtype": "F32", "shape": [2], "data_offsets": [first, last]}}


CHECKPOINTS: dict[str, tuple[str, Callable[[Path], bytes]]] = {
    "a pickle that executes, .pth": ("x.pth", lambda s: pickle.dumps(Touch(s))),
    "a pickle that executes, .safetensors": ("x.safetensors", lambda s: pickle.dumps(Touch(s))),
    "the oldest protocol": ("x.pth", lambda s: f"cposix\nsystem\n(S\"touch '{s}'\"\ntR.".encode()),
    "torch.save of an object": ("x.pth", lambda s: saved(Touch(s))),
    "torch.save, the old container": ("x.pth", lambda s: saved(Touch(s), _use_new_zipfile_serialization=False)),
    "among tensors": ("x.pth", lambda s: saved({"params": {**TENSORS, "x": Touch(s)}})),
    "beside tensors": ("x.ckpt", lambda s: saved({"state_dict": TENSORS, "hyper_parameters": {"a": [Touch(s)]}})),
    "in an object's state": ("x.pth", lambda s: saved({"params": TENSORS, "x": TouchInState(s)})),
    "in a zip, as torch.save names it": ("x.pth", lambda s: torch_zip(pickle.dumps(Touch(s), protocol=2))),
    "in a tar": ("x.pth", lambda s: tarred(pickle.dumps(Touch(s)))),
    "a function of torch": ("x.pth", lambda s: f"ctorch.hub\nload\n(S'{s}'\nS'x'\ntR.".encode()),
    "a module of torch": ("x.pth", lambda s: saved(torch.nn.Linear(2, 2))),
    "TorchScript": ("x.pt", lambda _: torchscript()),
    "a web page": ("x.pth", lambda _: b"<html><script>alert(1)</script></html>"),
    "cut in the middle": ("x.pth", lambda _: saved(TENSORS)[:400]),
    "a bomb": ("x.pth", lambda _: bombed()),
    "a tensor far larger than the file": ("x.pth", lambda _: saved({"w": torch.zeros(1).expand(1 << 40)})),
    "safetensors: a header of exabytes": ("x.safetensors", lambda _: safetensors_of(b"{}", length=1 << 62)),
    "safetensors: not JSON": ("x.safetensors", lambda _: safetensors_of(b"<script>alert(1)</script>")),
    "safetensors: offsets beyond the file": ("x.safetensors", lambda _: safetensors_of(offsets(0, 1 << 40))),
}
SAFETENSORS = [case for case, (name, _) in CHECKPOINTS.items() if name.endswith(".safetensors")]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("case", CHECKPOINTS)
def test_nothing_is_executed_or_written(tmp_path: Path, case: str) -> None:
    name, make = CHECKPOINTS[case]
    path = tmp_path / name
    path.write_bytes(make(tmp_path / "executed"))
    assert str(path) in refusal(lambda: read_checkpoint(path))
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("case", SAFETENSORS)
def test_adaptations_and_checkpoints_of_ours(tmp_path: Path, case: str) -> None:
    path = tmp_path / "adaptation.safetensors"
    path.write_bytes(CHECKPOINTS[case][1](tmp_path / "executed"))
    assert str(path) in refusal(lambda: load_tensors(path))
    assert list(tmp_path.iterdir()) == [path]


def test_the_payload_would_execute(tmp_path: Path) -> None:
    """The suite proves something only if its payload works."""
    for index, payload in enumerate((Touch, TouchInState)):
        pickle.loads(pickle.dumps(payload(tmp_path / str(index))))
        assert (tmp_path / str(index)).exists()
    torch.load(io.BytesIO(saved(Touch(tmp_path / "torch"))), weights_only=False)
    assert (tmp_path / "torch").exists()
