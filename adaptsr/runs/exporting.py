"""Write a run's model for others: weights, a card for people, and the entry of OpenModelDB."""

from __future__ import annotations

import csv
import datetime
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from adaptsr import __version__, files
from adaptsr.adaptation.baseline_files import FOLDER
from adaptsr.backbones.architectures.known import for_spandrel
from adaptsr.backbones.build import build_from_file
from adaptsr.backbones.gate import CHANNELS
from adaptsr.backbones.inference import enlarge
from adaptsr.data.catalogue import read_catalogue
from adaptsr.errors import UserError
from adaptsr.randomness import generator
from adaptsr.runs.loading import sound_record, write_merged
from adaptsr.runs.onnx_files import write_onnx
from adaptsr.runs.records import RunRecord
from adaptsr.tensors import save_tensors

_SAME = 0.1
"""Levels of 255 between two forms of one model, from float32 alone."""

_CARD = """# {title}

{description}

| | |
|---|---|
| architecture, scale | {architecture}, x{scale} |
| adapted by | {method}, {trained:,} of {total:,} parameters, {iterations:,} iterations of batch {batch}, HR crops of {crop} pixels, learning rate {lr:g}, seed {seed} |
| PSNR-Y on the validation pairs | {before:.2f} dB before, {after:.2f} dB after |
| started from weights with SHA-256 | `{weights}` |
| code | adaptsr {version}, {code} |

## Scores

{scores}

## Files

{files}

## Licences

{licences}

They hold for this model too: see that they allow what you do with it before you hand it on.

## Again

`record.json` says all that made it; {again}:

```
{command}
```
"""


def export_run(
    folder: Path,
    out: Path,
    name: str | None = None,
    folders: Sequence[Path] = (FOLDER,),
    *,
    onnx: bool = False,
    command: str | None = None,
) -> Exported:
    """Write a run's weights (.safetensors, .pth), `README.md`, `openmodeldb.json` and `record.json`.

    name: of the model, by default its profile's. folders: where the baseline files are. onnx: write ONNX too. command: makes the
    run again; by default the one that trains it with its profile. Raises `UserError` for a folder with a README of its own.
    """
    if name and Path(name).name != name:
        raise UserError(f"--name {name}: expected the name of a model, without folders")
    record = sound_record(folder)
    card, entry, copied = out / "README.md", out / "openmodeldb.json", out / "record.json"
    if card.exists() and not entry.exists():
        raise UserError(f"{card}: is not of an exported model and would be overwritten; name another folder")
    scale = int(record.config["scale"])
    stem = f"{scale}x_{name or record.profile}"
    weights = [out / f"{stem}{suffix}" for suffix in (".safetensors", ".pth")]
    for path in weights:
        write_merged(folder, path, folders)
    model = build_from_file(weights[0])  # what cannot be loaded again is not handed on
    others, notes = _other_forms(model, out, stem)
    if onnx:
        written = write_onnx(model, out, stem)
        others += written.paths
        notes[" ".join(f"`{path.name}`" for path in written.paths)] = written.text
    with files.atomic_write(card) as temporary:
        temporary.write_text(_card(record, stem, type(model).__name__, notes, command), encoding="utf-8")
    files.write_json(entry, _entry(record, stem, type(model).__name__, weights[1]))
    record.write(copied)
    return Exported([*weights, *others, card, entry, copied], list(notes.values()))


@dataclass(frozen=True)
class Exported:
    """The files that were written, and what is to be said about them."""

    paths: list[Path]
    notes: list[str]


