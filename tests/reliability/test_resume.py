"""A run that was stopped, however often and wherever, ends with the same bits as one that was not."""

from __future__ import annotations

import os
import random
import re
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from adaptsr.training import loop
from adaptsr.training.step import Step
from tests.reliability.conftest import Place, train_words
from tests.reliability.processes import replace, wait_until

pytestmark = pytest.mark.slow

KILLS = 10
TORN_WRITES = (3, 6)
"""Which of the kills come within the write of a checkpoint."""
EARLY = (0, 1)
"""Which of the kills come before the first checkpoint."""
ITERATIONS = 160
INTERVAL = 4


def die_writing_checkpoint(number: int, share: float) -> None:
    """Kill this process in the `number`-th checkpoint it writes, with a share of the bytes on disk."""
    write = safetensors.torch.save_file
    count = 0

    def torn(tensors: dict[str, torch.Tensor], path: Path, metadata: dict[str, str]) -> None:
        nonlocal count
        write(tensors, path, metadata)
        if "checkpoints" in Path(path).parts:
            count += 1
            if count == number:
                with Path(path).open("rb+") as file:
                    file.truncate(int(share * Path(path).stat().st_size))
                os.kill(os.getpid(), signal.SIGKILL)

    replace(safetensors.torch, "save_file", torn)


def resumed_from(said: str) -> int:
    """The iteration that a command says it goes on from; 0 where it begins."""
    found = re.search(r"resuming from the checkpoint at iteration (\d+)", said)
    return int(found[1]) if found else 0


NEEDS_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=NEEDS_CUDA)])
def test_ten_kills_at_random_moments_change_no_bit(place: Place, device: str) -> None:
    """SwinIR draws from the global generators (DropPath), rank-aware LoRA plans from data: both are in this run."""
    row, backbone = "rank_aware/gradient", "swinir"
    content = place.profile()
    content["compute"]["device"] = device
    place.write_profile(content)
    place.change_training(iterations=ITERATIONS, validate_every=50, checkpoint_iterations=INTERVAL)
    words = train_words(row, 1, backbone=backbone)
    undisturbed = place.copy("undisturbed")
    undisturbed.succeed(*words)

    rng = random.Random(6)
    folder = place.run_folder(row, 1, backbone)
    resumed: list[int] = []
    there: list[int] = []
    for kill in range(KILLS):
        before = max(place.checkpoints(row, 1, backbone), default=0)
        wanted = before + INTERVAL * rng.randint(1, 3)

        def due(wanted: int = wanted) -> bool:
            return max(place.checkpoints(row, 1, backbone), default=0) >= wanted

        if kill in EARLY:
            process = place.start(*words)
            wait_until(lambda: (folder.parent / ".seed1.lock").exists())
            time.sleep(rng.uniform(0, 0.2))
            done = process.kill(signal.SIGKILL)
        elif kill in TORN_WRITES:
            done = place.run(*words, sabotage=partial(die_writing_checkpoint, rng.randint(2, 4), rng.random()))
        else:
            process = place.start(*words)
            wait_until(lambda process=process: due() or not process.alive)  # type: ignore[misc]
            time.sleep(rng.uniform(0, 0.1))
            done = process.kill(signal.SIGKILL)
        assert done.status == -signal.SIGKILL, done.said
        # An early kill may come before the checkpoint is looked for.
        assert resumed_from(done.said) in ({0, before} if kill in EARLY else {before})
        assert not (folder / "record.json").exists()
        assert not (folder / "adaptation.safetensors").exists()
        resumed.append(before)
        there.append(max(place.checkpoints(row, 1, backbone), default=0))
    last = place.succeed(*words)
    resumed.append(resumed_from(last.said))

    assert sum(iteration > 0 for iteration in there) >= KILLS / 2, "kills that come after a checkpoint"
    assert sum(iteration > 0 for iteration in resumed) > KILLS / 2, "attempts that go on from a checkpoint"
    assert resumed == [0, *there]
    assert place.record(row, 1, backbone).resumed_from == there[-1] > 0
    assert place.result(row, 1, backbone) == undisturbed.result(row, 1, backbone)
    left = {path.name for path in folder.rglob("*")}
    assert left == {path.name for path in undisturbed.run_folder(row, 1, backbone).rglob("*")}, "nothing torn is left"


