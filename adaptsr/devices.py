"""Choose a GPU for this process and hold it. Snakemake counts GPUs but does not tell a job which one it got.

A slot is a lock on a file, so that the kernel frees it whenever its process dies. The lock files belong to the machine
and the user: workflows in several folders share the GPUs. Importing this module does not import torch.
"""

from __future__ import annotations

import ctypes
import fcntl
import itertools
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from adaptsr import files
from adaptsr.errors import UserError
from adaptsr.progress import say_once

if TYPE_CHECKING:
    import torch

    from adaptsr.config.schema import Compute

VISIBLE = "CUDA_VISIBLE_DEVICES"
LOCKS = files.NODE_FOLDER
TF32 = False
"""Whether float32 products on a GPU may round their factors to 10 bits, in training and scoring alike: torch's default is on
for convolutions and off for matrices, and numbers would depend on the card."""
MALLOC_KEEPS = {-3: 32 << 20, -1: 1 << 30, -2: 64 << 20}
"""glibc's options M_MMAP_THRESHOLD, M_TRIM_THRESHOLD and M_TOP_PAD (mallopt(3)), in bytes."""
CGROUP, OWN_GROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
POLL_SECONDS = 0.5
COUNTING_SECONDS = 120
DEVICE_FILES = ("nvidia[0-9]*", "nvidiactl", "nvhost*", "dxg", "kfd")
"""Files in /dev that hint at a GPU: NVIDIA cards, NVIDIA boards, Windows' Linux, AMD."""


@dataclass(frozen=True)
class Gpu:
    """A GPU or a MIG part of one."""

    entry: str
    """Its entry in `CUDA_VISIBLE_DEVICES`."""
    name: str
    """Its name in lock files, independent of the entry: the UUID if known."""


@dataclass(frozen=True)
class Listed:
    """A GPU listed by `nvidia-smi -L`, with its MIG parts, all as UUIDs."""

    uuid: str
    parts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Slot:
    """A GPU that this process holds, alone or shared, until `release` or the end of the process."""

    gpu: Gpu
    locks: tuple[IO[str], ...]

    def release(self) -> None:
        for lock in self.locks:
            lock.close()


_held: list[Slot] = []


