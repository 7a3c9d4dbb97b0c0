"""What a run leaves behind: the record's schema, provenance, and writing that is never torn."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Literal

import pydantic

import adaptsr
from adaptsr.config import Name
from adaptsr.errors import UserError

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
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
CLOSED = (errno.EROFS, errno.EACCES, errno.EPERM)


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its name when the block ends well, and vanishes otherwise.

    The content is flushed to disk before the rename, so that a power cut cannot leave a finished name on a torn file.
    `UserError` where the disk is full or the folder cannot be written.
    """
    with _refusal_explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=f".tmp{path.suffix}")
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.chmod(0o644)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def _refusal_explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (*FULL, *CLOSED):
            raise
        advice = "make room" if error.errno in FULL else "make the folder writable"
        raise UserError(
            f"{path}: cannot be written: {os.strerror(error.errno)}; {advice} and run the same command again"
        ) from error


def remove_torn(folder: Path) -> None:
    """Remove what writes that were killed have left in a folder that nobody else writes to now."""
    for path in folder.glob(".*.tmp*"):
        path.unlink()


@contextmanager
def locked(folder: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold a folder against other processes; the kernel lets go of it when this one dies, however it dies.

    `waiting` is called once where another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def write_json(path: Path, content: object) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def digest(content: object) -> str:
    """SHA-256 of the canonical JSON of `content`."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class LossPoint(pydantic.BaseModel):
    """Mean training loss over the iterations since the point before; null where it is not a finite number."""

    iteration: int
    loss: float | None


class ValidationPoint(pydantic.BaseModel):
    """PSNR-Y in dB (BT.601, no crop, 8 bit) on the validation split, with seconds of training so far."""

    iteration: int
    psnr_y: float
    seconds: float


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


class RunRecord(pydantic.BaseModel):
    """`record.json` of one run (backbone x variant x seed)."""

    model_config = pydantic.ConfigDict(extra="forbid")

    job: str
    """What the profile and the baseline's file asked for (`Matrix.job_key`)."""
    data: str
    """The images it was trained on and the weights it started from (`Matrix.data_key`)."""
    status: Literal["finished", "diverged"]
    profile: Name
    backbone: Name
    baseline: Name
    variant: Name
    seed: int
    config: dict[str, Any]
    title: str
    extension: str | None
    notes: list[str]
    total_parameters: int
    trainable_parameters: int
    iterations: int
    resumed_from: int
    wall_seconds: float
    peak_memory_bytes: int
    start_psnr_y: float
    losses: list[LossPoint]
    validation: list[ValidationPoint]
    diverged_at: int | None = None
    adaptation_sha256: str | None = None
    plan_sha256: str | None = None
    provenance: Provenance

    @property
    def key(self) -> str:
        return run_key(self.job, self.data, self.seed)

    @property
    def result_key(self) -> str:
        """Of what its scores and pictures are: of this run, and of the very weights it ended with.

        A key alone is not enough: made again on another machine, a run may differ in its last bits.
        """
        return digest({"run": self.key, "weights": self.adaptation_sha256})

    def write(self, path: Path) -> None:
        write_json(path, self.model_dump(mode="json"))


def run_name(backbone: str, row: str, seed: int | None) -> str:
    """`<backbone>/<row>/seed<seed>`: a run's name, and where it lies below its profile's results; what is not trained has no seed."""
    return f"{backbone}/{row}" if seed is None else f"{backbone}/{row}/seed{seed}"


def run_key(job: str, data: str, seed: int) -> str:
    """Hash of everything that determines a run; a finished run with this key is never done again."""
    return digest({"job": job, "data": data, "seed": seed})


def read_record(path: Path) -> RunRecord:
    """Read and check a run's record; `UserError` names the file when it is missing or not a record."""
    try:
        return RunRecord.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path}: no such record; the run is not there or not finished") from None
    except OSError as error:
        raise UserError(f"{path}: cannot read this record: {error.strerror}") from None
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise UserError(f"{path}: not a run record: {where}: {first['msg']}; {redo(path.parent)}") from None


def redo(run: Path) -> str:
    """What a user does to have a run done again: it is checked, and found wanting, when its job runs again."""
    variant, backbone = run.parent, run.parent.parent.parent
    scores = backbone.parent / "scores" / f"{backbone.name}.parquet"
    return f"delete {variant}/runs.*.json and, where it is there, {scores}, and run snakemake again"


def another_run(run: Path) -> str:
    """What is said of a run that lies where the profile asks for another one."""
    return f"{run / 'record.json'}: a run of another protocol, schedule, data or options than its profile asks for; {redo(run)}"


@cache
def provenance(device: str = "cpu") -> Provenance:
    """Code version, packages and hardware of this process."""
    version, dirty = _code_version()
    return Provenance(
        code_version=version,
        code_dirty=dirty,
        packages={name: _package_version(name) for name in PACKAGES},
        python=platform.python_version(),
        system=f"{platform.system()} {platform.machine()}",
        processor=_processor_name(),
        cores=os.cpu_count() or 1,
        device=device,
    )


def _code_version() -> tuple[str, bool | None]:
    root = Path(__file__).resolve().parent.parent
    commit = _git(root, ["rev-parse", "HEAD"])
    if commit is None:
        return adaptsr.__version__, None
    return commit, bool(_git(root, ["status", "--porcelain"]))


def _git(root: Path, arguments: Sequence[str]) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _package_version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _processor_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def read_json(path: Path, expected: str) -> Mapping[str, Any]:
    """A JSON object from `path`; `UserError` says what was `expected` there."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; expected {expected}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot read this file: {error.strerror}; expected {expected}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON ({error}); expected {expected}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: a JSON object was expected: {expected}")
    return content
