"""Read and write tensors as safetensors files, with JSON metadata."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from adaptsr import files
from adaptsr.errors import UserError


def save_tensors(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, Any]) -> None:
    """Write a safetensors file atomically; equal content gives equal bytes. Stores `metadata` as JSON in one key."""
    contiguous = {name: tensors[name].detach().cpu().contiguous() for name in sorted(tensors)}
    with files.atomic_write(path) as temporary:
        try:
            safetensors.torch.save_file(contiguous, temporary, {"adaptsr": json.dumps(dict(metadata), sort_keys=True)})
        except safetensors.SafetensorError as error:
            raise _system_error(error) from error


def _system_error(error: safetensors.SafetensorError) -> Exception:
    """Return the `OSError` behind a safetensors error, which has its number only in the text."""
    number = re.search(r"\(os error (\d+)\)", str(error))
    return OSError(int(number[1]), os.strerror(int(number[1]))) if number else error


def load_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read the tensors and metadata of a safetensors file. Raises `UserError` if it is missing or unreadable."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = json.loads((file.metadata() or {}).get("adaptsr", "{}"))
        if not isinstance(metadata, dict):
            raise ValueError("its metadata is not a mapping")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path}: not a readable safetensors file ({error})") from None
    return tensors, metadata


def resized(image: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Resize an image (C, H, W) to `size` (height, width), float32: bicubic, antialiased where it gets smaller."""
    given = image[None].to(torch.float32)
    return torch.nn.functional.interpolate(given, size=size, mode="bicubic", antialias=True)[0]
