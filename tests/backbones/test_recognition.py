"""A file is known by its first bytes, and one line says what it is and what to do."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import sys
import tarfile
import types
from argparse import Namespace
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from adaptsr.backbones.checkpoints import read_checkpoint
from adaptsr.backbones.networks import Fits
from tests.factories import cut, refusal, zipped

STATE = {"conv.weight": torch.ones(4, 3, 3, 3), "conv.bias": torch.ones(4)}
FITS: Fits = lambda state: state.keys() == STATE.keys()  # noqa: E731


def saved(content: object, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def tarred() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("model.pth"), io.BytesIO())
    return buffer.getvalue()


class Config:
    """A class of the user's own, as settings beside weights often are."""


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + 64 * b"0" + b"\nsize 67040989\n"
ONNX = b"\x08\x07\x12\x07pytorch\x1a\x051.9.0:\x80\x01"
FLAT = safetensors.torch.save(STATE)

FOREIGN: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "an empty file; fetch it again"),
    "Git LFS": (LFS, "a Git LFS pointer, not the weights; run `git lfs pull`"),
    "a web page": (b"<!DOCTYPE html><html>Google Drive", "a web page, often a log-in or confirmation page"),
    "a web page, oddly written": (b"\r\n <HTML lang=en><head>", "a web page"),
    "an error of a store": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code>', "an XML document"),
    "an error as JSON": (b'{"error": "Repository not found"}', "a JSON document"),
    "gzip": (gzip.compress(saved(STATE)), "a compressed file; unpack it"),
    "tar": (tarred(), "a tar archive; unpack it"),
    "zip": (
        zipped({"weights/model.pth": saved(STATE)}),
        "a zip archive of other files ('weights/model.pth'); unpack it",
    ),
    "empty zip": (zipped({}), "a zip archive of other files (none)"),
    "7z": (b"7z\xbc\xaf\x27\x1c", "an archive; unpack it"),
    "ONNX": (ONNX, "an ONNX model; give the checkpoint that it was exported from"),
    "ncnn": (b"7767517\n999 1024\n", "an ncnn model"),
    "HDF5": (b"\x89HDF\r\n\x1a\n", "an HDF5 (Keras) file"),
    "NumPy": (b"\x93NUMPY\x01\x00", "a NumPy array"),
    "image": (b"\x89PNG\r\n\x1a\n", "an image; give the checkpoint"),
    "text": (b"the weights are on my drive", "a text file, which begins 'the weights are on my dr'"),
    "zeros": (bytes(4096), "probably an unfinished download; fetch it again"),
    "unknown": (b"\xde\xad\xbe\xef" * 4, "an unknown kind of file, which begins de ad be ef"),
    "half a checkpoint": (cut(saved(STATE), 0.5), "damaged or cut short; fetch it again"),
    "half of the old container": (
        cut(saved(STATE, _use_new_zipfile_serialization=False), 0.7),
        "damaged or cut short; fetch it again",
    ),
    "half of safetensors": (cut(FLAT, 0.6), "a safetensors file that is damaged or cut short"),
    "the first bytes of safetensors": (FLAT[:40], "a safetensors file cut short, at 40 bytes; fetch it again"),
    "a plain pickle": (pickle.dumps({"conv.weight": [0.5]}, 2), "a Python pickle that torch.save did not write"),
    "arrays": (pickle.dumps({"conv.weight": np.ones(3)}, 2), "a Python pickle that torch.save did not write"),
    "a whole model": (saved(nn.Conv2d(3, 4, 3)), "needs the code of 'torch.nn.modules.conv.Conv2d'"),
    "a newer protocol": (saved(STATE, pickle_protocol=4), "written with a pickle protocol that is not read safely"),
    "a class of its own": (saved({"params": STATE, "opt": Config()}), "needs the code of 'tests.backbones.test_recog"),
    "quantized": (
        saved({**STATE, "conv.weight": torch.ones(4, 3, 3, 3, dtype=torch.int8)}),
        "'conv.weight' is quantized",
    ),
    "not finite": (saved({**STATE, "conv.bias": torch.full((4,), torch.inf)}), "'conv.bias' holds values that are not"),
    "too large for float32": (
        saved({**STATE, "conv.bias": torch.full((4,), 1e300, dtype=torch.float64)}),
        "'conv.bias' holds values that are not finite",
    ),
}