def _other_forms(model: nn.Module, out: Path, stem: str) -> tuple[list[Path], dict[str, str]]:
    """Write a model that spandrel does not know in a form that it loads, if there is one; return the files and a note on each."""
    form = for_spandrel(model)
    weights = f"`{stem}.safetensors` `{stem}.pth`"
    if form is None:
        return [], {weights: "the same weights, under the keys of the file that it started from"}
    path = out / f"{stem}_spandrel.safetensors"
    save_tensors(path, form, {"of": stem})
    loaded = build_from_file(path)
    image = torch.rand(1, CHANNELS[0], 48, 40, generator=generator("export"))
    difference = 255 * float((enlarge(loaded, image) - enlarge(model, image)).abs().max())
    if not difference <= _SAME:  # NaN too
        path.unlink()
        return [], {weights: f"{type(model).__name__}, which spandrel does not load: use adaptsr, basicsr or ONNX"}
    return [path], {
        weights: f"under the keys of the file that it started from; spandrel has no {type(model).__name__}",
        f"`{path.name}`": f"the same model as {type(loaded).__name__}, which spandrel loads; they differ by at most "
        f"{difference:.4f} levels of 255",
    }


def _description(record: RunRecord) -> str:
    name = record.config["backbone"].get("title") or record.backbone
    return f"{name}, adapted to the training pairs of profile {record.profile} with {record.title}."


def _card(record: RunRecord, stem: str, architecture: str, notes: Mapping[str, str], command: str | None) -> str:
    training = record.config["training"]
    row = f"{record.baseline}/{record.variant}"
    trains = f"adaptsr train --profile PROFILE --backbone {record.backbone} --variant {row} --seeds {record.seed}"
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
        lr=training["lr"],
        seed=record.seed,
        before=record.start_psnr_y,
        after=record.kept.psnr_y if record.kept else record.start_psnr_y,
        weights=record.inputs.weights if record.inputs else "unknown",
        version=__version__,
        code=record.provenance.code_version,
        scores="\n".join(_scores(record)),
        files="\n".join(f"- {names}: {note}" for names, note in notes.items()),
        licences="\n".join(_licences(record)),
        again="this command makes it again" if command else "with the profile's file, this command makes it again",
        command=command or trains,
    )


def _scores(record: RunRecord) -> Iterator[str]:
    """Yield the lines of a table of what the profile's report measured of this row, with intervals."""
    path = Path("reports") / record.profile / "significance.csv"
    row = f"{record.baseline}/{record.variant}"
    lines = []
    if path.is_file():
        with path.open(newline="", encoding="utf-8") as file:
            lines = [line for line in csv.DictReader(file) if (line["row"], line["backbone"]) == (row, record.backbone)]
    if not lines:
        yield f"Not reported yet: the report of profile {record.profile} measures test images, with intervals."
        return
    yield "| test data | metric | this row | compared with | difference | 95% interval | images, seeds |"
    yield "|---|---|---|---|---|---|---|"
    for line in lines:
        scope = "scenes" if line["low_scenes"] else "seeds"
        interval = f"{_number(line[f'low_{scope}'])} to {_number(line[f'high_{scope}'])}, for other {_SCOPES[scope]}"
        yield (
            f"| {line['dataset']} | {line['metric']} | {_number(line['row_mean'])} | {line['compared_with']}: "
            f"{_number(line['compared_mean'])} | {_number(line['difference'])} | {interval if line[f'low_{scope}'] else '-'} "
            f"| {line['images']}, {line['seeds']} |"
        )
    yield ""
    yield "Means over all seeds of the profile; this model is one of them."


_SCOPES = {"scenes": "seeds and scenes", "seeds": "seeds on these images"}


def _number(text: str) -> str:
    return f"{float(text):.4g}" if text else "-"


def _licences(record: RunRecord) -> Iterator[str]:
    """Yield what is known of the licences of images and weights."""
    for name, described in record.config.get("sources", {}).items():
        yield f"- images, {name}: {described['source']}; licence: {described['licence']}"
    given = record.config["backbone"].get("weights")
    known = read_catalogue().weights.get(given or "")
    yield f"- weights it started from, {Path(given or 'none').name}: licence: {known.licence if known else 'not stated'}"


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