RECIPES: dict[str, dict[str, Any]] = {
    **{name: {"optimizer": name} for name in ("adamw", "sgd", "lion")},
    "everything": {
        "optimizer": "adamw",
        "weight_decay": 0.1,
        "schedule": "cosine",
        "warmup": 0.2,
        "clip_norm": 0.1,
        "ema": 0.9,
        "groups": {"*.b": {"lr": 16.0}},
        "objective": {"terms": {"charbonnier": 1.0, "fft": 0.05, "ssim": 0.1}},
    },
    "the best weights": {"keep": "best"},
    "a discriminator": {
        "ema": 0.9,
        "objective": {"terms": {"l1": 1.0, "gan": 0.1}, "discriminator": {"channels": 4}},
    },
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_kill_changes_no_bit_whatever_the_recipe(place: Place, recipe: str) -> None:
    """Killed while it writes its third checkpoint, of which half is on disk."""
    place.change_training(iterations=12, validate_every=6, checkpoint_iterations=2, **RECIPES[recipe])
    words = train_words("lora/r2", 1)
    undisturbed = place.copy("undisturbed")
    undisturbed.succeed(*words)
    done = place.run(*words, sabotage=partial(die_writing_checkpoint, 3, 0.5))
    assert done.status == -signal.SIGKILL, done.said
    assert resumed_from(place.succeed(*words).said) == 4
    assert place.result("lora/r2", 1) == undisturbed.result("lora/r2", 1)


@pytest.mark.parametrize("row", ["full_finetuning/all", "lora/r2"])
def test_sigterm_writes_a_checkpoint_and_fails_and_the_next_goes_on(place: Place, row: str) -> None:
    """Checkpoints are hours apart here: the one that is there can only come from the signal."""
    place.change_training(iterations=80, validate_every=40, checkpoint_iterations=None)
    words = train_words(row, 1, 2)
    undisturbed = place.copy("undisturbed")
    undisturbed.succeed(*words)

    process = place.start(*words, sabotage=partial(report_steps, place.root / "steps"))
    wait_until(lambda: (place.root / "steps").exists() and (place.root / "steps").stat().st_size >= 10)
    done = process.kill(signal.SIGTERM)
    assert done.status == 143
    assert "stopped by SIGTERM" in done.mistake
    (iteration,) = place.checkpoints(row, 1)
    assert 10 <= iteration < 80
    assert not (place.run_folder(row, 1) / "record.json").exists()

    last = place.succeed(*words)
    assert resumed_from(last.said) == iteration == place.record(row, 1).resumed_from
    for seed in (1, 2):
        assert place.result(row, seed) == undisturbed.result(row, seed)


def report_steps(path: Path) -> None:
    """Write one byte for each step that is done."""
    take = Step.__call__

    def reported(step: Step, iteration: int) -> Any:
        losses = take(step, iteration)
        with path.open("a") as file:
            file.write(".")
        return losses

    replace(Step, "__call__", reported)


def terminate_after(last_iteration: int) -> None:
    """SIGTERM to this process while it validates after this iteration."""
    validate = loop._validate

    def interrupted(*arguments: Any) -> Any:
        if arguments[3] == last_iteration:
            os.kill(os.getpid(), signal.SIGTERM)
        return validate(*arguments)

    replace(loop, "_validate", interrupted)


def test_sigterm_in_the_last_iteration_finishes_this_run_and_starts_no_other(place: Place) -> None:
    done = place.run(*train_words("lora/r1", 1, 2), sabotage=partial(terminate_after, 6))
    assert done.status == 143
    assert place.record("lora/r1", 1).status == "finished"
    assert not place.run_folder("lora/r1", 2).exists()


def test_a_torn_newest_checkpoint_costs_one_interval_and_is_said(place: Place) -> None:
    """From the outside: the job goes on from the older of the two and ends with the same bytes."""
    place.change_training(iterations=40, validate_every=20, checkpoint_iterations=5)
    words = train_words("lora/r2", 1)
    undisturbed = place.copy("undisturbed")
    undisturbed.succeed(*words)
    process = place.start(*words)
    wait_until(lambda: len(place.checkpoints("lora/r2", 1)) == 2)
    process.kill(signal.SIGKILL)
    older, newest = place.checkpoints("lora/r2", 1)
    path = place.run_folder("lora/r2", 1) / f"checkpoints/{newest:09d}.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    last = place.succeed(*words)
    assert f"{path.relative_to(place.root)}: not a readable safetensors file" in last.said
    assert resumed_from(last.said) == older == place.record("lora/r2", 1).resumed_from
    assert place.result("lora/r2", 1) == undisturbed.result("lora/r2", 1)