def claim_gpu(jobs_per_gpu: int, waiting: Callable[[str], None]) -> Slot | None:
    """Hold a slot until this process ends and make its GPU the only visible one. Return None without GPUs.

    Call it before anything initialises CUDA, which reads `CUDA_VISIBLE_DEVICES` once. Later calls return the same slot.
    If all slots are taken, calls `waiting` once with a line of text.
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
    """Take the first free slot; wait if all are taken.

    Tries one slot of every GPU before a second of any. With one job per GPU, takes only a GPU that nobody holds.
    """
    folder = files.own_folder(folder or LOCKS)
    told = False
    while True:
        for number, gpu in itertools.product(range(jobs_per_gpu), gpus):
            slot = _try(gpu, number, jobs_per_gpu, folder)
            if slot:
                return slot
        if not told:
            count = f"{len(gpus)} GPU{'s' if len(gpus) > 1 else ''}"
            waiting(f"all slots of {count} are taken ({jobs_per_gpu} per GPU); waiting for one; locks are in {folder}")
            told = True
        time.sleep(POLL_SECONDS)


def shared_gpus() -> list[Gpu]:
    """Return the GPUs that this process may take: those in `CUDA_VISIBLE_DEVICES`, or all if it is unset."""
    if not any(found for pattern in DEVICE_FILES for found in Path("/dev").glob(pattern)):
        return []
    visible = os.environ.get(VISIBLE)
    listed = _list_gpus()
    if visible is None and listed is None:
        return [Gpu(str(index), str(index)) for index in range(_count_gpus())]
    return choose(visible, listed or [])


def choose(visible: str | None, listed: Sequence[Listed]) -> list[Gpu]:
    """Return the GPUs that a value of `CUDA_VISIBLE_DEVICES` selects. Like CUDA, stop at the first invalid entry.

    An index counts the listed GPUs; a UUID may be shortened. Entries are not checked if `listed` is empty.
    """
    # With different cards, CUDA may count in another order than nvidia-smi. Lock names are then swapped, but alike in
    # every process.
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
    """Parse the output of `nvidia-smi -L`: a line for each GPU, followed by an indented line for each MIG part."""
    listed: list[Listed] = []
    for line in text.splitlines():
        found = re.search(r"\(UUID: (\S+)\)", line)
        if found and line.startswith("GPU "):
            listed.append(Listed(found[1]))
        elif found and listed:
            listed[-1] = Listed(listed[-1].uuid, (*listed[-1].parts, found[1]))
    return listed


def _list_gpus() -> list[Listed] | None:
    """Return the GPUs that nvidia-smi lists, or None if it is missing or fails."""
    text = _output_of(["nvidia-smi", "-L"])
    return None if text is None else parse_listing(text)


def _count_gpus() -> int:
    """Count GPUs with torch, in another process because counting may initialise CUDA."""
    text = _output_of([sys.executable, "-c", "import torch; print(torch.cuda.device_count())"])
    return int(text) if text else 0


def _output_of(command: Sequence[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=COUNTING_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _try(gpu: Gpu, number: int, jobs_per_gpu: int, folder: Path) -> Slot | None:
    """Lock one slot of a GPU, or return None if it is taken.

    Jobs that share a GPU also hold a shared lock on the GPU's own file. It keeps out a job that wants the GPU alone.
    """
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


def prepare_device(compute: Compute) -> torch.device:
    """Return the device that `compute` selects, after setting threads and determinism.

    Holds a GPU until the process ends, and waits for one if all are taken. Raises `UserError` if `device` is `cuda` and
    torch cannot use a GPU.
    """
    import torch

    if compute.device != "cpu" and not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        slot = claim_gpu(compute.jobs_per_gpu, say_once)
        if slot and not torch.cuda.is_available() and compute.device == "auto":
            say_once("found a GPU, but torch cannot use it (is the driver too old?); using the CPU")
    device = usable(compute.device)
    _keep_freed_memory()
    torch.set_num_threads(compute.threads)
    # cuBLAS reads this when it creates its first handle.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # Only warn: some backbones need an operator without a deterministic form. The record names it.
    # `use_deterministic_algorithms(True, warn_only=True)` without its import of the compiler, which takes a second.
    torch.set_deterministic_debug_mode("warn" if compute.deterministic else "default")
    torch.backends.cuda.matmul.allow_tf32 = TF32
    torch.backends.cudnn.allow_tf32 = TF32
    # The shift masks of window attention leave values near 1e-44, and CPUs compute very slowly with denormals.
    torch.set_flush_denormal(True)
    # Filling fresh memory with NaN is a debugging aid; it costs every operator a pass over its output.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    return device


def _keep_freed_memory() -> None:
    """Let glibc's malloc keep up to 1 GiB that was freed: fresh pages take a training step on a CPU about 8% of its time."""
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        for option, size in MALLOC_KEEPS.items():
            libc.mallopt(option, size)


def usable(name: str) -> torch.device:
    """Return the device of this name, or for `auto` CUDA or the CPU. Raises `UserError` if torch cannot use it here."""
    import torch

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(name, True):
        raise UserError(
            f"compute.device: `{name}` is set, but torch cannot use a GPU here; check the driver, or set `auto` or `cpu`"
        )
    if name == "mps":
        say_once("Apple's GPUs (MPS) are untested: compare a restored picture with one of the CPU")
    return torch.device(name if name != "auto" else "cuda" if torch.cuda.is_available() else "cpu")


def free_memory(device: torch.device) -> int:
    """Return the bytes that this process may still take: of a GPU, or of this machine and the container around it."""
    import psutil
    import torch

    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    free = int(psutil.virtual_memory().available)
    for folder, limit, used in _memory_groups():
        try:
            left = int((folder / limit).read_text()) - int((folder / used).read_text())
            cached = re.search(r"^(total_)?inactive_file (\d+)$", (folder / "memory.stat").read_text(), re.MULTILINE)
        except (OSError, ValueError):  # another kind of container, or one without a limit
            continue
        free = max(0, min(free, left + (int(cached[2]) if cached else 0)))
    return free


def _memory_groups() -> Iterator[tuple[Path, str, str]]:
    """Yield the control groups around this process, the innermost first, with the names of their limit and their use.

    A container is one, often shown as the root; a Slurm job is one inside (cgroups(7)).
    """
    lines = OWN_GROUP.read_text().splitlines() if OWN_GROUP.is_file() else []
    for line in [*lines, "0::/", "0:memory:/"]:
        _, kinds, path = line.split(":", 2)
        if kinds and "memory" not in kinds.split(","):
            continue
        root, names = (
            (CGROUP / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes"))
            if kinds
            else (CGROUP, ("memory.max", "memory.current"))
        )
        own = root / path.lstrip("/")
        for folder in (own, *(parent for parent in own.parents if parent.is_relative_to(root))):
            yield (folder, *names)
