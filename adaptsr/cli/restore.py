"""The command `restore`."""

from __future__ import annotations

import argparse

from adaptsr.cli.common import Commands, baseline_folders, progress, project_path, user_path, with_baselines
from adaptsr.errors import raise_all


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


def _restore(parsed: argparse.Namespace) -> None:
    import os

    from adaptsr.config.schema import Compute
    from adaptsr.devices import prepare_device
    from adaptsr.restoring.folders import restore_photographs
    from adaptsr.restoring.models import load_restorer
    from adaptsr.restoring.page import write_comparison

    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    device = prepare_device(Compute(device=parsed.device, threads=threads, deterministic=False))
    restorer = load_restorer(parsed.model, baseline_folders(parsed))
    restorer.model.to(device)
    jobs, problems = restore_photographs(restorer, parsed.photographs, parsed.out, progress)
    if parsed.compare:
        write_comparison(restorer, jobs, parsed.out, progress)
    raise_all("not restored", problems)
