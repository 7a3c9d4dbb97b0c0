"""A run as a plain model of the backbone's own architecture: what other software loads, at no inference cost."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import torch
from torch import nn

from adaptsr import config, records
from adaptsr.backbones import build
from adaptsr.baselines import FOLDER, import_baseline
from adaptsr.errors import UserError
from adaptsr.reparametrization import Plan, freeze, load_adaptation, load_tensors, merged_state, save_tensors


def merge_run(folder: Path) -> dict[str, torch.Tensor]:
    """The state dict of a run's adapted backbone: the architecture's keys in their order, effective values.

    `UserError` when the folder holds no finished run, or weights that are not those of its record.
    """
    record = sound_record(folder)
    model = _backbone(record)
    keys = list(model.state_dict())
    plan = Plan.load(folder)
    baseline = _baseline(record)
    freeze(model)
    baseline.attach(model, plan)
    adaptation = folder / "adaptation.safetensors"
    load_adaptation(model, load_tensors(adaptation)[0], str(adaptation))
    if hasattr(baseline, "merge"):
        model = baseline.merge(model, plan)
    return merged_state(model, keys)


def load_run(folder: Path) -> nn.Module:
    """The adapted backbone of a run, in eval mode, with nothing attached."""
    merged = merge_run(folder)
    model = _backbone(records.read_record(folder / "record.json"))
    model.load_state_dict(merged)
    return model.eval()


def write_merged(folder: Path, out: Path) -> None:
    """Write a run's adapted backbone as a checkpoint: .safetensors, or .pth with the state dict under `params`."""
    if out.suffix not in (".safetensors", ".pth"):
        raise UserError(f"{out}: a checkpoint's name ends in .safetensors or .pth")
    merged = merge_run(folder)
    if out.suffix == ".safetensors":
        record = records.read_record(folder / "record.json")
        save_tensors(
            out,
            merged,
            {
                "backbone": record.backbone,
                "row": f"{record.baseline}/{record.variant}",
                "seed": record.seed,
                "key": record.key,
            },
        )
        return
    with records.atomic_write(out) as temporary:
        torch.save({"params": merged}, temporary)


def sound_record(folder: Path) -> records.RunRecord:
    """The record of a finished run whose weights are those it names."""
    record = records.read_record(folder / "record.json")
    if record.status != "finished":
        raise UserError(f"{folder}: this run diverged at iteration {record.diverged_at}; there are no weights to use")
    adaptation = folder / "adaptation.safetensors"
    if not adaptation.is_file() or records.file_sha256(adaptation) != record.adaptation_sha256:
        raise UserError(
            f"{adaptation}: not the weights that its record.json names; delete record.json to have the run done again"
        )
    return record


def _backbone(record: records.RunRecord) -> nn.Module:
    return build(config.Backbone.model_validate(record.config["backbone"]), record.config["scale"])


def _baseline(record: records.RunRecord) -> ModuleType:
    path = FOLDER / f"{record.baseline}.py"
    if not path.is_file():
        raise UserError(
            f"{path}: the file of baseline {record.baseline!r} is gone; runs of it cannot be loaded without it"
        )
    return import_baseline(path)
