"""Merge an adaptation into a plain state dict of the backbone's architecture."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from adaptsr.adaptation.baseline_files import BaselineFile, import_baseline
from adaptsr.adaptation.reparametrization import Plan, merged_state
from adaptsr.backbones.probing import recompute


def merge(model: nn.Module, baseline: BaselineFile, plan: Plan, keys: Sequence[str]) -> dict[str, torch.Tensor]:
    """Merge a model's attached adaptation; return the backbone's own `keys`, in their order, with the merged values.

    Uses the baseline's own `merge` if it has one; that changes the model. Raises `UserError` if the method has no plain
    form.
    """
    module = import_baseline(baseline.path)
    if hasattr(module, "merge"):
        with torch.no_grad():
            model = module.merge(model, plan)
    recompute(model)
    return merged_state(model, list(keys))
