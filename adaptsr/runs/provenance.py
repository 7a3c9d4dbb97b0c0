"""Collect what produced a number: code version, packages and machine."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pydantic

import adaptsr
from adaptsr import devices
from adaptsr.project import CHECKOUT, installed_version

if TYPE_CHECKING:
    import torch

PACKAGES = (
    "torch",
    "torchvision",
    "spandrel",
    "basicsr",
    "pyiqa",
    "numpy",
    "scipy",
    "pandas",
    "snakemake",
    "safetensors",
)


class Provenance(pydantic.BaseModel):
    """Where numbers come from: code, packages and machine."""

    code_version: str
    code_dirty: bool | None
    packages: dict[str, str]
    python: str
    system: str
    processor: str
    cores: int
    device: str
    tf32: bool | None = None
    """Whether float32 products on a GPU were rounded to TF32; None in records that do not say."""


@cache
def provenance(device: str = "cpu") -> Provenance:
    """Code version, packages and hardware of this process."""
    version, dirty = _code_version()
    return Provenance(
        code_version=version,
        code_dirty=dirty,
        packages={name: installed_version(name) for name in PACKAGES},
        python=platform.python_version(),
        system=f"{platform.system()} {platform.machine()}",
        processor=_processor_name(),
        cores=os.cpu_count() or 1,
        device=device,
        tf32=devices.TF32,
    )


def device_name(device: torch.device) -> str:
    """Name a GPU, or the processor with the number of threads that torch uses."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{_processor_name()}, {threads} thread{'s' if threads > 1 else ''}"


def _code_version() -> tuple[str, bool | None]:
    commit = _git(CHECKOUT, ["rev-parse", "HEAD"])
    if commit is None:
        return adaptsr.__version__, None
    return commit, bool(_git(CHECKOUT, ["status", "--porcelain"]))


def _git(root: Path, arguments: Sequence[str]) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _processor_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"
