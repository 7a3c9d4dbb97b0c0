"""Write a model as ONNX, and compare onnxruntime with torch on it. Needs the extra `onnx`."""

from __future__ import annotations

import importlib.util
import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import nn

from adaptsr import files
from adaptsr.backbones.gate import facts
from adaptsr.backbones.inference import enlarge
from adaptsr.errors import UserError, one_line
from adaptsr.randomness import generator

OPSET = 17
"""The newest that torch's older exporter writes without changes; its newer exporter fails on window attention and pooling."""
SIZES = ((64, 64), (96, 72), (120, 136))
"""LR heights and widths at which a file of any size is compared."""
FIXED = (64, 128, 256)
"""LR sides of the files of a model that only works at the size it was written with."""
TOLERANCE = 1e-3
"""Largest difference of values in [0, 1] that counts as the same: a quarter of a level of 255."""


@dataclass(frozen=True)
class OnnxFiles:
    """The files, the LR sizes at which they were compared, and the largest difference in levels of 255.

    fixed: whether each file works at the one size in its name. multiple: else, what the sides of images must be multiples of.
    """

    paths: tuple[Path, ...]
    sizes: tuple[tuple[int, int], ...]
    difference: float
    fixed: bool
    multiple: int = 1

    @property
    def text(self) -> str:
        compared = ", ".join(f"{width}x{height}" for height, width in self.sizes)
        any_size = "any size" if self.multiple == 1 else f"any size whose sides are multiples of {self.multiple}"
        kind = "each for images of the size in its name alone" if self.fixed else f"for images of {any_size}"
        return (
            f"ONNX (opset {OPSET}), {kind}; onnxruntime differs from torch by at most {self.difference:.4f} levels of 255 "
            f"at {compared}"
        )


def is_installed() -> bool:
    return all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime"))


def write_onnx(model: nn.Module, folder: Path, stem: str) -> OnnxFiles:
    """Write `<stem>.onnx` for images of any size, or a file for each of some sizes if the model does not allow that.

    Raises `UserError` without the extra, and if onnxruntime restores otherwise than torch.
    """
    if not is_installed():
        raise UserError("--onnx: onnx and onnxruntime are not installed; install them with `make extras`")
    whole: nn.Module = model.eval().cpu().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    accepted = facts(whole).sizes
    fitted = accepted.fitted
    sizes = tuple(dict.fromkeys(fitted(*size) for size in SIZES))
    try:
        content = _exported(whole, sizes[0], any_size=True)
        difference = float(np.max([_difference(whole, content, size) for size in sizes]))  # NaN if one is
    except Exception:  # the exporter and onnxruntime fail in their own ways
        difference = float("inf")
    if difference <= TOLERANCE:
        path = folder / f"{stem}.onnx"
        with files.atomic_write(path) as temporary:
            temporary.write_bytes(content)
        return OnnxFiles((path,), sizes, 255 * difference, fixed=False, multiple=accepted.multiple_of)
    sizes = tuple(dict.fromkeys(fitted(side, side) for side in FIXED))
    written = list(_write_fixed(whole, folder, stem, sizes))
    return OnnxFiles(tuple(path for path, _ in written), sizes, 255 * max(found for _, found in written), fixed=True)


def _write_fixed(
    model: nn.Module, folder: Path, stem: str, sizes: tuple[tuple[int, int], ...]
) -> Iterator[tuple[Path, float]]:
    for height, width in sizes:
        path = folder / f"{stem}_{width}x{height}.onnx"
        try:
            content = _exported(model, (height, width), any_size=False)
            difference = _difference(model, content, (height, width))
        except Exception as error:
            reason = one_line(error)
            raise UserError(
                f"{path}: this architecture cannot be written as ONNX: {reason}; hand on .safetensors"
            ) from None
        if not difference <= TOLERANCE:  # NaN too
            raise UserError(
                f"{path}: onnxruntime differs from torch by {255 * difference:.2f} levels of 255; hand on .safetensors"
            )
        with files.atomic_write(path) as temporary:
            temporary.write_bytes(content)
        yield path, difference


def _exported(model: nn.Module, size: tuple[int, int], *, any_size: bool) -> bytes:
    axes = {0: "batch", 2: "height", 3: "width"}
    content = io.BytesIO()
    graph_unprinted = mock.patch.object(torch._C, "_jit_onnx_log")
    with warnings.catch_warnings(), graph_unprinted, torch.no_grad():
        warnings.simplefilter("ignore")  # of traced shapes; the comparison decides
        torch.onnx.export(
            model,
            (torch.zeros(1, 3, *size),),
            content,  # type: ignore[arg-type]
            opset_version=OPSET,
            dynamo=False,
            input_names=["lr"],
            output_names=["restored"],
            dynamic_axes={"lr": axes, "restored": axes} if any_size else None,
        )
    return content.getvalue()


def _difference(model: nn.Module, content: bytes, size: tuple[int, int]) -> float:
    """Return the largest difference between onnxruntime and torch on a random image of this size."""
    import onnxruntime

    image = torch.rand(1, 3, *size, generator=generator("onnx", *size))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session: Any = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    found = session.run(None, {"lr": image.numpy()})[0]
    return float(np.abs(np.clip(found, 0, 1) - enlarge(model, image).numpy()).max())
