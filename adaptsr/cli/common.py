"""What commands share: the profile's arguments, the user's paths, names that have to be known, and progress."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from adaptsr.adaptation.baseline_files import FOLDER
from adaptsr.config.reading import load_profile
from adaptsr.errors import UserError, check_known
from adaptsr.exchange.moves import recover
from adaptsr.project import find_root
from adaptsr.runs.matrix import Matrix
from adaptsr.runs.parts import Part, take_part
from adaptsr.runs.validation import check

if TYPE_CHECKING:
    import torch

DEFAULT_PROFILE = "config/demo.yaml"
FULL_SIZE_PROFILE = "config/paper.yaml"

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
"""What `add_subparsers` returns."""


def user_path(text: str) -> Path:
    """Read a path as the user typed it, relative to the working folder, for a command that runs in the root.

    Paths inside the root come out relative to it, as they are typed there, and other paths absolute. In the root itself
    nothing changes.
    """
    folder, path = Path.cwd(), Path(text)
    root = find_root(folder)
    if folder == root:
        return path
    full = folder / path
    return full.relative_to(root) if full.is_relative_to(root) and ".." not in full.parts else full


def project_path(text: str) -> Path:
    """Read the path of a file or folder that exists in the working folder, or else in the root."""
    return user_path(text) if _exists(text) else Path(text)


def name_or_path(text: str) -> str:
    """Read a backbone's name, or the path of a checkpoint, which has a suffix."""
    return str(project_path(text)) if Path(text).suffix else text


def setting(text: str) -> tuple[str, str]:
    """Read `NAME=VALUE`; a value that names a file or folder of the working folder is the user's path."""
    name, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"--set {text}: expected NAME=VALUE")
    in_root = Path.cwd() == find_root(Path.cwd())
    return name, value if in_root or not value or not _exists(value) else str(user_path(value))


def _exists(text: str) -> bool:
    return os.path.exists(text)  # noqa: PTH110 (pathlib raises for a text that is too long for a path)


def with_baselines(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument(
        "--baselines",
        type=user_path,
        action="append",
        default=[],
        metavar="DIR",
        help="a folder of baseline files to use beside baselines/; repeatable",
    )
    return parser


def with_profile(
    parser: argparse.ArgumentParser, default: str | None = DEFAULT_PROFILE, said: str = ""
) -> argparse.ArgumentParser:
    """Add the arguments of a profile; `said` describes the default where it is not one file."""
    parser.add_argument(
        "--profile",
        type=project_path,
        default=Path(default) if default else None,
        metavar="FILE",
        help=f"default: {said or default}",
    )
    parser.add_argument(
        "--set", type=setting, action="append", default=[], metavar="NAME=VALUE", help="a setting the profile asks for"
    )
    return with_baselines(parser)


def with_part(parser: argparse.ArgumentParser, *names: str) -> argparse.ArgumentParser:
    """Add the words that name a part of the matrix; `names` are some of the fields of `Part`, by default all."""
    shown = {
        "backbones": "some of the backbones: names or patterns with `*`, separated by commas",
        "seeds": "some of the seeds, such as 1-2,5",
        "rows": "some of the rows, such as lora/*,rank_aware/*",
    }
    for name in names or Part._fields:
        parser.add_argument(f"--{name}", dest=f"part_{name}", metavar="WORDS", help=shown[name])
    return parser


def part_of(parsed: argparse.Namespace) -> Part:
    """Return the part that a command's words name."""
    return Part(*(getattr(parsed, f"part_{name}", None) for name in Part._fields))


def baseline_folders(parsed: argparse.Namespace) -> list[Path]:
    """Return the checkout's folder of baselines and those given by `--baselines`."""
    return [FOLDER, *parsed.baselines]


def load_matrix(parsed: argparse.Namespace, *, weights: bool = False, settings: bool = True) -> Matrix:
    """Read and check the profile of a command, and take the part of its matrix that the command's words name.

    weights: whether the command needs its weights on this machine. settings: whether it needs the profile's settings.
    """
    profile = load_profile(parsed.profile, dict(parsed.set), partly=not settings)
    matrix = Matrix.of(profile, str(parsed.profile), baseline_folders(parsed))
    check(matrix, weights=weights)
    recover(matrix.results)
    return take_part(matrix, part_of(parsed))


def prepared_device(wanted: Literal["auto", "cpu", "cuda", "mps"]) -> torch.device:
    """Return the device, prepared with a thread for each core that this process may use."""
    from adaptsr.config.schema import Compute
    from adaptsr.devices import prepare_device

    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return prepare_device(Compute(device=wanted, threads=threads, deterministic=False))


def known(matrix: Matrix, kind: str, name: str, names: Collection[str]) -> str:
    """Return a name from the command line. Raises `UserError` if the profile has no such name."""
    return check_known(matrix.source, kind, name, names)


def known_backbone(matrix: Matrix, name: str) -> str:
    return known(matrix, "backbone", name, matrix.profile.backbones)


def progress(line: str) -> None:
    """Print a line on stderr. On a terminal a line that ends in a carriage return stays until the next one."""
    if not sys.stderr.isatty():
        print(line, file=sys.stderr, flush=True)
        return
    shown = line[: shutil.get_terminal_size().columns - 1].rstrip("\r") + "\r" if line.endswith("\r") else f"{line}\n"
    print(f"\r\x1b[2K{shown}", end="", file=sys.stderr, flush=True)
