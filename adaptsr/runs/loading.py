"""Load a finished run: check its files, merge it into a plain model of the backbone's architecture, write that as a checkpoint."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from adaptsr import files
from adaptsr.adaptation.attaching import attach
from adaptsr.adaptation.baseline_files import FOLDER, Variant, read_literals
from adaptsr.adaptation.merging import merge
from adaptsr.adaptation.reparametrization import Plan, load_adaptation
from adaptsr.backbones.build import build
from adaptsr.backbones.checkpoints import PICKLED
from adaptsr.backbones.file_keys import as_in_file
from adaptsr.config import schema
from adaptsr.data.fetch import resolve_weights
from adaptsr.errors import UserError
from adaptsr.runs import records
from adaptsr.runs.origins import without_weights
from adaptsr.tensors import load_tensors, save_tensors


def merge_run(folder: Path, folders: Sequence[Path] = (FOLDER,)) -> dict[str, torch.Tensor]:
    """Return the state dict of a run's adapted backbone: the architecture's keys in their order, with merged values.

    folders: where the baseline files are. Raises `UserError` if the folder holds no finished run, or if its files or the
    weights it started from are not those that its record names.
    """
    record = sound_record(folder)
    model = _backbone(folder, record)
    keys = list(model.state_dict())
    plan = Plan.load(folder)
    variant = _variant(record, folders)
    try:
        attach(model, variant, plan)
    except UserError:
        raise
    except Exception as error:  # a plan from elsewhere can hold anything
        raise UserError(
            f"{folder / 'plan.json'}: this plan does not fit {record.baseline} on {record.backbone}: {_one_line(error)}"
        ) from error
    adaptation = folder / "adaptation.safetensors"
    load_adaptation(model, load_tensors(adaptation)[0], str(adaptation))
    return merge(model, variant.baseline, plan, keys)


def load_run(folder: Path, folders: Sequence[Path] = (FOLDER,)) -> nn.Module:
    """Return the adapted backbone of a run as a plain model in eval mode."""
    merged = merge_run(folder, folders)
    model = _backbone(folder, records.read_record(folder / "record.json"))
    model.load_state_dict(merged)
    return model.eval()


def write_merged(folder: Path, out: Path, folders: Sequence[Path] = (FOLDER,)) -> None:
    """Write a run's adapted backbone as a checkpoint, .safetensors or .pth, with the keys of the file that it started from.

    A .pth has the tensors where that file has them: bare, or under the same entry.
    """
    if out.suffix not in (".safetensors", ".pth"):
        raise UserError(f"{out}: unknown kind of checkpoint; end its name in .safetensors or .pth")
    merged = merge_run(folder, folders)
    container: str | None = PICKLED
    record = records.read_record(folder / "record.json")
    if weights := record.config["backbone"].get("weights"):
        merged, container = as_in_file(resolve_weights(weights), merged)
    if out.suffix == ".safetensors":
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
    content = io.BytesIO()
    torch.save({container: merged} if container else merged, content)
    with files.atomic_write(out) as temporary:
        temporary.write_bytes(content.getbuffer())


def sound_record(folder: Path) -> records.RunRecord:
    """Read the record of a finished run and check that its files are those the record names."""
    record = records.read_record(folder / "record.json")
    if record.status != "finished":
        raise UserError(f"{folder}: this run diverged at iteration {record.diverged_at}; there are no weights to use")
    if without_weights(folder):
        raise UserError(
            f"{folder}: a record without its weights, which counts for scores and reports alone; merge a pack that has them, "
            "or delete the folder and run snakemake, which trains it"
        )
    problem = damage(folder, record)
    if problem:
        raise UserError(f"{problem}; {records.redo(folder)}")
    return record


def _backbone(folder: Path, record: records.RunRecord) -> nn.Module:
    try:
        declared = schema.Backbone.model_validate(record.config["backbone"])
        scale = int(record.config["scale"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{folder / 'record.json'}: config: no backbone can be made of it: {_one_line(error)}"
        ) from None
    _check_start(folder, record, declared)
    return build(declared, scale)


def _check_start(folder: Path, record: records.RunRecord, declared: schema.Backbone) -> None:
    """Refuse weights other than those that the run started from; a record of schema 1 does not name them."""
    if not declared.weights or record.inputs is None:
        return
    path = resolve_weights(declared.weights)
    if files.file_sha256(path) != record.inputs.weights:
        raise UserError(
            f"{path}: not the weights that {folder} was trained from (SHA-256 {str(record.inputs.weights)[:12]}...); "
            "put the original file back"
        )


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def _variant(record: records.RunRecord, folders: Sequence[Path]) -> Variant:
    paths = [folder / f"{record.baseline}.py" for folder in folders]
    for path in paths:
        if path.is_file():
            return Variant(read_literals(path.absolute()), record.variant, record.config.get("options", {}))
    raise UserError(
        f"{paths[0]}: no file of baseline {record.baseline!r}, which loading this run needs; "
        "name the folder that has it with --baselines DIR"
    )


def damage(folder: Path, record: records.RunRecord) -> str | None:
    """Say which file of a finished run is not the one that its record names; None if all are.

    The weights of a record that was merged without them are not missed.
    """
    adaptation = folder / "adaptation.safetensors"
    weights = record.status == "finished" and not without_weights(folder)
    if weights and (not adaptation.is_file() or files.file_sha256(adaptation) != record.adaptation_sha256):
        return f"{adaptation}: not the weights that its record.json names"
    if record.plan_sha256 not in (None, Plan.sha256(folder)):
        return f"{folder / 'plan.json'}: not the plan that its record.json names"
    return None
