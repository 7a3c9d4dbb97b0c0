"""Time restoring a photograph, from file to file, beside the ways that spandrel and Real-ESRGAN offer, on one CPU thread.

    python -m speed.restoring [--weights MODEL.pth] [--width 1500] [--height 1000]

spandrel: its descriptor restores the whole image. Real-ESRGAN: its `RealESRGANer` restores tiles of 256 LR pixels with 10
around them (`--tile 256`; its default, no tiles, is what spandrel does). Each also says how far it is from the whole image.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import spandrel
import torch
from numpy.typing import NDArray
from PIL import Image

from adaptsr.config.schema import Compute
from adaptsr.devices import prepare_device
from adaptsr.restoring.folders import restore_photographs
from adaptsr.restoring.models import load_restorer
from speed.measuring import Figure, arguments, in_turns, ratio, report

WEIGHTS = Path(__file__).resolve().parent.parent / "resources/demo/safmn.safetensors"
TILE, PAD = 256, 10
Pixels = NDArray[Any]


def main(words: Sequence[str] | None = None) -> None:
    parser = arguments(
        argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    )
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="a model that spandrel loads")
    parser.add_argument("--width", type=int, default=1500, help="of the photograph, in pixels")
    parser.add_argument("--height", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(words)
    if options.tiny:
        options.width, options.height, options.rounds = 300, 280, 1
    prepare_device(Compute(device="cpu", threads=1, deterministic=False))
    restorer = load_restorer(options.weights)
    descriptor: Any = spandrel.ModelLoader().load_from_file(options.weights)
    descriptor.eval()
    with tempfile.TemporaryDirectory() as folder:
        photograph = Path(folder) / "photograph.png"
        write_photograph(photograph, options.width, options.height)
        number = 0

        def ours() -> Pixels:
            nonlocal number
            number += 1
            [job], problems = restore_photographs(
                restorer, [photograph], Path(folder) / f"out{number}", lambda line: None
            )
            assert not problems
            return read(job.target)

        def spandrels() -> Pixels:
            return written(Path(folder) / "spandrel.png", restored_whole(descriptor, read(photograph)))

        def real_esrgans() -> Pixels:
            return written(Path(folder) / "tiles.png", restored_in_tiles(descriptor, read(photograph)))

        ways: dict[str, Callable[[], Pixels]] = {"ours": ours, "spandrel": spandrels, "Real-ESRGAN": real_esrgans}
        images: dict[str, Pixels] = {}

        def kept(name: str) -> Callable[[], object]:
            def run() -> None:
                images[name] = ways[name]()

            return run

        seconds = in_turns({name: kept(name) for name in ways}, options.rounds, warm_up=0 if options.tiny else 1)
    megapixels = options.width * options.height / 1e6
    figures = [
        Figure("ours, LR megapixels a second", megapixels / min(seconds["ours"]), "MP/s"),
        Figure("ours / spandrel, the whole image", ratio(seconds, "ours", "spandrel"), ""),
        Figure(f"ours / Real-ESRGAN, tiles of {TILE}", ratio(seconds, "ours", "Real-ESRGAN"), ""),
        *(
            Figure(
                f"{name}: largest difference from the whole image",
                difference(images[name], images["spandrel"]),
                "levels",
            )
            for name in ("ours", "Real-ESRGAN")
        ),
    ]
    settings = {"weights": options.weights.name, "width": options.width, "height": options.height}
    report("restoring", settings, figures, options.json, "cpu")


def write_photograph(path: Path, width: int, height: int) -> None:
    """Write a photograph that ships with scikit-image, in this size."""
    from skimage import data

    astronaut: Any = data.astronaut
    Image.fromarray(astronaut()).resize((width, height), Image.Resampling.BICUBIC).save(path)


def restored_whole(descriptor: Any, pixels: Pixels) -> Pixels:
    with torch.inference_mode():
        image = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
        levels: torch.Tensor = (descriptor(image)[0].clamp(0, 1) * 255).round().to(torch.uint8)
    restored: Pixels = levels.permute(1, 2, 0).numpy()
    return restored


def restored_in_tiles(descriptor: Any, pixels: Pixels) -> Pixels:
    """Restore as Real-ESRGAN's `tile_process` does."""
    scale = descriptor.scale
    height, width = pixels.shape[:2]
    whole = np.zeros((scale * height, scale * width, 3), np.uint8)
    for top in range(0, height, TILE):
        for left in range(0, width, TILE):
            bottom, right = min(top + TILE, height), min(left + TILE, width)
            above, before = max(top - PAD, 0), max(left - PAD, 0)
            tile = restored_whole(descriptor, pixels[above : bottom + PAD, before : right + PAD])
            down, across = scale * (top - above), scale * (left - before)
            inside = tile[down : down + scale * (bottom - top), across : across + scale * (right - left)]
            whole[scale * top : scale * bottom, scale * left : scale * right] = inside
    return whole


def written(path: Path, pixels: Pixels) -> Pixels:
    cv2.imwrite(str(path), pixels[..., ::-1])
    return pixels


def read(path: Path) -> Pixels:
    with Image.open(path) as image:
        return np.array(image.convert("RGB"))


def difference(one: Pixels, other: Pixels) -> float:
    return float(np.abs(one.astype(int) - other.astype(int)).max())


if __name__ == "__main__":
    main()
