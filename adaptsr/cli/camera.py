"""Commands for the pairs of a camera: `pairs check`, `pairs align` and `adapt`."""

from __future__ import annotations

import argparse
import math
import os
from pathlib import Path

from adaptsr.cli.common import (
    Commands,
    baseline_folders,
    name_or_path,
    progress,
    project_path,
    user_path,
    with_baselines,
)
from adaptsr.errors import UserError

METHOD = "rank_aware/gradient"
PROFILE = Path("config/pilot.yaml")
MINUTES = 15.0


def add(commands: Commands) -> None:
    pairs = commands.add_parser("pairs", help="LR/HR pairs of a camera").add_subparsers(
        metavar="COMMAND", required=True
    )
    check = pairs.add_parser("check", help="measure shift, exposure and blur of every pair, and show the worst")
    check.add_argument(
        "-o", "--out", type=user_path, default=Path("reports/pairs"), metavar="DIR", help="default: reports/pairs"
    )
    check.set_defaults(command=_check)
    align = pairs.add_parser("align", help="lay every HR image on its LR image and drop pairs that do not fit")
    align.add_argument("-o", "--out", type=user_path, required=True, metavar="DIR")
    align.set_defaults(command=_align)
    for command in (check, align):
        command.add_argument("lr", type=project_path, metavar="LR", help="folder of LR images")
        command.add_argument("hr", type=project_path, metavar="HR", help="folder of HR images of the same names")
        command.add_argument(
            "--scale", type=_scale, metavar="N", help="default: the ratio of sizes that most pairs have"
        )

    adapt = with_baselines(commands.add_parser("adapt", help="adapt a model to the pairs of a camera, with a report"))
    given = adapt.add_mutually_exclusive_group(required=True)
    given.add_argument("--pairs", type=project_path, metavar="DIR", help="folder that holds lr/ and hr/")
    given.add_argument("--photographs", type=project_path, metavar="DIR", help="HR alone; LR is made by --degradation")
    adapt.add_argument(
        "--degradation",
        nargs="*",
        metavar="NAME=LOW-HIGH",
        help="ranges of Real-ESRGAN's degradation, such as blur_sigma=0.2-1.5 jpeg_quality=60-95; default: as published",
    )
    adapt.add_argument("--weights", type=name_or_path, required=True, metavar="MODEL", help="a checkpoint")
    adapt.add_argument("-o", "--out", required=True, metavar="NAME", help="name of results/NAME and reports/NAME")
    adapt.add_argument("--method", default=METHOD, metavar="ROW", help=f"default: {METHOD}")
    adapt.add_argument("--iterations", type=int, metavar="N", help="default: as many as fit into --minutes")
    adapt.add_argument(
        "--minutes", type=float, default=MINUTES, metavar="M", help=f"for tuning and training; default: {MINUTES:g}"
    )
    adapt.add_argument(
        "--profile",
        type=project_path,
        default=PROFILE,
        metavar="FILE",
        help=f"its schedule and metrics are used; default: {PROFILE}",
    )
    adapt.add_argument("--cores", type=int, default=os.cpu_count() or 1, metavar="N", help="default: all")
    adapt.add_argument("--device", choices=["auto", "cpu", "cuda", "mps"], default="auto", help="mps is untested")
    adapt.set_defaults(command=_adapt)


def _scale(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, found {text!r}")
    return int(text)


def _check(parsed: argparse.Namespace) -> None:
    from adaptsr.camera.folders import check_folders

    print("\n".join(check_folders(parsed.lr, parsed.hr, parsed.out, parsed.scale, progress).verdict))
    print(f"{parsed.out / 'index.html'} shows all pairs, and pictures of the worst")


def _align(parsed: argparse.Namespace) -> None:
    from adaptsr.camera.folders import align_folders

    print("\n".join(align_folders(parsed.lr, parsed.hr, parsed.out, parsed.scale, progress).verdict))


def _adapt(parsed: argparse.Namespace) -> None:
    for option in ("iterations", "minutes", "cores"):
        if (value := getattr(parsed, option)) is not None and not 0 < value < math.inf:
            raise UserError(f"--{option} {value}: expected a number above 0")

    if parsed.degradation is not None and not parsed.photographs:
        raise UserError("--degradation: pairs have LR already; give HR alone with --photographs DIR")

    from adaptsr.camera.adapting import Request, adapt, degradation_of, degradation_text

    degradation = degradation_of(parsed.degradation or []) if parsed.photographs else None
    if degradation:
        progress(degradation_text(degradation))
    request = Request(
        name=parsed.out,
        source=parsed.photographs or parsed.pairs,
        degradation=degradation,
        weights=parsed.weights,
        method=parsed.method,
        iterations=parsed.iterations,
        minutes=parsed.minutes,
        cores=parsed.cores,
        device=parsed.device,
        template=parsed.profile,
        baselines=tuple(baseline_folders(parsed)),
    )
    adapted = adapt(request, progress)
    print(adapted.summary.gain)
    print(
        f"{adapted.folder} holds the adapted model; {adapted.summary.page.name} in it shows before and after, "
        f"reports/{parsed.out}/index.html all measurements"
    )
