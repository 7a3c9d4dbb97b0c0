"""Merge an adaptation into a plain state dict of the backbone's architecture."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from adaptsr.adaptation.baseline_files import BaselineFile, import_baseline
from adaptsr.adaptation.reparametrization import Plan, merged_state


def merge(model: nn.Module, baseline: BaselineFile, plan: Plan, keys: Sequence[str]) -> dict[str, torch.Tensor]:
    """Return the values of `keys`, the backbone's own, in their order, from a model with an adaptation attached and loaded.

    Uses the baseline's own `merge` where it has one, which changes the model and raises `UserError` where the method
    has no plain form.
    """
    module = import_baseline(baseline.path)
    if hasattr(module, "merge"):
        with torch.no_grad():
            model = module.merge(model, plan)
    return merged_state(model, list(keys))
