"""The commands of models: `restore` and `cost`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import re

from adaptsr.cli.common import (
    Commands,
    baseline_folders,
    prepared_device,
    progress,
    project_path,
    user_path,
    with_baselines,
)
from adaptsr.errors import UserError, raise_all


def add(commands: Commands) -> None:
    restore = with_baselines(
        commands.add_parser("restore", help="restore photographs with a model or with the adapted backbone of a run")
    )
    restore.add_argument(
        "model", type=project_path, metavar="MODEL_OR_RUN", help="a checkpoint, or the folder of a run"
    )
    restore.add_argument("photographs", type=project_path, nargs="+", metavar="PHOTO", help="files and folders")
    restore.add_argument(
        "-o", "--out", type=user_path, required=True, metavar="DIR", help="folder of restored photographs"
    )
    restore.add_argument("--compare", action="store_true", help="also write DIR/compare.html, with bicubic beside them")
    restore.add_argument("--device", choices=["auto", "cpu", "cuda", "mps"], default="auto", help="mps is untested")
    restore.set_defaults(command=_restore)

    cost = with_baselines(
        commands.add_parser("cost", help="measure what restoring an image costs a model or a run's merged model")
    )
    cost.add_argument("model", type=project_path, metavar="MODEL_OR_RUN", help="a checkpoint, or the folder of a run")
    cost.add_argument("--size", default="256x256", metavar="WxH", help="LR pixels; default: 256x256")
    cost.add_argument("--runs", type=int, default=10, metavar="N", help="runs to time, at least 2; default: 10")
    cost.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="default: auto")
    cost.add_argument("--json", action="store_true")
    cost.set_defaults(command=_cost)


def _cost(parsed: argparse.Namespace) -> None:
    size = re.fullmatch(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", parsed.size)
    if size is None or parsed.runs < 2:
        raise UserError(
            f"--size {parsed.size} --runs {parsed.runs}: expected a size such as 256x256 and at least 2 runs"
        )

    from adaptsr.backbones.costs import as_text, measure_costs
    from adaptsr.restoring.models import load_restorer
    from adaptsr.runs.provenance import device_name

    device = prepared_device(parsed.device)
    restorer = load_restorer(parsed.model, baseline_folders(parsed))
    costs = measure_costs(restorer.model.to(device), int(size[2]), int(size[1]), parsed.runs)
    named = device_name(device)
    if parsed.json:
        print(json.dumps({"model": restorer.name, "device": named, **dataclasses.asdict(costs)}, indent=1))
    else:
        print(f"{'model':<12}{restorer.name}\n{as_text(costs, named)}")


def _restore(parsed: argparse.Namespace) -> None:
    from adaptsr.restoring.folders import restore_photographs
    from adaptsr.restoring.models import load_restorer
    from adaptsr.restoring.page import write_comparison

    device = prepared_device(parsed.device)
    restorer = load_restorer(parsed.model, baseline_folders(parsed))
    restorer.model.to(device)
    jobs, problems = restore_photographs(restorer, parsed.photographs, parsed.out, progress)
    if parsed.compare:
        write_comparison(restorer, jobs, parsed.out, progress)
    raise_all("not restored", problems)
