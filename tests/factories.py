"""Small profiles, records, images and data sets; a test composes what it needs from them."""

from __future__ import annotations

import io
import os
import shutil
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
import torch
import yaml
from PIL import Image

from adaptsr.config import schema
from adaptsr.config.mistakes import validate
from adaptsr.data.images import write_png
from adaptsr.data.packed import PACKED
from adaptsr.errors import UserError
from adaptsr.randomness import generator
from adaptsr.runs.choices import Choice
from adaptsr.runs.keys import Inputs
from adaptsr.runs.matrix import Matrix
from adaptsr.runs.provenance import Provenance
from adaptsr.runs.records import RunRecord

REPOSITORY = Path(__file__).resolve().parents[1]
PROJECT = ("Snakefile", "adaptsr", "baselines", "config", "papers", "profiles", "workflow", "resources/demo")
"""What a copy of the project needs to run the demo."""

Json = dict[str, Any]


# Profiles


def profile_content(name: str = "demo") -> Json:
    """Read one of the profiles in config/, as a mapping that a test may change; untuned, so that runs need no choices."""
    content: Json = yaml.safe_load((REPOSITORY / f"config/{name}.yaml").read_text(encoding="utf-8"))
    content.pop("tuning", None)
    return content


def baselines(rows: Mapping[str, list[str]]) -> Json:
    """Run these rows and nothing else: every other baseline file is named with no rows."""
    names = [path.stem for path in (REPOSITORY / "baselines").glob("*.py")]
    return {name: {"rows": rows.get(name, [])} for name in names}


def tiny_profile(
    backbones: Iterable[str] = ("safmn",), rows: Mapping[str, list[str]] | None = None, **training: object
) -> Json:
    """The demo with images of 64 pixels, two seeds and a few iterations, without pretraining, pictures and comparisons."""
    content = profile_content()
    content["datasets"] = {"degraded": content["datasets"]["degraded"]}
    content["datasets"]["degraded"].update(patch=64, patches_per_scene={"train": 2, "validation": 1, "test": 1})
    content["seeds"] = [1, 2]
    content["compute"]["seeds_per_job"] = 2
    content["backbones"] = {name: content["backbones"][name] for name in backbones}
    content["training"].update({"iterations": 4, "batch_size": 2, "crop": 32, "validate_every": 2, **training})
    changes = content["baselines"]
    content["baselines"] = {
        name: {**changes.get(name, {}), **only}
        for name, only in baselines(rows or {"full_finetuning": ["all"], "lora": ["r1"]}).items()
    }
    content["scoring"]["metrics"] = {name: content["scoring"]["metrics"][name] for name in ("psnr_y", "ssim_y")}
    content["report"].update(pictures=[], comparisons=[])
    content.pop("pretraining")
    return content


def pairs_profile(split: Mapping[str, str], **changes: object) -> Json:
    """A profile of one tiny EDSR on the folder of pairs `pairs/`; `changes` replace whole blocks."""
    photos = {"kind": "pairs", "lr": "pairs/lr", "hr": "pairs/hr", "split": dict(split)}
    return {
        "name": "small",
        "title": "Small",
        "seeds": [1],
        "compute": {"device": "cpu"},
        "datasets": {"photos": photos},
        "data": {
            "train": [{"dataset": "photos"}],
            "validation": {"dataset": "photos"},
            "test": [{"dataset": "photos"}],
        },
        "backbones": {"edsr": {"architecture": "edsr", "options": {"num_feat": 4, "num_block": 1}}},
        "training": {"iterations": 1, "batch_size": 1, "crop": 32, "lr": 0.001, "validate_every": 1},
        "scoring": {"metrics": {"psnr_y": {"name": "psnr", "title": "PSNR-Y"}}},
        "report": {"tables": {"table": {"title": "A table", "rows": ["*"]}}},
        **changes,
    }


def matrix_of(content: Json) -> Matrix:
    path = Path(f"{content['name']}.yaml")
    return Matrix.of(validate(content, path), str(path))


def scoring_of(*names: str, **options: Any) -> schema.Scoring:
    """Score with these metrics under their own names, each with the same options."""
    return schema.Scoring(metrics={name: schema.Metric(name=name, options=options) for name in names})


def copy_project(root: Path) -> None:
    """Copy into a folder what the workflow needs."""
    for name in PROJECT:
        source, target = REPOSITORY / name, root / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)


# Records


def run_record(**changes: object) -> RunRecord:
    """The record of a finished run."""
    provenance = Provenance(
        code_version="0", code_dirty=None, packages={}, python="", system="", processor="", cores=1, device="cpu"
    )
    content: Json = {
        "variant_key": "0" * 64,
        "inputs": Inputs(weights=None, train=("0" * 64,), validation="0" * 64),
        "status": "finished",
        "profile": "demo",
        "backbone": "safmn",
        "baseline": "lora",
        "variant": "r1",
        "seed": 1,
        "config": {"backbone": {"architecture": "SAFMN"}, "scale": 4},
        "title": "LoRA",
        "extension": None,
        "notes": [],
        "total_parameters": 20_000,
        "trainable_parameters": 1_500,
        "iterations": 10,
        "resumed_from": 0,
        "wall_seconds": 1.0,
        "peak_memory_bytes": 1,
        "start_psnr_y": 26.0,
        "losses": [],
        "validation": [],
        "provenance": provenance,
        **changes,
    }
    return RunRecord.model_validate(content)


