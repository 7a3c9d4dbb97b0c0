"""Making the demo's own bicubic-trained backbones: small, but good enough to be worth adapting."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch

from adaptsr import files, randomness
from adaptsr.adaptation.reparametrization import parameter_count
from adaptsr.backbones.build import build
from adaptsr.backbones.inference import restore
from adaptsr.backbones.sites import find_sites
from adaptsr.config import schema
from adaptsr.data.degradation import bicubic_enlarged
from adaptsr.data.images import to_float, to_uint8
from adaptsr.data.manifest import manifest_path, read_manifest
from adaptsr.data.sampling import WeightedSource
from adaptsr.data.store import PairSet, load_split
from adaptsr.devices import prepare_device
from adaptsr.errors import UserError
from adaptsr.metrics.psnr import psnr_y
from adaptsr.progress import Progress
from adaptsr.runs import provenance
from adaptsr.runs.keys import Inputs
from adaptsr.runs.matrix import Matrix
from adaptsr.tensors import save_tensors
from adaptsr.training.checkpoints import Checkpoints
from adaptsr.training.context import TrainingContext
from adaptsr.training.loop import optimise
from adaptsr.training.termination import sigterm_noted

SEED = 0


def pretrain(matrix: Matrix, name: str, out: Path, progress: Progress) -> None:
    """Train a backbone from scratch on a dataset's bicubic pairs and write its state dict and record.

    The record states PSNR-Y on the dataset's test split beside that of bicubic interpolation.
    """
    profile = matrix.profile
    if profile.pretraining is None:
        raise UserError(
            f"{matrix.source}: pretraining: this profile has no such block; its backbones come with weights"
        )
    manifest = manifest_path(profile.pretraining.dataset)
    training = profile.pretraining.training
    device = prepare_device(profile.compute)
    digests = read_manifest(manifest)
    randomness.seed_globals(SEED, "pretrain", name)
    untrained = profile.backbones[name].model_copy(update={"weights": None})
    model = build(untrained, profile.scale, training.crop // profile.scale).to(device)
    context = TrainingContext(
        matrix=matrix,
        name=name,
        backbone=model,
        sites=find_sites(model),
        sources=[WeightedSource(load_split(manifest, "train"))],
        validation=load_split(manifest, "validation"),
        device=device,
        inputs=Inputs(weights=None, train=(digests.digest("train"),), validation=digests.digest("validation")),
    )
    unstated = set(schema.Recipe.model_fields) - training.model_fields_set
    key = files.digest(
        {
            "backbone": untrained.model_dump(mode="json"),
            "training": training.model_dump(mode="json", exclude=unstated),
            "data": digests.digest("train"),
            "protocol": profile.protocol,
        }
    )
    checkpoints = Checkpoints(out.parent / f"{name}-checkpoints", key)
    model.requires_grad_(True)
    with sigterm_noted() as terminated:
        outcome = optimise(
            context, model, training, SEED, checkpoints, lambda line: progress(f"{name}: {line}"), terminated
        )
    if outcome.diverged_at is not None:
        raise UserError(
            f"{name}: diverged at iteration {outcome.diverged_at}; lower pretraining.training.lr in {matrix.source}"
        )
    save_tensors(out, model.state_dict(), {"key": key})
    test = load_split(manifest, "test")
    files.write_json(
        out.with_suffix(".json"),
        {
            "backbone": untrained.model_dump(mode="json", exclude={"weights", "kinds"}),
            "command": "snakemake demo_weights",
            "dataset": profile.datasets[profile.pretraining.dataset].model_dump(mode="json"),
            "data": digests.digest("train"),
            "training": training.model_dump(mode="json"),
            "seed": SEED,
            "parameters": parameter_count(model),
            "psnr_y_test": {
                "backbone": _psnr(test, lambda lr: restore(model.eval(), lr)),
                "bicubic": _psnr(test, lambda lr: to_uint8(bicubic_enlarged(to_float(lr), profile.scale))),
            },
            "conventions": "PSNR-Y in dB, BT.601, 8 bit, no crop, mean over the test images",
            "sha256": files.file_sha256(out),
            "seconds": round(outcome.history.seconds, 1),
            "provenance": provenance.provenance().model_dump(),
        },
    )
    checkpoints.clear()


def _psnr(test: PairSet, enlarge: Callable[[torch.Tensor], torch.Tensor]) -> float:
    """Mean PSNR-Y of uint8 LR images enlarged to uint8."""
    values = [float(psnr_y(enlarge(lr[None]), hr[None])) for lr, hr in zip(test.lr, test.hr, strict=True)]
    return round(math.fsum(values) / len(values), 4)