@pytest.mark.parametrize("name", ["model.pth", "MODEL.SAFETENSORS"])
@pytest.mark.parametrize("case", FOREIGN)
def test_what_is_no_checkpoint(tmp_path: Path, case: str, name: str) -> None:
    """Whatever its name; and nobody is told to switch a safeguard off."""
    content, said = FOREIGN[case]
    path = tmp_path / name
    path.write_bytes(content)
    message = refusal(lambda: read_checkpoint(path, FITS))
    assert message.startswith(f"{path}: ")
    assert said in message
    assert "weights_only" not in message


def test_a_folder(tmp_path: Path) -> None:
    assert "a folder; give the checkpoint file in it" in refusal(lambda: read_checkpoint(tmp_path, FITS))


HARMLESS: dict[str, Callable[[], object]] = {
    "a namespace": lambda: Namespace(scale=4, path=Path("x")),
    "numbers and arrays of NumPy": lambda: {"psnr": np.float64(32.5), "mean": np.ones(3), "type": np.dtype("f4")},
    "a mapping with a default": lambda: defaultdict(list, {"a": [1]}),
    "parts of torch": lambda: {"act": nn.GELU, "adam": partial(torch.optim.Adam, lr=1)},
}


@pytest.mark.parametrize(
    ("case", "old"),
    [*((case, False) for case in HARMLESS), *((case, True) for case in HARMLESS if "torch" not in case)],
)
def test_settings_beside_weights(tmp_path: Path, case: str, old: bool) -> None:
    content = {"state_dict": STATE, "hyper_parameters": HARMLESS[case]()}
    path = tmp_path / "epoch=3.ckpt"
    path.write_bytes(saved(content, _use_new_zipfile_serialization=not old))
    assert read_checkpoint(path, FITS).state.keys() == STATE.keys()


@pytest.mark.parametrize(
    ("module", "name", "base"),
    [("pytorch_lightning.utilities.parsing", "AttributeDict", dict), ("omegaconf.dictconfig", "DictConfig", object)],
)
def test_settings_of_packages_that_are_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, name: str, base: type
) -> None:
    made = type(name, (base,), {"__module__": module})
    settings = made()
    vars(settings)["scale"] = 4
    if base is dict:
        settings["scale"] = 4
    path = tmp_path / "epoch=3.ckpt"
    with monkeypatch.context() as patch:
        for package in (module, module.partition(".")[0]):
            patch.setitem(sys.modules, package, types.ModuleType(package))
        vars(sys.modules[module])[name] = made
        path.write_bytes(saved({"state_dict": STATE, "hyper_parameters": settings}))
    assert read_checkpoint(path, FITS).state.keys() == STATE.keys()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", ["model.pth", "model.safetensors", "MODEL.SAFETENSORS", "model"])
def test_other_precisions_and_names(tmp_path: Path, dtype: torch.dtype, name: str) -> None:
    state = {key: value.to(dtype) for key, value in STATE.items()}
    path = tmp_path / name
    path.write_bytes(saved(state) if name == "model.pth" else safetensors.torch.save(state))
    read = read_checkpoint(path, FITS)
    assert {value.dtype for value in read.state.values()} == {torch.float32}
    assert read.notes == (f"{path}: holds {str(dtype)[6:]} weights, which are read as float32",)


def test_metadata_of_safetensors_is_no_weight(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file(STATE, path, {"adaptsr": json.dumps({"seed": 1})})
    assert read_checkpoint(path, FITS).notes == ()
