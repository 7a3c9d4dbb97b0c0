"""Commands for the pairs of a camera: `pairs check` and `pairs align`."""

from __future__ import annotations

import argparse
from pathlib import Path

from adaptsr.cli.common import Commands, progress, project_path, user_path


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
        command.add_argument("--scale", type=int, metavar="N", help="default: the ratio of the first pair's sizes")


def _check(parsed: argparse.Namespace) -> None:
    from adaptsr.pairing.folders import check_folders

    print("\n".join(check_folders(parsed.lr, parsed.hr, parsed.out, parsed.scale, progress).verdict))
    print(f"{parsed.out / 'index.html'} shows all pairs, and pictures of the worst")


def _align(parsed: argparse.Namespace) -> None:
    from adaptsr.pairing.folders import align_folders

    print("\n".join(align_folders(parsed.lr, parsed.hr, parsed.out, parsed.scale, progress).verdict))
