"""Attach, count, save, load and merge, on small layers and on the pitfalls known from elsewhere."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
import safetensors
import torch
from torch import nn

from adaptsr.adaptation.reparametrization import (
    Plan,
    adaptation_state,
    freeze,
    load_adaptation,
    merged_state,
    original_weight,
    parameter_count,
    reparametrize_bias,
    reparametrize_weight,
    train_statistics,
    trainable_count,
    trainable_parameters,
    training_mode,
)
from adaptsr.tensors import load_tensors, save_tensors
from tests.factories import refusal


class Scale(nn.Module):
    """W -> s W, with s possibly another site's too."""

    def __init__(self, s: nn.Parameter) -> None:
        super().__init__()
        self.s = s

    def forward(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor * self.s


class Net(nn.Module):
    """Convolution, batch normalisation, two Linear layers of which one has no bias, and a buffer of its own."""

    offset: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.register_buffer("offset", torch.full((1,), 0.25))
        self.up = nn.Linear(4, 5, bias=False)
        self.down = nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = self.norm(self.conv(x)).movedim(1, -1) + self.offset
        output: torch.Tensor = self.down(self.up(features)).movedim(-1, 1)
        return output


@pytest.fixture
def model() -> Net:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Net().eval()
    freeze(net)
    return net


def image(seed: int = 0) -> torch.Tensor:
    return torch.rand(2, 3, 5, 4, generator=torch.Generator().manual_seed(seed))


def attach(model: Net, value: float = 1.0) -> nn.Parameter:
    """One scale shared by the weights of conv and up and by the bias of conv."""
    shared = nn.Parameter(torch.full((1,), value))
    reparametrize_weight(model.conv, Scale(shared))
    reparametrize_bias(model.conv, Scale(shared))
    reparametrize_weight(model.up, Scale(shared))
    return shared


class TestAttach:
    def test_effective_weight_and_bias(self, model: Net) -> None:
        """The layer computes with W' and b'; the originals stay underneath, frozen."""
        weight, bias = model.conv.weight.clone(), model.conv.bias.clone()  # type: ignore[union-attr]
        attach(model, 2.0)
        assert torch.equal(model.conv.weight, 2 * weight)
        assert torch.equal(model.conv.bias, 2 * bias)  # type: ignore[arg-type]
        assert torch.equal(original_weight(model.conv), weight)
        assert not original_weight(model.conv).requires_grad
        assert original_weight(model.down) is model.down.weight

    def test_layer_without_bias_is_left_alone(self, model: Net) -> None:
        """The architecture has no key for a bias there, so none is made."""
        keys = list(model.state_dict())
        reparametrize_bias(model.up, Scale(nn.Parameter(torch.ones(1))))
        assert model.up.bias is None
        assert list(model.state_dict()) == keys

    def test_precision_of_the_layer(self, model: Net) -> None:
        """What is attached takes the layer's precision, shared parameters staying one."""
        model.double()
        shared = attach(model)
        assert shared.dtype == torch.float64
        assert model.conv.weight.dtype == torch.float64
        assert list(trainable_parameters(model).values()) == [shared]

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
    def test_device_of_the_layer(self, model: Net) -> None:
        model.cuda()
        shared = attach(model)
        assert shared.is_cuda
        assert trainable_count(model) == 1


def test_shared_parameters_count_once(model: Net) -> None:
    attach(model)
    assert trainable_count(model) == 1
    assert parameter_count(model) == 1 + 4 * 28 + 8 + 20 + 18


@pytest.mark.parametrize("declared", [False, True])
def test_statistics_move_and_are_saved_if_declared(model: Net, declared: bool) -> None:
    """Training leaves batch normalisation's buffers bit-equal, but for full fine-tuning, which declares them."""
    if declared:
        train_statistics(model)
    training_mode(model)
    before = copy.deepcopy(dict(model.norm.named_buffers()))
    model(image())
    assert model.conv.training
    assert [not torch.equal(before[key], value) for key, value in model.norm.named_buffers()] == [declared] * 3
    assert list(adaptation_state(model)) == [f"norm.{key}" for key in before if declared]


class TestSaveAndLoad:
    def test_same_bytes(self, tmp_path: Path) -> None:
        """The same tensors and metadata give the same file, in whatever order they come."""
        tensors = {"b": torch.ones(2), "a": torch.arange(6.0).view(2, 3).T}
        save_tensors(tmp_path / "one", tensors, {"x": 1, "y": [2]})
        save_tensors(tmp_path / "two", dict(reversed(tensors.items())), {"y": [2], "x": 1})
        assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
        with safetensors.safe_open(tmp_path / "one", "pt") as file:
            assert json.loads(file.metadata()["adaptsr"]) == {"x": 1, "y": [2]}
        assert load_tensors(tmp_path / "one")[1] == {"x": 1, "y": [2]}

    @pytest.mark.parametrize(
        ("state", "line"),
        [
            ({}, r"run 7: .*'conv\.parametrizations\.weight\.0\.s' is on one side only"),
            ({"conv.parametrizations.weight.0.s": torch.ones(1), "x": torch.ones(1)}, "run 7: .*'x' is on one side"),
            (
                {"conv.parametrizations.weight.0.s": torch.ones(2)},
                r"run 7: conv\..*\.s has shape \(2,\), .* has \(1,\)",
            ),
        ],
    )
    def test_adaptation_that_does_not_fit(self, model: Net, state: Mapping[str, torch.Tensor], line: str) -> None:
        """One line that names the file and the key."""
        attach(model)
        assert re.match(line, refusal(lambda: load_adaptation(model, state, "run 7")))

    @pytest.mark.parametrize(
        ("content", "line"),
        [
            (b"", r"adaptation\.safetensors: not a readable safetensors file"),
            (b"not safetensors at all", r"adaptation\.safetensors: not a readable safetensors file"),
            (None, "no such file"),
        ],
    )
    def test_torn_or_missing_file(self, tmp_path: Path, content: bytes | None, line: str) -> None:
        path = tmp_path / "adaptation.safetensors"
        if content is not None:
            path.write_bytes(content)
        assert re.search(line, refusal(lambda: load_tensors(path)))

    def test_plan_without_tensors_replaces_one_with(self, tmp_path: Path) -> None:
        """Planning again in the same folder leaves nothing of the plan before."""
        Plan({"mask": "random"}, {"indices": torch.tensor([1])}).save(tmp_path)
        Plan({"mask": "none"}).save(tmp_path)
        assert Plan.load(tmp_path).tensors == {}


def test_merged_tensors_are_copies(model: Net) -> None:
    """Nothing in the merged state shares memory with the model: training on cannot change it."""
    keys = list(model.state_dict())
    shared = attach(model, 2.0)
    merged = merged_state(model, keys)
    before = copy.deepcopy(merged)
    with torch.no_grad():
        shared.fill_(5.0)
        model.down.weight.zero_()
        model.offset.zero_()
    assert all(torch.equal(before[key], merged[key]) for key in keys)
    assert not any(tensor.requires_grad for tensor in merged.values())
