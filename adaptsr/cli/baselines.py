"""Commands of method authors: `check-baseline` and `stability`."""

from __future__ import annotations

import argparse

from adaptsr.cli.common import Commands, known_backbone, load_matrix, progress, project_path, with_profile
from adaptsr.errors import UserError


def add(commands: Commands) -> None:
    check = commands.add_parser("check-baseline", help="check that a baseline file keeps the contract")
    check.add_argument("file", type=project_path, metavar="FILE")
    check.set_defaults(command=_check_baseline)

    stability = with_profile(
        commands.add_parser("stability", help="measure how well importance scores of mini-batches agree")
    )
    stability.add_argument("--backbone", required=True)
    stability.add_argument("--score", default="gradient", help="gradient (default), fisher, activation, snip or random")
    stability.add_argument("--batches", type=int, default=50, metavar="N")
    stability.set_defaults(command=_stability)


def _check_baseline(parsed: argparse.Namespace) -> int:
    from adaptsr.adaptation.contract.run import check_baseline

    results = check_baseline(parsed.file, progress)
    failed = [result for result in results if result.status == "failed"]
    for result in failed:
        print(result)
    counts = {status: sum(result.status == status for result in results) for status in ("passed", "failed", "skipped")}
    print(", ".join(f"{number} {status}" for status, number in counts.items()))
    return 1 if failed else 0


def _stability(parsed: argparse.Namespace) -> None:
    if parsed.batches < 2:
        raise UserError(f"--batches {parsed.batches}: expected at least 2, to compare them with each other")
    matrix = load_matrix(parsed, weights=True)
    backbone = known_backbone(matrix, parsed.backbone)

    from adaptsr.training.stability import as_text, measure

    print(as_text(measure(matrix, backbone, parsed.score, parsed.batches)))
