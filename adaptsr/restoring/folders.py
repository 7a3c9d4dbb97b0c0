"""Restore photographs and folders of them: finished ones are skipped, damaged ones named, memory is kept within bounds."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from adaptsr import files
from adaptsr.backbones.gate import facts
from adaptsr.backbones.inference import enlarge
from adaptsr.backbones.tiles import Memory, Reach, difference_on, measure_memory, measure_reach, restored_bands
from adaptsr.data.matching import Side, list_images
from adaptsr.devices import free_memory
from adaptsr.errors import UserError, one_line, raise_all
from adaptsr.progress import Progress
from adaptsr.restoring.models import Restorer
from adaptsr.restoring.photographs import (
    KINDS,
    STAMPED,
    Kind,
    Photograph,
    described,
    is_restored,
    read_photograph,
    read_stamp,
    suffix_of,
    write_photograph,
)

SECONDS_BETWEEN_LINES = 10.0


@dataclass(frozen=True)
class Job:
    """A photograph to restore. pixels: how many it has."""

    source: Path
    target: Path
    pixels: int
    stamp: str


def restore_photographs(
    restorer: Restorer, inputs: Sequence[Path], out: Path, progress: Progress
) -> tuple[list[Job], list[str]]:
    """Restore photographs and all images of folders into `out`, but for those that were restored before.

    Returns the photographs that are restored now, and a problem for each that cannot be. Raises `UserError` before work
    starts if a restored photograph would replace another file.
    """
    problems: list[str] = []
    jobs = _jobs(restorer, _sources(inputs, out, problems), out, problems)
    left = [job for job in jobs if not job.target.exists()]
    if len(left) < len(jobs):
        progress(f"{out}: {len(jobs) - len(left)} of {len(jobs)} photographs are restored already")
    if left:
        with files.locked(out, lambda: progress(f"{out}: waiting for another process that restores into this folder")):
            files.remove_torn(out)
            work = _Work(restorer, measure_memory(restorer.model), progress, sum(job.pixels for job in left))
            for job in left:
                try:
                    work.restore(job)
                except UserError as error:
                    problems.append(str(error))
                except Exception as error:  # of a kind that no test knows: the others are restored all the same
                    problems.append(f"{job.source}: cannot be restored ({type(error).__name__}: {one_line(error)})")
    return [job for job in jobs if job.target.exists()], problems


def restore_levels(restorer: Restorer, kind: Kind, levels: NDArray[Any]) -> NDArray[Any]:
    """Restore levels (H, W, channels), uint8 or uint16. Grey is restored as color; alpha is enlarged bicubically."""
    most = np.iinfo(levels.dtype).max
    light = torch.from_numpy(levels.astype(np.float32) / most).permute(2, 0, 1)[None]
    restored = light.new_empty(1, light.shape[1], *(side * restorer.scale for side in light.shape[-2:]))
    for channels in map(list, kind.pictures):
        picture = light[:, channels].expand(-1, 3, -1, -1)
        large = enlarge(restorer.model, 1 - picture if kind.inverted else picture).cpu()
        large = large if len(channels) == 3 else large.mean(dim=1, keepdim=True)
        restored[:, channels] = 1 - large if kind.inverted else large
    if kind.alpha is not None:
        alpha = light[:, kind.alpha : kind.alpha + 1]
        large = functional.interpolate(alpha, scale_factor=restorer.scale, mode="bicubic")
        restored[:, kind.alpha : kind.alpha + 1] = large.clamp(0, 1)
    rounded: NDArray[Any] = restored[0].mul_(int(most)).round_().permute(1, 2, 0).numpy().astype(levels.dtype)
    return rounded


def _sources(inputs: Sequence[Path], out: Path, problems: list[str]) -> list[Path]:
    """List the photographs, without those that were restored into their own folder. Raises `UserError` for one that holds none."""
    sources = []
    for path in inputs:
        if not path.is_dir():
            sources.append(path)
            continue
        found: list[str] = []
        restored_here = out.is_dir() and out.samefile(path)
        images = list_images(
            Side("photograph", path), found, left_out=is_restored if restored_here else lambda _: False
        )
        if not images:
            raise_all("photographs", found)
        problems += found
        sources += [image.path for image in images.values()]
    return list(dict.fromkeys(sources))


def _jobs(restorer: Restorer, sources: Sequence[Path], out: Path, problems: list[str]) -> list[Job]:
    """Plan what is restored to where. Adds unreadable photographs to `problems`; raises `UserError` for clashing files."""
    jobs: dict[Path, Job] = {}
    clashes = []
    for source in sources:
        try:
            mode, pixels = described(source)
        except UserError as error:
            problems.append(str(error))
            continue
        target = out / f"{source.stem}{suffix_of(mode)}"
        stamp = f"{STAMPED}{files.file_sha256(source)[:16]} restored with {restorer.digest[:16]}"
        if target in jobs:
            clashes.append(f"{source} and {jobs[target].source} would both become {target}")
        elif target.exists() and target.samefile(source):
            clashes.append(f"{source}: its restored photograph would replace it")
        elif target.exists() and read_stamp(target) != stamp:
            clashes.append(f"{target}: exists, and is not {source} restored with {restorer.name}")
        else:
            jobs[target] = Job(source, target, pixels, stamp)
    if clashes:
        raise_all("give another folder with -o, or move these files", clashes)
    return list(jobs.values())


@dataclass
class _Work:
    """Restores one photograph after another and says how long the rest will take."""

    restorer: Restorer
    memory: Memory
    progress: Progress
    pixels: int
    share: float = 1.0
    """Of the memory that is free, as far as it has turned out to be."""
    done: float = 0
    started: float = field(default_factory=time.monotonic)
    said: float = field(default_factory=time.monotonic)

    @cached_property
    def reach(self) -> Reach:
        """Measured for the first photograph that may not be restored whole: on a CPU it takes as long as some small ones."""
        return measure_reach(self.restorer.model)

    def restore(self, job: Job) -> None:
        photograph = read_photograph(job.source)
        height, width = photograph.levels.shape[:2]
        size = width * self.restorer.scale, height * self.restorer.scale
        before = self.done
        while True:
            core = self._core(height, width)
            try:
                if core is not None and not self.reach.exact:
                    self._warn(job, photograph, core)
                write_photograph(job.target, photograph, size, self._bands(job, photograph, core), job.stamp)
                break
            except Exception as error:
                smallest = core is not None and core <= self.reach.aligned
                if not _out_of_memory(error):
                    raise
                if smallest:
                    raise UserError(f"{job.source}: restoring it takes more memory than is free; free some") from error
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
                self.share /= 2
                self.done = before
        self.done = before + job.pixels
        self._say(f"{job.target}: {size[0]}x{size[1]}")

    def _core(self, height: int, width: int) -> int | None:
        free = int(self.share * free_memory(next(self.restorer.model.parameters()).device))
        return None if self.memory.takes_whole(height, width, free) else self.reach.core(height, width, free)

    def _bands(self, job: Job, photograph: Photograph, core: int | None) -> Iterator[NDArray[Any]]:
        kind = KINDS[photograph.mode]
        height, width = photograph.levels.shape[:2]
        before = self.done
        tiles = 1 if core is None else -(-height // core) * -(-width // core)

        def restore_tile(levels: NDArray[Any]) -> NDArray[Any]:
            restored = restore_levels(self.restorer, kind, levels)
            self.done += job.pixels / tiles
            if time.monotonic() - self.said > SECONDS_BETWEEN_LINES and self.done < before + job.pixels - 0.5:
                self._say(str(job.source))
            return restored

        if core is None:
            return iter([restore_tile(photograph.levels)])
        minimum = facts(self.restorer.model).sizes.minimum
        return restored_bands(restore_tile, photograph.levels, self.reach, core, minimum)

    def _warn(self, job: Job, photograph: Photograph, core: int) -> None:
        channels = list(KINDS[photograph.mode].pictures[0])
        levels = photograph.levels[..., channels].astype(np.float32) / np.iinfo(photograph.levels.dtype).max
        picture = torch.from_numpy(levels).permute(2, 0, 1)[None].expand(-1, 3, -1, -1)
        difference = difference_on(self.restorer.model, picture, self.reach)
        self.progress(
            f"{job.source}: {self.restorer.name} looks at the whole image, for which memory is too small; restored in tiles "
            f"of {core} pixels, which differ from the whole by up to {difference:.1f} levels of 255 (measured on its middle "
            "part, edges included)"
        )

    def _say(self, what: str) -> None:
        self.said = time.monotonic()
        share = self.done / self.pixels
        left = (self.said - self.started) * (1 - share) / max(share, 1e-9)
        self.progress(f"{what} ({share:.0%}{f', about {_duration(left)} left' if share < 1 else ''})")


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _out_of_memory(error: Exception) -> bool:
    said = str(error)
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in said
