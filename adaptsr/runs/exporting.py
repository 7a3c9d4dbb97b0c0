"""Write a run's model for others: weights, a card for people, and the entry of OpenModelDB."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adaptsr import __version__, files
from adaptsr.adaptation.baseline_files import FOLDER
from adaptsr.backbones.build import build_from_file
from adaptsr.errors import UserError
from adaptsr.runs.loading import sound_record, write_merged
from adaptsr.runs.records import RunRecord

_CARD = """# {title}

{description}

| | |
|---|---|
| architecture, scale | {architecture}, x{scale} |
| adapted by | {method}, {trained:,} of {total:,} parameters, {iterations:,} iterations of batch {batch}, HR crops of {crop} pixels, seed {seed} |
| PSNR-Y on the validation pairs | {before:.2f} dB before, {after:.2f} dB after |
| started from weights with SHA-256 | `{weights}` |
| code | adaptsr {version}, {code} |

Scores on test pairs, with intervals, are in the report of profile `{profile}`. The licences of the weights that it started from and of
the pairs hold for this model too: state them before you hand it on. `record.json` says all that made it; with the profile's
file, this command makes it again:

```
adaptsr train --profile PROFILE --backbone {backbone} --variant {row} --seeds {seed}
```
"""


def export_run(folder: Path, out: Path, name: str | None = None, folders: Sequence[Path] = (FOLDER,)) -> list[Path]:
    """Write a run's weights (.safetensors, .pth), `README.md`, `openmodeldb.json` and `record.json`; return their paths.

    name: of the model, by default its profile's. folders: where the baseline files are.
    """
    if name and Path(name).name != name:
        raise UserError(f"--name {name}: expected the name of a model, without folders")
    record = sound_record(folder)
    scale = int(record.config["scale"])
    stem = f"{scale}x_{name or record.profile}"
    weights = [out / f"{stem}{suffix}" for suffix in (".safetensors", ".pth")]
    for path in weights:
        write_merged(folder, path, folders)
    architecture = type(build_from_file(weights[0])).__name__  # what cannot be loaded again is not handed on
    card, entry, copied = out / "README.md", out / "openmodeldb.json", out / "record.json"
    with files.atomic_write(card) as temporary:
        temporary.write_text(_card(record, stem, architecture), encoding="utf-8")
    files.write_json(entry, _entry(record, stem, architecture, weights[1]))
    record.write(copied)
    return [*weights, card, entry, copied]


def _description(record: RunRecord) -> str:
    return f"{record.backbone}, adapted to the training pairs of profile {record.profile} with {record.title}."


def _card(record: RunRecord, stem: str, architecture: str) -> str:
    training = record.config["training"]
    return _CARD.format(
        title=stem,
        description=_description(record),
        architecture=architecture,
        scale=record.config["scale"],
        method=record.title,
        trained=record.trainable_parameters,
        total=record.total_parameters,
        iterations=record.iterations,
        batch=training["batch_size"],
        crop=training["crop"],
        seed=record.seed,
        before=record.start_psnr_y,
        after=record.validation[-1].psnr_y if record.validation else record.start_psnr_y,
        weights=record.inputs.weights if record.inputs else "unknown",
        version=__version__,
        code=record.provenance.code_version,
        profile=record.profile,
        backbone=record.backbone,
        row=f"{record.baseline}/{record.variant}",
    )


def _entry(record: RunRecord, stem: str, architecture: str, weights: Path) -> dict[str, Any]:
    """Return the model's entry in OpenModelDB's schema, whose files are .pth; what only its author knows is left empty."""
    training = record.config["training"]
    return {
        "name": re.sub(r"^\d+x_", "", stem),
        "author": [],
        "license": None,
        "tags": [],
        "description": _description(record),
        "date": datetime.date.today().isoformat(),
        "architecture": architecture.lower(),
        "size": None,
        "scale": int(record.config["scale"]),
        "inputChannels": 3,
        "outputChannels": 3,
        "resources": [
            {
                "platform": "pytorch",
                "type": "pth",
                "size": weights.stat().st_size,
                "sha256": files.file_sha256(weights),
                "urls": [],
            }
        ],
        "trainingIterations": record.iterations,
        "trainingBatchSize": training["batch_size"],
        "trainingHRSize": training["crop"],
        "dataset": f"training pairs of profile {record.profile}",
        "images": [],
    }
