"""Full fine-tuning: everything, or the sites of one kind; batch normalisation's statistics only with everything."""

from __future__ import annotations

import pytest
import torch

from adaptsr.adaptation.contract.backbones import BatchNormBackbone
from adaptsr.adaptation.reparametrization import (
    adaptation_state,
    parameter_count,
    trainable_count,
    trainable_parameters,
)
from tests.baselines.helpers import attach, planned


def attached(chosen: str) -> torch.nn.Module:
    model = BatchNormBackbone()
    return attach("full_finetuning", model, planned("full_finetuning", chosen, model))


def test_everything() -> None:
    """All parameters train, and the statistics of batch normalisation are part of what is saved."""
    model = attached("all")
    assert trainable_count(model) == parameter_count(model)
    statistics = set(adaptation_state(model)) - set(trainable_parameters(model))
    assert "norm.running_mean" in statistics
    assert len(statistics) == 3 * 3


@pytest.mark.parametrize("kind", ["conv", "mlp", "attention"])
def test_one_kind(kind: str) -> None:
    """Weights and biases of dense sites of one kind; not of those that feed a pixel shuffle, nor any statistics."""
    model = attached(kind)
    names = set(trainable_parameters(model))
    expected = {
        "conv": {"conv_first", "conv_after_body"},
        "mlp": {f"layers.{i}.mlp.{end}" for i in (0, 1) for end in ("fc1", "fc2")},
        "attention": {f"layers.{i}.attn.{end}" for i in (0, 1) for end in ("qkv", "proj")},
    }[kind]
    assert {name.rpartition(".")[0] for name in names} == expected
    assert set(adaptation_state(model)) == names
    weights = set(trainable_parameters(attached(f"{kind}-nobias")))
    assert weights == {name for name in names if name.endswith(".weight")}
