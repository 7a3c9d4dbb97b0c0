"""Two checkpoints are kept; a damaged one is named, and the older one used: a small model, steps of Adam, damaged files."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from adaptsr.config import schema
from adaptsr.training.checkpoints import Checkpoints, History
from adaptsr.training.recipe import Trainer
from tests.factories import cut, flipped

TRAINING = schema.Training(iterations=10, batch_size=2, crop=32, lr=0.1, validate_every=10)


def stepped(steps: int) -> tuple[nn.Module, Trainer]:
    """A model after so many steps of Adam on fixed data."""
    torch.manual_seed(0)
    model = nn.Linear(8, 8)
    trainer = Trainer(model, TRAINING)
    for _ in range(steps):
        step(model, trainer)
    return model, trainer


def step(model: nn.Module, trainer: Trainer) -> None:
    trainer.begin(0)
    trainer.step(model(torch.ones(2, 8)).square().mean())


def saved(folder: Path, *iterations: int, key: str = "key") -> Checkpoints:
    checkpoints = Checkpoints(folder, key)
    for iteration in iterations:
        checkpoints.save(iteration, *stepped(iteration), History(pending=[float(iteration)]))
    return checkpoints


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": partial(cut, share=0),
    "cut in the header": partial(cut, share=0.1),
    "without the last byte": lambda content: content[:-1],
    "zeros at the end, from a power cut": lambda content: content[:-64] + bytes(64),
    "one bit flipped": flipped,
    "another file": lambda content: b"<html>not found</html>",
    "no metadata": lambda content: safetensors.torch.save({"model.weight": torch.zeros(8, 8)}),
    "metadata cut short": lambda content: safetensors.torch.save({}, {"adaptsr": '{"key": "key"}'}),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_older_checkpoint_is_used_when_the_newer_is_damaged(tmp_path: Path, damage: str) -> None:
    checkpoints = saved(tmp_path, 4, 8)
    newest = tmp_path / "000000008.safetensors"
    newest.write_bytes(DAMAGES[damage](newest.read_bytes()))
    model, trainer = stepped(0)
    said: list[str] = []
    iteration, history = checkpoints.resume(model, trainer, said.append)
    assert (iteration, history.pending) == (4, [4.0])
    assert len(said) == 2
    assert str(newest) in said[0]
    expected, expected_trainer = stepped(4)
    step(model, trainer)
    step(expected, expected_trainer)
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


def test_a_checkpoint_belongs_to_one_plan(tmp_path: Path) -> None:
    Checkpoints(tmp_path, "key", "a plan").save(4, *stepped(4), History())
    assert Checkpoints(tmp_path, "key").belong_to("a plan")
    assert not Checkpoints(tmp_path, "key").belong_to("another")
    assert not Checkpoints(tmp_path, "other").belong_to("a plan")
    said: list[str] = []
    assert Checkpoints(tmp_path, "key", "another").resume(*stepped(0), said.append)[0] == 0
    assert "a checkpoint of another plan" in said[0]


def test_checkpoints_of_version_0_3_which_name_no_plan_are_used(tmp_path: Path) -> None:
    saved(tmp_path, 4)
    assert Checkpoints(tmp_path, "key", "a plan").resume(*stepped(0))[0] == 4