def choice(tried: Mapping[float, Iterable[float | None]] | None = None, **changes: object) -> Choice:
    """What tuning chose of learning rates with these values, one for each seed; the first is chosen."""
    curves = {1e-3: [22.0, 22.2], 1e-2: [22.1, 21.9]} if tried is None else tried
    content: Json = {
        "asked": "0" * 64,
        "backbone": "safmn",
        "row": "lora/r1",
        "options": {"lr": next(iter(curves))},
        "metric": "psnr_y",
        "tried": [{"point": {"lr": lr}, "values": dict(enumerate(values, 101))} for lr, values in curves.items()],
        "iterations": 10,
        "seconds": 60.0,
        "inputs": {"weights": None, "train": ["0" * 64], "validation": "0" * 64},
        **changes,
    }
    return Choice.model_validate(content)


# Images and data


def noise(key: object, height: int, width: int) -> torch.Tensor:
    """A random 8-bit image, the same for the same key."""
    drawn = torch.rand(3, height, width, generator=generator("test image", str(key)))
    return (drawn * 255).to(torch.uint8)


def reduced(image: torch.Tensor, scale: int) -> torch.Tensor:
    """A smaller image of the same scene."""
    return torch.nn.functional.avg_pool2d(image.to(torch.float32), scale).to(torch.uint8)


def write_pair(root: Path, name: str, lr: tuple[int, int] = (16, 16), scale: int = 4) -> None:
    """Write `lr/<name>.png` and `hr/<name>.png`, whatever the name is made of."""
    hr = noise(f"hr {name}", scale * lr[0], scale * lr[1])
    write_png(root / "lr" / f"{name}.png", reduced(hr, scale))
    write_png(root / "hr" / f"{name}.png", hr)


def write_pairs(root: Path, names: Iterable[str], lr: tuple[int, int] = (16, 16), scale: int = 4) -> None:
    for name in names:
        write_pair(root, name, lr, scale)


def pairs_of(root: Path, **split: str) -> schema.Pairs:
    """The configuration of a folder of pairs; all of it is for testing unless a split is given."""
    return schema.Pairs(kind="pairs", lr=str(root / "lr"), hr=str(root / "hr"), split=split or {"test": "all"})


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder but locks and packed images, with its content."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(".lock") and path.parent.name != PACKED
    }


def zipped(members: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """A zip archive that is the same every time."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = compression
            archive.writestr(info, content)
    return buffer.getvalue()


def cut(content: bytes, share: float) -> bytes:
    return content[: int(share * len(content))]


def flipped(content: bytes, place: int = -3) -> bytes:
    """The content with one bit changed."""
    changed = bytearray(content)
    changed[place] ^= 1
    return bytes(changed)


def smooth_pair(key: object, height: int = 48, width: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    """A noisy version of a smooth random image, and the image itself."""
    draw = generator("scoring test", key)
    coarse = torch.rand(1, 3, height // 8 + 1, width // 8 + 1, generator=draw)
    smooth = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic").clamp(0, 1)[0]
    noisy = (smooth + 0.05 * torch.randn(smooth.shape, generator=draw)).clamp(0, 1)
    return (noisy * 255).round().to(torch.uint8), (smooth * 255).round().to(torch.uint8)


def png_bytes(key: object, side: int) -> bytes:
    """A PNG file of a random image."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(noise(key, side, side).permute(1, 2, 0).numpy())).save(buffer, "PNG")
    return buffer.getvalue()


def change_rows(path: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    """Edit the rows of a score file as one does by hand, with pandas; what we wrote about them stays."""
    table = pyarrow.parquet.read_table(path)
    frame = change(table.to_pandas())
    changed = pyarrow.Table.from_pandas(frame, schema=table.schema.remove_metadata(), preserve_index=False)
    pyarrow.parquet.write_table(changed.replace_schema_metadata(table.schema.metadata), path)


def better(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows with the first value a little higher."""
    return frame.assign(value=frame["value"].where(frame.index != 0, frame["value"] + 1e-9))


# Harm


HOSTILE_NAMES = [
    "two\nlines",
    "\x1b[2Jcleared",
    "\u202egnp.exe",
    "quote'quote",
    'double"quote',
    "$(touch executed)",
    "`touch executed`",
    "; touch executed ;",
    "-rf",
    " leading and trailing ",
    "<script>alert(1)<\u2215script>",
    "<img src=x onerror=alert(1)>",
    "&amp;",
    "{wildcard}",
    "{output}",
    "%s%n",
    "*",
    "~",
    "name.with.dots",
    "x" * 200,
]
"""Names of files that mean something to a terminal, a shell, Snakemake or a browser."""


class Touch:
    """Unpickled, it makes a file."""

    def __init__(self, sentinel: Path) -> None:
        self.sentinel = sentinel

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.sentinel}'",)


def refusal(act: Callable[[], object]) -> str:
    """The one short line with which something is refused, with nothing in it that a terminal acts on."""
    with pytest.raises(UserError) as caught:
        act()
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 1500
    return message
