"""Score restored images of several methods with PSNR, SSIM, LPIPS and DISTS, and compare with the pyiqa command line.

    python -m speed.scoring [--tiny] [--images N] [--methods N] [--size PIXELS] [--json PATH]

The pyiqa command runs once for each method and metric, as a user would call it; ours is one `adaptsr score-runs --external`
for all methods. Both sides pay for starting their processes and for decoding. HR images are crops of photographs that ship
with scikit-image; the methods' images are the same with noise and JPEG. The networks' weights are random, which does not
change their speed; they lie in a separate cache, under the names that pyiqa expects.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import math
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
import yaml
from PIL import Image
from torch import nn

from adaptsr.config.reading import load_profile
from adaptsr.data.degradation import bicubic
from adaptsr.data.images import read_image, to_float, to_uint8, write_png
from adaptsr.data.manifest import manifest_path, read_manifest
from adaptsr.metrics.weights import weight_files
from adaptsr.project import VARIABLE
from adaptsr.randomness import generator
from adaptsr.runs.matrix import Matrix
from adaptsr.scoring.folders import standard_scoring
from adaptsr.scoring.table import collect_scores
from speed.measuring import Figure, arguments, in_turns, ratio, report

PHOTOGRAPHS = (
    "astronaut.png",
    "coffee.png",
    "hubble_deep_field.jpg",
    "motorcycle_left.png",
    "retina.jpg",
    "rocket.jpg",
)
METRICS = ("psnry", "ssim", "lpips", "dists")
SAME_CONVENTIONS = ("lpips", "dists")
"""Metrics that both sides compute alike. PSNR and SSIM of pyiqa's command line are always of full-range luma."""
SCALE = 4
GOALS = {"cpu": 0.5, "cuda": 0.2}
OURS, THEIRS = "adaptsr", "pyiqa"
RESULTS = Path("results/benchmark")


def main(words: Sequence[str] | None = None) -> None:
    parser = arguments(
        argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    )
    parser.add_argument("--images", type=int, default=100, help="test images; default 100")
    parser.add_argument("--methods", type=int, default=10, help="methods, each a folder of restored images; default 10")
    parser.add_argument("--size", type=int, default=512, help="side of the images in pixels; default 512")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of each process; default 1")
    parsed = parser.parse_args(words)
    if parsed.tiny:
        parsed.images, parsed.methods, parsed.size = 2, 1, 64
    settings = {name: getattr(parsed, name) for name in ("images", "methods", "size", "threads")}
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder), **settings)
        place.furnish()
        figures = [figure for device in GOALS for figure in measured(place, device)]
    report("scoring", settings, figures, parsed.json, "cuda" if torch.cuda.is_available() else "cpu")


