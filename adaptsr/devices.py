"""Which GPU a process takes. Snakemake counts GPUs but does not say which one a job got; slots that are locks do.

A slot is a lock on a file, so that the kernel frees it when its process dies, however it dies. The files are those of the
machine and the user: workflows in several folders share the GPUs. Importing this module costs no torch.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING

from adaptsr.errors import UserError

if TYPE_CHECKING:
    import torch

    from adaptsr.config.schema import Compute

VISIBLE = "CUDA_VISIBLE_DEVICES"
LOCKS = Path("/tmp") / f"adaptsr-{os.getuid()}"  # not TMPDIR, which may differ between two shells
POLL_SECONDS = 0.5
COUNTING_SECONDS = 120
DEVICE_FILES = ("nvidia[0-9]*", "nvidiactl", "nvhost*", "dxg", "kfd")
"""Below /dev where there may be a GPU: NVIDIA's, those of its boards, of Windows' Linux, and AMD's."""


@dataclass(frozen=True)
class Gpu:
    """A GPU or a MIG part of one."""

    entry: str
    """What `CUDA_VISIBLE_DEVICES` calls it."""
    name: str
    """The same whatever the entry: the UUID where it is known."""


@dataclass(frozen=True)
class Listed:
    """A line of `nvidia-smi -L` with the lines of its MIG parts: UUIDs."""

    uuid: str
    parts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Slot:
    """A GPU that is held, alone or with others, until `release` or the end of the process."""

    gpu: Gpu
    locks: tuple[IO[str], ...]

    def release(self) -> None:
        for lock in self.locks:
            lock.close()


_held: list[Slot] = []


def claim_gpu(jobs_per_gpu: int, waiting: Callable[[str], None]) -> Slot | None:
    """Hold a slot for the rest of this process and make its GPU the only visible one; None on a machine without GPUs.

    To be called before anything initialises CUDA, which reads `CUDA_VISIBLE_DEVICES` once. A second call gives the same
    slot. Where all are taken, `waiting` is told once.
    """
    if not _held:
        gpus = shared_gpus()
        if not gpus:
            return None
        _held.append(take_slot(gpus, jobs_per_gpu, waiting))
        os.environ[VISIBLE] = _held[0].gpu.entry
    return _held[0]


def take_slot(
    gpus: Sequence[Gpu], jobs_per_gpu: int, waiting: Callable[[str], None], folder: Path | None = None
) -> Slot:
    """The first free slot, trying one of every GPU before a second of any; with one job a GPU, only a GPU that nobody holds."""
    folder = _own_folder(folder or LOCKS)
    told = False
    while True:
        for number, gpu in itertools.product(range(jobs_per_gpu), gpus):
            slot = _try(gpu, number, jobs_per_gpu, folder)
            if slot:
                return slot
        if not told:
            count = f"{len(gpus)} GPU{'s' if len(gpus) > 1 else ''}"
            waiting(f"all slots of {count} are taken ({jobs_per_gpu} a GPU): waiting for one; held in {folder}")
            told = True
        time.sleep(POLL_SECONDS)


def shared_gpus() -> list[Gpu]:
    """The GPUs that this process may take: those of `CUDA_VISIBLE_DEVICES` where it is set, all of the machine otherwise."""
    if not any(found for pattern in DEVICE_FILES for found in Path("/dev").glob(pattern)):
        return []
    visible = os.environ.get(VISIBLE)
    listed = _list_gpus()
    if visible is None and listed is None:
        return [Gpu(str(index), str(index)) for index in range(_count_gpus())]
    return choose(visible, listed or [])


def choose(visible: str | None, listed: Sequence[Listed]) -> list[Gpu]:
    """The GPUs that a value of `CUDA_VISIBLE_DEVICES` names, as CUDA reads it: up to the first entry that is none.

    An index counts the listed GPUs; a UUID may be cut. Where nothing is listed, entries are taken as they stand.
    """
    # On a machine of unlike cards CUDA may count in another order than the list: locks then bear each other's names, but
    # every process exchanges the same ones.
    known = [name for gpu in listed for name in (gpu.uuid, *gpu.parts)]
    if visible is None:
        return [Gpu(name, name) for gpu in listed for name in gpu.parts or (gpu.uuid,)]
    found: dict[str, Gpu] = {}
    for entry in (part.strip() for part in visible.split(",")):
        name = _name(entry, listed, known)
        if name is None:
            break
        found.setdefault(name, Gpu(entry, name))
    return list(found.values())


