"""A failure is told and contained: divergence is a result, memory and disk fail a job with one line and nothing torn."""

from __future__ import annotations

import re
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from adaptsr import files
from adaptsr.training.step import Step
from tests.reliability.conftest import GATHER, PREPARE, REPORT, SCORE_RUNS, SCORES, TABLE, Place, train_words
from tests.reliability.processes import replace

pytestmark = pytest.mark.slow

SCORE = (SCORE_RUNS, GATHER, REPORT)


@pytest.fixture
def place(place: Place) -> Place:
    """One backbone, two rows."""
    place.narrow("full_finetuning/all", "lora/r2")
    return place


def break_weights(after: int) -> None:
    """A step that leaves NaN in the weights while its loss was still a number."""
    take = Step.__call__

    def broken(step: Step, iteration: int) -> Any:
        losses = take(step, iteration)
        if iteration + 1 == after:
            with torch.no_grad():
                next(p for p in step.model.parameters() if p.requires_grad).fill_(torch.nan)
        return losses

    replace(Step, "__call__", broken)


DIVERGENCES: dict[str, tuple[dict[str, Any], Callable[[], None] | None, int]] = {
    "an absurd learning rate": ({"lr": 1e30}, None, 2),
    "a learning rate that only explodes": ({"lr": 1e4}, None, 2),
    "NaN in the weights": ({}, partial(break_weights, 3), 4),
    "NaN in the weights after the last step": ({}, partial(break_weights, 6), 6),
}


@pytest.mark.parametrize("case", DIVERGENCES)
def test_a_diverged_run_is_a_result_and_the_others_go_on(place: Place, case: str) -> None:
    """LoRA diverges, full fine-tuning does not; the scores leave LoRA out, and the table shows the hole."""
    changes, sabotage, latest = DIVERGENCES[case]
    content = place.profile()
    content["baselines"]["lora"]["training"] = changes
    place.write_profile(content)
    done = place.run(*train_words("lora/r2", 1, 2), sabotage=sabotage)
    assert done.status == 0, "a diverged run does not fail its job"
    for seed in (1, 2):
        record = place.record("lora/r2", seed)
        assert f"lora/r2 seed {seed}: diverged at iteration {record.diverged_at}" in done.said
        assert record.status == "diverged"
        assert record.diverged_at is not None
        assert record.diverged_at <= latest
        assert record.losses[-1].iteration == record.diverged_at
        assert not (place.run_folder("lora/r2", seed) / "adaptation.safetensors").exists()
        assert not place.checkpoints("lora/r2", seed)

    place.succeed(*train_words("full_finetuning/all", 1, 2))
    for words in SCORE:
        place.succeed(*words)
    frame = pd.read_parquet(place.root / SCORES)
    assert set(frame["baseline"]) == {"unadapted", "full_finetuning"}
    assert frame["value"].notna().all()
    assert "diverged" in (place.root / "reports/demo/table2.html").read_text()
    before = place.files()
    place.succeed(*train_words("lora/r2", 1, 2))
    assert place.files() == before, "it is not tried again"


def limit_memory(bytes_more: int) -> None:
    """Allow this process so much more address space than it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + bytes_more
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def run_out_of_memory(error: Exception) -> None:
    """An allocator's error in the middle of training."""
    take = Step.__call__

    def failing(step: Step, iteration: int) -> Any:
        if iteration == 3:
            raise error
        return take(step, iteration)

    replace(Step, "__call__", failing)


ALLOCATORS = {
    "CUDA": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    "cuBLAS": RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    "CPU": RuntimeError("[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory: you tried"),
    "python": MemoryError(),
}


@pytest.mark.parametrize("allocator", ALLOCATORS)
def test_out_of_memory_says_the_batch_size_and_what_to_change(place: Place, allocator: str) -> None:
    done = place.run(*train_words("lora/r2", 1), sabotage=partial(run_out_of_memory, ALLOCATORS[allocator]))
    assert done.status == 2
    assert "out of memory with batches of 2 crops of 32 pixels: lower training.batch_size" in done.mistake


def test_memory_that_really_is_not_there(place: Place) -> None:
    place.change_training(batch_size=60000)
    done = place.run(*train_words("lora/r2", 1), sabotage=partial(limit_memory, 400 << 20))
    assert done.status == 2
    assert "out of memory with batches of 60000 crops" in done.mistake
    assert not (place.run_folder("lora/r2", 1) / "record.json").exists()


def test_another_error_in_training_is_not_called_memory(place: Place) -> None:
    """What is our fault keeps its traceback."""
    done = place.run(*train_words("lora/r2", 1), sabotage=partial(run_out_of_memory, RuntimeError("mat1 and mat2")))
    assert done.status == 1
    assert "RuntimeError: mat1 and mat2" in done.said


def limit_files(size: int) -> None:
    """No file of this process grows beyond so many bytes: the kernel's refusal is that of a full disk but for its number."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def full_at(name: str) -> None:
    """The disk is full when half of this file is written; what is written before it fits."""
    write = files.atomic_write

    @contextmanager
    def limited(path: Path) -> Iterator[Path]:
        if name not in str(path):
            with write(path) as temporary:
                yield temporary
            return
        resource.setrlimit(resource.RLIMIT_FSIZE, (150, resource.RLIM_INFINITY))
        try:
            with write(path) as temporary:
                yield temporary
        finally:
            # What the command says goes to a file too.
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    replace(files, "atomic_write", limited)


WRITTEN = ("plan.json", "checkpoints/", "adaptation.safetensors", "record.json", "runs.1.json")


@pytest.mark.parametrize("name", WRITTEN)
def test_a_full_disk_leaves_nothing_torn_and_the_next_call_completes(place: Place, name: str) -> None:
    """Whichever file of a run it is that does not fit any more."""
    words = [*train_words("lora/r2", 1), "--out", "results/demo/safmn/lora/r2/runs.1.json"]
    undisturbed = place.copy("undisturbed")
    undisturbed.succeed(*words)
    before = place.files()
    done = place.run(*words, sabotage=partial(full_at, name))
    assert done.status == 2, done.said
    assert re.search(f"{name}[^ ]*: cannot be written: File too large; make room", done.mistake)
    new = place.files() - before
    assert not [path for path in new if ".tmp" in path or name in path]
    assert not [path for path in new if path.endswith("runs.1.json")]
    assert name == "runs.1.json" or not [path for path in new if path.endswith("record.json")]
    place.succeed(*words)
    assert place.result("lora/r2", 1) == undisturbed.result("lora/r2", 1)


def test_a_full_disk_in_data_scores_and_reports(place: Place) -> None:
    for words in (train_words("full_finetuning/all", 1, 2), train_words("lora/r2", 1, 2)):
        place.succeed(*words)
    undisturbed = place.copy("undisturbed")
    for words in SCORE:
        undisturbed.succeed(*words)
    (place.root / "resources/degraded/manifest.json").unlink()
    for words in (PREPARE, *SCORE):
        before = place.files()
        done = place.run(*words, sabotage=partial(limit_files, 1000))
        assert done.status == 2, done.said
        assert "cannot be written: File too large" in done.mistake
        assert not {
            name for name in place.files() - before if name.endswith((".json", ".parquet", ".html")) or ".tmp" in name
        }
        place.succeed(*words)
    for name in (SCORES, TABLE, "resources/degraded/manifest.json"):
        assert (place.root / name).read_bytes() == (undisturbed.root / name).read_bytes()