@dataclass
class Place:
    """A working folder with a dataset, the images of several methods and a cache of network weights."""

    root: Path
    images: int
    methods: int
    size: int
    threads: int
    means: dict[tuple[str, str], float] = field(default_factory=dict)
    """Means that the pyiqa command printed in its last call, by method and metric."""
    processor_seconds: dict[str, float] = field(default_factory=dict)
    """Processor time of each side's last round, which waiting for a busy machine does not change."""

    @property
    def names(self) -> list[str]:
        return [f"method{number}" for number in range(self.methods)]

    def furnish(self) -> None:
        """Write weights, images and profiles, prepare the dataset and warm up the file cache."""
        write_random_weights(self.root / "torch")
        photographs = [_mirrored(read_image(_photograph(name))) for name in PHOTOGRAPHS]
        for number in range(self.images):
            hr = _crop(photographs[number % len(photographs)], self.size, number)
            write_png(self.root / f"hr/{number:04d}.png", hr)
            write_png(self.root / f"lr/{number:04d}.png", to_uint8(bicubic(to_float(hr)[None], SCALE)[0]))
            for method in self.names:
                write_png(self.root / method / f"{number:04d}.png", _restored(hr, method, number))
        for device in GOALS:
            (self.root / f"{device}.yaml").write_text(yaml.safe_dump(self._profile(device)))
        self.run("adaptsr", "data", "prepare", "photos", "--profile", "cpu.yaml")
        # Load the modules of both sides into the file cache.
        self.run("python", "-c", "import adaptsr.scoring.score_runs, pyiqa.pyiqa_cmd")

    def run(self, program: str, *words: str) -> str:
        """Run a program of this environment with only the weights of this place, and return its output.

        Raises `SystemExit` with its error output if it fails.
        """
        threads = {"OMP_NUM_THREADS": str(self.threads), "MKL_NUM_THREADS": str(self.threads)}
        environment = {**os.environ, **threads, "TORCH_HOME": str(self.root / "torch"), VARIABLE: str(self.root)}
        path = Path(sys.executable).with_name(program)
        done = subprocess.run([path, *words], cwd=self.root, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{program} {' '.join(words)} failed:\n{done.stderr}")
        return done.stdout

    def adaptsr(self, device: str) -> None:
        """Score all methods with our command."""
        shutil.rmtree(self.root / RESULTS, ignore_errors=True)
        with self._timed(OURS):
            words = ("--profile", f"{device}.yaml", "--external", "--dataset", "photos", "--out", "list.json")
            self.run("adaptsr", "score-runs", *words)

    def pyiqa(self, device: str) -> None:
        """Score all methods with the pyiqa command."""
        with self._timed(THEIRS):
            for method in self.names:
                for metric in METRICS:
                    said = self.run("pyiqa", metric, "--target", method, "--ref", "hr", "--device", device)
                    self.means[method, metric] = _mean_of(said)

    @contextmanager
    def _timed(self, side: str) -> Iterator[None]:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        yield
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.processor_seconds[side] = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    def largest_difference(self) -> float:
        """Return the largest difference between the two sides' means of a method, in the metrics that both compute alike."""
        matrix = Matrix.of(load_profile(self.root / "cpu.yaml"), "cpu.yaml")
        images = {"photos": read_manifest(self.root / manifest_path("photos")).digest("test")}
        sources = {(run, "photos"): None for run in matrix.runs if run.backbone is None}
        scores, _ = collect_scores(matrix.profile, self.root / matrix.results, sources, images)
        ours = scores.groupby(["variant", "metric"])["value"].mean()
        return max(
            abs(float(ours[method, metric]) - self.means[method, metric])
            for method in self.names
            for metric in SAME_CONVENTIONS
        )

    def _profile(self, device: str) -> dict[str, Any]:
        photos = {"kind": "pairs", "lr": "lr", "hr": "hr", "split": {"test": "all"}}
        return {
            "name": RESULTS.name,
            "title": "Benchmark",
            "seeds": [1],
            "compute": {"device": device, "threads": self.threads},
            "datasets": {"photos": photos},
            "data": {
                "train": [{"dataset": "photos", "split": "test"}],
                "validation": {"dataset": "photos", "split": "test"},
                "test": [{"dataset": "photos"}],
            },
            "backbones": {"edsr": {"architecture": "edsr"}},
            "external": {name: {"title": name, "folders": {"photos": name}} for name in self.names},
            "training": {"iterations": 1, "batch_size": 1, "crop": 32, "lr": 0.001, "validate_every": 1},
            "baselines": {},
            "scoring": standard_scoring().model_dump(mode="json"),
            "report": {"tables": {"table": {"title": "Table", "rows": ["external/*"]}}},
        }


def measured(place: Place, device: str) -> list[Figure]:
    """Measure the time per method on a device and how far the scores of both sides agree."""
    size = f"{place.images} images of {place.size}x{place.size}, {place.methods} methods"
    what = f"{device}, {size}: {OURS} / {THEIRS}"
    if device == "cuda" and not torch.cuda.is_available():
        return [Figure(what, None, "", GOALS[device], "not measured: no CUDA device")]
    seconds = in_turns({OURS: lambda: place.adaptsr(device), THEIRS: lambda: place.pyiqa(device)}, rounds=1, warm_up=0)
    processor = place.processor_seconds
    return [
        Figure(what, ratio(seconds, OURS, THEIRS), "", GOALS[device]),
        Figure(f"{device}, ratio of processor time", processor[OURS] / processor[THEIRS], ""),
        *(Figure(f"{device}, {side}, per method", seconds[side][0] / place.methods, "s") for side in (OURS, THEIRS)),
        *(
            Figure(f"{device}, {side}, processor, per method", processor[side] / place.methods, "s")
            for side in processor
        ),
        Figure(
            f"{device}, largest difference of a mean of LPIPS or DISTS, times 1e6", 1e6 * place.largest_difference(), ""
        ),
    ]


def write_random_weights(home: Path) -> None:
    """Write random weights of AlexNet, VGG16, LPIPS and DISTS to where pyiqa looks for them if `home` is `$TORCH_HOME`."""
    draw = generator("random network weights")
    channels = (64, 192, 384, 256, 256)
    contents: dict[str, Callable[[], dict[str, torch.Tensor]]] = {
        "AlexNet": lambda: random_network(torchvision.models.alexnet, draw),
        "VGG16": lambda: random_network(torchvision.models.vgg16, draw),
        "LPIPS": lambda: {
            f"lin{i}.model.1.weight": torch.rand(1, c, 1, 1, generator=draw) for i, c in enumerate(channels)
        },
        "DISTS": lambda: {name: torch.rand(1, 1475, 1, 1, generator=draw) for name in ("alpha", "beta")},
    }
    for file in weight_files(standard_scoring()):
        path = home / "hub" / file.path.parent.name / file.path.name
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(contents[file.title](), path)


def random_network(build: Callable[[], nn.Module], draw: torch.Generator) -> dict[str, torch.Tensor]:
    """Draw convolutions of Kaiming's variance; store classifiers, which the metrics do not use, as a single number."""
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in build().state_dict().items()}
    return {
        key: torch.zeros(1).expand(shape)
        if key.startswith("classifier")
        else torch.randn(shape, generator=draw) * math.sqrt(2 / (math.prod(shape[1:]) or 1))
        for key, shape in shapes.items()
    }