def _name(entry: str, listed: Sequence[Listed], known: Sequence[str]) -> str | None:
    if re.fullmatch(r"\d+", entry):
        if not listed:
            return entry
        return listed[int(entry)].uuid if int(entry) < len(listed) else None
    if not re.match(r"(GPU|MIG)-.", entry):
        return None
    return next((name for name in known if name.startswith(entry)), entry)


def parse_listing(text: str) -> list[Listed]:
    """What `nvidia-smi -L` prints: a line for each GPU, below it an indented one for each of its MIG parts."""
    listed: list[Listed] = []
    for line in text.splitlines():
        found = re.search(r"\(UUID: (\S+)\)", line)
        if found and line.startswith("GPU "):
            listed.append(Listed(found[1]))
        elif found and listed:
            listed[-1] = Listed(listed[-1].uuid, (*listed[-1].parts, found[1]))
    return listed


def _list_gpus() -> list[Listed] | None:
    """None where nvidia-smi is not there or fails."""
    text = _output_of(["nvidia-smi", "-L"])
    return None if text is None else parse_listing(text)


def _count_gpus() -> int:
    """Counted by torch, in another process: counting may initialise CUDA."""
    text = _output_of([sys.executable, "-c", "import torch; print(torch.cuda.device_count())"])
    return int(text) if text else 0


def _output_of(command: Sequence[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=COUNTING_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _try(gpu: Gpu, number: int, jobs_per_gpu: int, folder: Path) -> Slot | None:
    """Who shares a GPU also holds its file, shared, which keeps out whoever wants the GPU alone."""
    name = re.sub(r"[^A-Za-z0-9-]", "_", gpu.name)
    if jobs_per_gpu == 1:
        alone = _lock(folder / f"{name}.lock", fcntl.LOCK_EX)
        return Slot(gpu, (alone,)) if alone else None
    shared = _lock(folder / f"{name}.lock", fcntl.LOCK_SH)
    if shared is None:
        return None
    own = _lock(folder / f"{name}.{number}.lock", fcntl.LOCK_EX)
    if own is None:
        shared.close()
        return None
    return Slot(gpu, (shared, own))


def _lock(path: Path, kind: int) -> IO[str] | None:
    file = path.open("a")
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def _own_folder(folder: Path) -> Path:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat(follow_symlinks=False).st_uid != os.getuid():
        raise UserError(f"{folder}: belongs to another user; the locks of your GPUs are kept there: have it removed")
    return folder


def prepare_device(compute: Compute) -> torch.device:
    """The device of a profile, with threads and determinism set as it says.

    A GPU is held until the process ends, and waited for where others hold all of them (`adaptsr.devices`).
    """
    import torch

    if compute.device != "cpu" and not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        slot = claim_gpu(compute.jobs_per_gpu, _say)
        if slot and not torch.cuda.is_available() and compute.device == "auto":
            _say("there is a GPU, but this torch cannot use it (an older driver?): going on on the CPU")
    if compute.device == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "compute.device: cuda was asked for, but this torch can use none here; look at the driver, or use `auto` or `cpu`"
        )
    torch.set_num_threads(compute.threads)
    # cuBLAS reads it when its first handle is made.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # An operator without a deterministic form is named in the record; refusing it would leave out whole backbones.
    torch.use_deterministic_algorithms(compute.deterministic, warn_only=True)
    # Shift masks of window attention leave numbers of 1e-44, with which processors calculate very slowly.
    torch.set_flush_denormal(True)
    # Filling fresh memory with NaN is a debugging aid that costs every operator a pass over its output.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    use_cuda = compute.device != "cpu" and torch.cuda.is_available()
    return torch.device("cuda" if use_cuda else "cpu")


@cache
def _say(line: str) -> None:
    """On standard error, each line once: a process prepares its device more than once."""
    print(line, file=sys.stderr, flush=True)
