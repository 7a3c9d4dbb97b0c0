"""Commands of method authors: `check-baseline` and `stability`."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from adaptsr import files
from adaptsr.cli.common import Commands, known_backbone, load_matrix, progress, project_path, user_path, with_profile
from adaptsr.config import schema
from adaptsr.errors import UserError


def add(commands: Commands) -> None:
    check = commands.add_parser("check-baseline", help="check that a baseline file keeps the contract")
    check.add_argument("file", type=project_path, metavar="FILE")
    check.set_defaults(command=_check_baseline)

    stability = with_profile(
        commands.add_parser("stability", help="measure how well importance scores of mini-batches agree")
    )
    stability.add_argument("--backbone", required=True)
    stability.add_argument("--out", type=user_path, metavar="FILE", help="also write the numbers there, as JSON")
    stability.add_argument("--score", help="gradient, fisher, activation or snip; default: the profile's, or gradient")
    stability.add_argument("--batches", type=int, metavar="N", help="default: the profile's, or 50")
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
    if parsed.batches is not None and parsed.batches < 2:
        raise UserError(f"--batches {parsed.batches}: expected at least 2, to compare them with each other")
    matrix = load_matrix(parsed, weights=True)
    backbone = known_backbone(matrix, parsed.backbone)

    from adaptsr.training.stability import as_text, measure

    given = {"scores": parsed.score and [parsed.score], "batches": parsed.batches}
    changes = {key: value for key, value in given.items() if value is not None}
    found = measure(matrix, backbone, (matrix.profile.stability or schema.Stability()).model_copy(update=changes))
    if parsed.out:
        files.write_json(parsed.out, {"measured": [asdict(one) for one in found]})
    print("\n".join(map(as_text, found)))
