"""A run that was stopped, however often and wherever, ends with the same bits as one that was not."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

from adaptsr import devices
from adaptsr.config import schema
from adaptsr.project import VARIABLE
from adaptsr.training import loop, termination, train_runs
from adaptsr.training.checkpoints import Checkpoints, History
from tests.reliability.conftest import Place, comparable, train_words
from tests.reliability.processes import Done, replace, wait_until
from tests.workflow.conftest import ADAPTSR

KILLS = 10
TORN_WRITES = (3, 6)
"""Which of the kills come within the write of a checkpoint."""
FRESH = (2, 7)
"""Which of the attempts are processes of their own, started as a shell does."""
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


def killed_fresh(place: Place, words: list[str], due: Callable[[], bool], delay: float) -> str:
    """The same in a process of its own: `adaptsr` as a shell starts it."""
    with (place.root / "fresh.log").open("w+") as log:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", VARIABLE: str(place.root)}
        process = subprocess.Popen([str(ADAPTSR), *words], cwd=place.root, env=environment, stdout=log, stderr=log)
        wait_until(lambda: due() or process.poll() is not None)
        time.sleep(delay)
        process.kill()
        assert process.wait() == -signal.SIGKILL, (place.root / "fresh.log").read_text()
    return (place.root / "fresh.log").read_text()


NEEDS_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.slow
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=NEEDS_CUDA)])
def test_ten_kills_at_random_moments_change_no_bit(place: Place, device: str) -> None:
    """SwinIR draws from the global generators (DropPath), rank-aware LoRA plans from data: both are in this run."""
    row, backbone = "rank_aware/gradient", "swinir"
    content = place.profile()
    content["compute"]["device"] = device
    place.write_profile(content)
    place.change_training(iterations=ITERATIONS, validate_every=50, checkpoint_iterations=INTERVAL)
    words = train_words(row, 1, backbone=backbone)
    undisturbed = place.copy(place.root.with_name("undisturbed"))
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
            wait_until(lambda: (folder / ".lock").exists())
            time.sleep(rng.uniform(0, 0.2))
            done = process.kill(signal.SIGKILL)
        elif kill in TORN_WRITES:
            done = place.run(*words, sabotage=partial(die_writing_checkpoint, rng.randint(2, 4), rng.random()))
        elif kill in FRESH:
            done = Done(-signal.SIGKILL, killed_fresh(place, words, due, rng.uniform(0, 0.1)))
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
    record = place.record(row, 1, backbone)
    assert record.resumed_from == there[-1] > 0
    assert place.adaptation(row, 1, backbone) == undisturbed.adaptation(row, 1, backbone)
    assert comparable(record) == comparable(undisturbed.record(row, 1, backbone))
    left = {path.name for path in folder.rglob("*")}
    assert left == {path.name for path in undisturbed.run_folder(row, 1, backbone).rglob("*")}, "nothing torn is left"


@pytest.mark.slow
@pytest.mark.parametrize("row", ["full_finetuning/all", "lora/r2"])
def test_sigterm_writes_a_checkpoint_and_fails_and_the_next_goes_on(place: Place, row: str) -> None:
    """Checkpoints are hours apart here: the one that is there can only come from the signal."""
    place.change_training(iterations=80, validate_every=40, checkpoint_iterations=None)
    words = train_words(row, 1, 2)
    undisturbed = place.copy(place.root.with_name("undisturbed"))
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
        assert place.adaptation(row, seed) == undisturbed.adaptation(row, seed)
        assert comparable(place.record(row, seed)) == comparable(undisturbed.record(row, seed))


def report_steps(path: Path) -> None:
    """Write one byte for each step that is done."""
    step = loop._step

    def reported(*arguments: Any) -> float:
        loss = step(*arguments)
        with path.open("a") as file:
            file.write(".")
        return loss

    replace(loop, "_step", reported)


def terminate_after(last_iteration: int) -> None:
    """SIGTERM to this process while it validates after this iteration."""
    validate = loop._validate

    def interrupted(*arguments: Any) -> Any:
        if arguments[2] == last_iteration:
            os.kill(os.getpid(), signal.SIGTERM)
        return validate(*arguments)

    replace(loop, "_validate", interrupted)


@pytest.mark.slow
def test_sigterm_in_the_last_iteration_finishes_this_run_and_starts_no_other(place: Place) -> None:
    done = place.run(*train_words("lora/r1", 1, 2), sabotage=partial(terminate_after, 6))
    assert done.status == 143
    assert place.record("lora/r1", 1).status == "finished"
    assert not place.run_folder("lora/r1", 2).exists()


@pytest.mark.slow
def test_a_torn_newest_checkpoint_costs_one_interval_and_is_said(place: Place) -> None:
    """From the outside: the job goes on from the older of the two and ends with the same bytes."""
    place.change_training(iterations=40, validate_every=20, checkpoint_iterations=5)
    words = train_words("lora/r2", 1)
    undisturbed = place.copy(place.root.with_name("undisturbed"))
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
    assert place.adaptation("lora/r2", 1) == undisturbed.adaptation("lora/r2", 1)


# Checkpoints by themselves: a small model, steps of Adam, files damaged in every way.


def stepped(steps: int) -> tuple[nn.Module, torch.optim.Adam]:
    """A model after so many steps of Adam on fixed data."""
    torch.manual_seed(0)
    model = nn.Linear(8, 8)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    for _ in range(steps):
        step(model, optimizer)
    return model, optimizer


def step(model: nn.Module, optimizer: torch.optim.Adam) -> None:
    optimizer.zero_grad()
    model(torch.ones(2, 8)).square().mean().backward()
    optimizer.step()


def saved(folder: Path, *iterations: int, key: str = "key") -> Checkpoints:
    checkpoints = Checkpoints(folder, key)
    for iteration in iterations:
        checkpoints.save(iteration, *stepped(iteration), History(pending=[float(iteration)]))
    return checkpoints


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def cut(share: float) -> Callable[[bytes], bytes]:
    return lambda content: content[: int(share * len(content))]


def flipped(content: bytes) -> bytes:
    """One bit of the last tensor."""
    return content[:-3] + bytes([content[-3] ^ 1]) + content[-2:]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": cut(0),
    "a few bytes": cut(0.01),
    "cut in the header": cut(0.1),
    "cut in the middle": cut(0.5),
    "without the last byte": lambda content: content[:-1],
    "zeros from a power cut": lambda content: bytes(len(content)),
    "zeros at the end": lambda content: content[:-64] + bytes(64),
    "one bit flipped": flipped,
    "more than there was": lambda content: content + b"x",
    "another file": lambda content: b"<html>not found</html>",
    "no metadata": lambda content: safetensors.torch.save({"model.weight": torch.zeros(8, 8)}),
    "metadata of something else": lambda content: safetensors.torch.save({}, {"adaptsr": "[1, 2]"}),
    "metadata cut short": lambda content: safetensors.torch.save({}, {"adaptsr": '{"key": "key"}'}),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_older_checkpoint_is_used_when_the_newer_is_damaged(tmp_path: Path, damage: str) -> None:
    checkpoints = saved(tmp_path, 4, 8)
    newest = tmp_path / "000000008.safetensors"
    newest.write_bytes(DAMAGES[damage](newest.read_bytes()))
    model, optimizer = stepped(0)
    said: list[str] = []
    iteration, history = checkpoints.resume(model, optimizer, said.append)
    assert (iteration, history.pending) == (4, [4.0])
    assert len(said) == 2
    assert str(newest) in said[0]
    expected, expected_optimizer = stepped(4)
    step(model, optimizer)
    step(expected, expected_optimizer)
    assert all(torch.equal(value, expected.state_dict()[key]) for key, value in model.state_dict().items())


def test_both_damaged_means_from_the_beginning(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 4, 8)
    for path in tmp_path.iterdir():
        path.write_bytes(b"")
    assert checkpoints.resume(*stepped(0))[0] == 0
    assert names(tmp_path) == []


def test_two_are_kept(tmp_path: Path) -> None:
    saved(tmp_path, 1, 2, 3, 4)
    assert names(tmp_path) == ["000000003.safetensors", "000000004.safetensors"]


def test_checkpoints_of_another_key_are_not_used_and_do_not_push_out_ours(tmp_path: Path) -> None:
    """The run was at iteration 900 when its schedule changed: those would outrank every checkpoint of the new one."""
    saved(tmp_path, 800, 900, key="before")
    checkpoints = Checkpoints(tmp_path, "now")
    assert checkpoints.resume(*stepped(0))[0] == 0
    for iteration in (1, 2, 3):
        checkpoints.save(iteration, *stepped(iteration), History())
    assert names(tmp_path) == ["000000002.safetensors", "000000003.safetensors"]
    assert Checkpoints(tmp_path, "now").resume(*stepped(0))[0] == 3


def test_an_unfinished_write_is_no_checkpoint(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 4)
    whole = (tmp_path / "000000004.safetensors").read_bytes()
    (tmp_path / ".000000008.safetensors.abc.tmp.safetensors").write_bytes(
        whole.replace(b'"iteration\\": 4', b'"iteration\\": 8')
    )
    assert checkpoints.resume(*stepped(0))[0] == 4
    assert names(tmp_path) == ["000000004.safetensors"]


def test_clearing_leaves_nothing(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path / "checkpoints", 4)
    (tmp_path / "checkpoints/.stray.tmp").touch()
    checkpoints.clear()
    assert names(tmp_path) == []


def test_the_handler_of_before_is_back_afterwards() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with termination.sigterm_noted() as terminated:
        assert not terminated()
        os.kill(os.getpid(), signal.SIGTERM)
        assert terminated()
    assert signal.getsignal(signal.SIGTERM) is before


def test_an_operator_without_a_deterministic_form_is_named_and_not_refused() -> None:
    """`put_` stands for those of a GPU, such as SAFMN's adaptive max pooling."""

    def act() -> set[str]:
        with loop._undetermined_noted() as names:
            torch.zeros(4).put_(torch.tensor([0, 0]), torch.tensor([1.0, 2.0]))
            warnings.warn("something else", stacklevel=1)
        return names

    devices.prepare_device(schema.Compute(device="cpu"))
    with pytest.warns(UserWarning, match="something else"):
        names = act()
    assert names == {"put_"}
    assert "no deterministic form on this device of put_" in train_runs._undetermined_note(sorted(names))[0]
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
