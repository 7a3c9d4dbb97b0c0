"""Attach, count, save, load and merge, on small layers and on the pitfalls known from elsewhere."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
from adaptsr.errors import UserError
from adaptsr.tensors import load_tensors, save_tensors


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

    def test_deep_copy_is_independent(self, model: Net) -> None:
        attach(model)
        other = copy.deepcopy(model)
        with torch.no_grad():
            next(iter(trainable_parameters(other).values())).fill_(3.0)
        assert not torch.equal(other(image()), model(image()))
        assert trainable_count(other) == 1


class TestCount:
    def test_shared_parameters_count_once(self, model: Net) -> None:
        attach(model)
        assert trainable_count(model) == 1
        assert parameter_count(model) == 1 + 4 * 28 + 8 + 20 + 18

    def test_only_what_has_requires_grad(self, model: Net) -> None:
        model.down.bias.requires_grad_(True)
        assert list(trainable_parameters(model)) == ["down.bias"]
        assert trainable_count(model) == 3


class TestBatchNormalisation:
    def test_statistics_stay_frozen_in_training(self, model: Net) -> None:
        """`training_mode` trains everything but batch normalisation, whose buffers stay bit-equal."""
        before = copy.deepcopy(dict(model.norm.named_buffers()))
        training_mode(model)
        model(image())
        assert model.conv.training
        assert not model.norm.training
        assert all(torch.equal(before[key], value) for key, value in model.norm.named_buffers())
        assert adaptation_state(model) == {}

    def test_statistics_that_train_are_saved(self, model: Net) -> None:
        """Full fine-tuning declares them: they move, and they are part of the adaptation."""
        train_statistics(model)
        training_mode(model)
        before = model.norm.running_mean.clone()  # type: ignore[union-attr]
        model(image())
        assert not torch.equal(model.norm.running_mean, before)  # type: ignore[arg-type]
        assert list(adaptation_state(model)) == ["norm.running_mean", "norm.running_var", "norm.num_batches_tracked"]


class TestSaveAndLoad:
    def test_round_trip(self, model: Net, tmp_path: Path) -> None:
        """Save, attach to a fresh backbone, load: the same output, shared parameters and statistics included."""
        fresh = copy.deepcopy(model)
        for one, value in ((model, 1.5), (fresh, 1.0)):
            attach(one, value)
            train_statistics(one)
        training_mode(model)
        model(image(1))
        model.eval()
        save_tensors(tmp_path / "adaptation.safetensors", adaptation_state(model), {"seed": 1})
        state, metadata = load_tensors(tmp_path / "adaptation.safetensors")
        load_adaptation(fresh, state, "adaptation")
        assert metadata == {"seed": 1}
        assert sum(name.endswith(".s") for name in state) == 1
        assert torch.equal(fresh(image()), model(image()))

    def test_same_bytes(self, tmp_path: Path) -> None:
        """The same tensors and metadata give the same file, in whatever order they come."""
        tensors = {"b": torch.ones(2), "a": torch.arange(6.0).view(2, 3).T}
        save_tensors(tmp_path / "one", tensors, {"x": 1, "y": [2]})
        save_tensors(tmp_path / "two", dict(reversed(tensors.items())), {"y": [2], "x": 1})
        assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
        with safetensors.safe_open(tmp_path / "one", "pt") as file:
            assert json.loads(file.metadata()["adaptsr"]) == {"x": 1, "y": [2]}

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
        with pytest.raises(UserError, match=line) as caught:
            load_adaptation(model, state, "run 7")
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("content", [b"", b"not safetensors at all"])
    def test_torn_file(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "adaptation.safetensors"
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"adaptation\.safetensors: not a readable safetensors file") as caught:
            load_tensors(path)
        assert "\n" not in str(caught.value)

    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="no such file"):
            load_tensors(tmp_path / "nothing.safetensors")

    @pytest.mark.parametrize("tensors", [{}, {"indices": torch.tensor([3, 1])}])
    def test_plan(self, tmp_path: Path, tensors: dict[str, torch.Tensor]) -> None:
        """A plan is its JSON and, where it has any, its tensors."""
        settings: dict[str, Any] = {"ranks": {"conv": 2}, "seed": 1, "scores": {"conv": 0.1}}
        Plan(settings, tensors).save(tmp_path)
        loaded = Plan.load(tmp_path)
        assert loaded.settings == settings
        assert loaded.tensors.keys() == tensors.keys()
        assert all(torch.equal(loaded.tensors[name], tensor) for name, tensor in tensors.items())
        assert (tmp_path / "plan.safetensors").exists() == bool(tensors)

    def test_plan_without_tensors_replaces_one_with(self, tmp_path: Path) -> None:
        """Planning again in the same folder leaves nothing of the plan before."""
        Plan({"mask": "random"}, {"indices": torch.tensor([1])}).save(tmp_path)
        Plan({"mask": "none"}).save(tmp_path)
        assert Plan.load(tmp_path).tensors == {}


class TestMerge:
    def test_original_keys_in_order(self, model: Net) -> None:
        """Keys, order and shapes of the original architecture; the values are the effective ones."""
        plain = copy.deepcopy(model)
        keys = list(plain.state_dict())
        attach(model, 2.0)
        merged = merged_state(model, keys)
        assert list(merged) == keys
        plain.load_state_dict(merged)
        torch.testing.assert_close(plain(image()), model(image()))
        assert torch.equal(merged["up.weight"], model.up.weight)

    def test_merged_tensors_are_copies(self, model: Net) -> None:
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
