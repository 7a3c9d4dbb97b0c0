"""Plan a variant and attach it to a model; training, counting, audit, merging and contract all do it here."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from adaptsr.adaptation.allocation import Calibration
from adaptsr.adaptation.baseline_files import Variant, import_baseline
from adaptsr.adaptation.reparametrization import Plan, freeze, trainable_count, trainable_parameters
from adaptsr.backbones.probing import dead_parameters
from adaptsr.backbones.sites import Site
from adaptsr.errors import UserError

Fresh = Callable[[], nn.Module]
"""Returns a copy of the backbone that the caller may change."""


def plan_variant(
    variant: Variant,
    fresh: Fresh,
    sites: Sequence[Site],
    calibration: Calibration,
    seed: int,
    changes: Mapping[str, Any] | None = None,
) -> Plan:
    """Plan a variant on a backbone, with `changes` to its options.

    A budget that names a variant reaches the baseline's `plan` as the number of parameters that this variant trains.
    Raises `UserError` if the baseline refuses the backbone or does not return a `Plan`.
    """
    changed = dict(changes or {})
    if "budget" not in changed:
        changed |= budget_option(variant, fresh, sites, calibration, seed)
    backbone = fresh()
    freeze(backbone)
    options = copy.deepcopy({**variant.options, **changed})
    path = variant.baseline.path
    made = import_baseline(path).plan(backbone, list(sites), options, calibration, seed)
    if not isinstance(made, Plan):
        raise UserError(
            f"{path}: plan returned {type(made).__name__}; expected an adaptsr.adaptation.reparametrization.Plan"
        )
    return made


def budget_option(
    variant: Variant, fresh: Fresh, sites: Sequence[Site], calibration: Calibration, seed: int
) -> dict[str, int]:
    """Return the budget variant's trainable parameters on this backbone as the option `budget`; empty without one."""
    if variant.budget is None:
        return {}
    plan = plan_variant(variant.budget, fresh, sites, calibration, seed)
    return {"budget": trainable_count(attach(fresh(), variant.budget, plan))}


def attach(model: nn.Module, variant: Variant, plan: Plan) -> nn.Module:
    """Freeze a model, attach a variant to it and return it; parameters with `requires_grad` then train.

    Parameters that the backbone's forward does not use stay frozen, and are not counted. Raises `UserError` if nothing is left to train.
    """
    dead = dead_parameters(model)
    freeze(model)
    import_baseline(variant.baseline.path).attach(model, plan)
    for name in dead & trainable_parameters(model).keys():
        model.get_parameter(name).requires_grad_(False)
    if not trainable_parameters(model):
        raise UserError(f"{variant.row}: nothing is left to train on this backbone; give it sites or options that fit")
    return model
