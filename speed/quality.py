"""Compare the quality of the fast and the plain recipe: train the pilot's LoRA, r = 8, both ways from the same seeds.

    python -m speed.quality --data PAIRS --weights MODEL.pth [--iterations 2000] [--seeds 3] [--precision bfloat16]

Plain: all layers and attention as their libraries have them, in float32. Fast: what training uses, in the given precision.
PSNR-Y is of the whole images of the pilot's held-out pairs. The difference is compared with the standard deviation of the
plain recipe over its seeds.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from adaptsr import devices
from adaptsr.backbones.inference import restore
from adaptsr.config import reading, schema
from adaptsr.data.manifest import manifest_path
from adaptsr.data.prepare import prepare
from adaptsr.data.store import load_split
from adaptsr.metrics.psnr import psnr_y
from adaptsr.runs.loading import load_run
from adaptsr.runs.matrix import Matrix
from adaptsr.training import context, train_runs
from speed.measuring import Figure, arguments, report

PROFILE = Path(__file__).resolve().parent.parent / "config/pilot.yaml"
ROW = "lora/r8"
BACKBONE = "given"


def main(words: Sequence[str] | None = None) -> None:
    parser = arguments(
        argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    )
    parser.add_argument("--data", required=True, help="folder that holds lr/ and hr/")
    parser.add_argument("--weights", required=True, help="a x4 model that spandrel loads")
    parser.add_argument("--iterations", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--precision", choices=["float32", "bfloat16"], default="bfloat16", help="precision of the fast recipe"
    )
    parser.add_argument(
        "--compile", choices=["none", "regions", "graphs"], default="none", help="how the fast recipe is compiled"
    )
    options = parser.parse_args(words)
    options.data, options.weights = (str(Path(path).resolve()) for path in (options.data, options.weights))
    target = options.json.resolve() if options.json else None
    images = None
    if options.tiny:
        options.iterations, options.seeds, images = 2, 2, 1
    profile = _profile(options)
    # Datasets are prepared below the current folder.
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for name, dataset in profile.datasets.items():
            prepare(name, dataset, manifest_path(name).parent, profile.scale)
        plain = _measured(profile, {"precision": "float32"}, options.seeds, images, Path("plain"), accelerated=False)
        recipe = {"precision": options.precision, "compile": options.compile}
        fast = _measured(profile, recipe, options.seeds, images, Path("fast"), accelerated=True)
    device = devices.prepare_device(profile.compute)
    settings = {key: getattr(options, key) for key in ("iterations", "seeds", "precision", "compile", "tiny")}
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    report("quality", {**settings, "weights": Path(options.weights).name}, _figures(plain, fast), target, name)


def _figures(plain: Sequence[float], fast: Sequence[float]) -> list[Figure]:
    spread = statistics.stdev(plain)
    difference = statistics.fmean(fast) - statistics.fmean(plain)
    return [
        Figure("plain: PSNR-Y", statistics.fmean(plain), "dB", note=_each(plain)),
        Figure("fast: PSNR-Y", statistics.fmean(fast), "dB", note=_each(fast)),
        Figure(
            "fast - plain", difference, "dB", note=f"standard deviation over the plain recipe's seeds: {spread:.4f} dB"
        ),
        Figure("|fast - plain| / deviation of the seeds", abs(difference) / spread, "", 1.0),
    ]


def _each(values: Sequence[float]) -> str:
    return "seeds: " + ", ".join(f"{value:.4f}" for value in values)


def _profile(options: argparse.Namespace) -> schema.Profile:
    profile = reading.load_profile(PROFILE, {"data": options.data, "weights": options.weights})
    schedule: dict[str, Any] = {"iterations": options.iterations, "validate_every": options.iterations}
    if options.tiny:
        schedule |= {"batch_size": 1, "crop": 64}
    return profile.model_copy(update={"training": profile.schedule.model_copy(update=schedule)})


def _measured(
    profile: schema.Profile,
    recipe: Mapping[str, str],
    seeds: int,
    images: int | None,
    folder: Path,
    *,
    accelerated: bool,
) -> list[float]:
    """Train with each seed and return the mean PSNR-Y (dB) of the first `images` test images, None meaning all."""
    schedule = profile.schedule.model_copy(update=dict(recipe))
    matrix = Matrix.of(profile.model_copy(update={"training": schedule}), str(PROFILE))
    bench = context.TrainingContext.of(matrix, BACKBONE)
    variant = matrix.variant(ROW)
    test = matrix.tests[0]
    pairs = load_split(manifest_path(test.dataset), test.split)
    means = []
    for seed in range(1, seeds + 1):
        run = folder / str(seed)
        with contextlib.nullcontext() if accelerated else mock.patch("adaptsr.training.train_runs.accelerate"):
            train_runs.train_run(bench, variant, seed, run, print, lambda: False)
        model = load_run(run).to(bench.device)
        scores = [
            float(psnr_y(restore(model, lr[None]), hr[None]))
            for lr, hr in islice(zip(pairs.lr, pairs.hr, strict=True), images)
        ]
        means.append(statistics.fmean(scores))
    return means


if __name__ == "__main__":
    main()
