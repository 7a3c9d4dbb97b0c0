"""Measure what restoring one image costs the models of a profile. Adapted rows merge, so they cost what their backbone costs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from adaptsr import files
from adaptsr.backbones.build import build
from adaptsr.backbones.costs import measure_costs
from adaptsr.config import schema
from adaptsr.devices import prepare_device
from adaptsr.runs.matrix import Matrix
from adaptsr.runs.provenance import device_name


def write_costs(matrix: Matrix, cost: schema.Cost, out: Path) -> None:
    """Measure the backbones, and external models given by their weights, and write the costs by title."""
    profile = matrix.profile
    device = prepare_device(profile.compute)
    declared = {backbone.title or name: backbone for name, backbone in profile.backbones.items()}
    for model in profile.external.values():
        if model.weights:
            declared[model.title] = schema.Backbone(architecture=schema.AUTO, weights=model.weights)
    measured = {
        title: asdict(measure_costs(build(model, profile.scale).to(device), cost.side, cost.side, cost.runs))
        for title, model in declared.items()
    }
    files.write_json(out, {"device": device_name(device), "models": measured})