def _photograph(name: str) -> Path:
    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        raise SystemExit("scikit-image is not installed; set up the environment from requirements.lock")
    return Path(spec.origin).with_name("data") / name


def _mirrored(image: torch.Tensor) -> torch.Tensor:
    """Mirror an image to four times its pixels, so that crops fit into it."""
    image = torch.cat([image, image.flip(-1)], dim=-1)
    return torch.cat([image, image.flip(-2)], dim=-2)


def _crop(image: torch.Tensor, side: int, number: int) -> torch.Tensor:
    draw = generator("scoring benchmark", "crop", number)
    top, left = (int(torch.randint(length - side + 1, (), generator=draw)) for length in image.shape[1:])
    return image[:, top : top + side, left : left + side]


def _restored(hr: torch.Tensor, method: str, number: int) -> torch.Tensor:
    draw = generator("scoring benchmark", method, number)
    noise = torch.randn(hr.shape, generator=draw) * 8
    levels = (hr + noise).round().clamp(0, 255).to(torch.uint8)
    jpeg = io.BytesIO()
    quality = int(torch.randint(60, 96, (), generator=draw))
    Image.fromarray(levels.permute(1, 2, 0).numpy()).save(jpeg, format="JPEG", quality=quality)
    return torch.from_numpy(np.array(Image.open(jpeg))).permute(2, 0, 1)


def _mean_of(said: str) -> float:
    """Read the mean from the output of `pyiqa METRIC`, which ends like `{'lpips': {'mean': np.float64(0.1)}}`."""
    found = re.search(r"'mean': (?:np\.float64\()?([^)}\s]+)", said)
    if not found:
        raise SystemExit(f"pyiqa printed no mean:\n{said}")
    return float(found[1])


if __name__ == "__main__":
    main()
