"""The command `estimate`: what a profile costs."""

from __future__ import annotations

import argparse
import json

from adaptsr.cli.common import FULL_SIZE_PROFILE, Commands, load_matrix, with_part, with_profile


def add(commands: Commands) -> None:
    parser = commands.add_parser("estimate", help="estimate GPU hours, downloads and disk of a profile")
    estimate = with_part(with_profile(parser, FULL_SIZE_PROFILE))
    estimate.add_argument(
        "--card", help="a card of config/timings.tsv, whose measured times count; default: the paper's times"
    )
    estimate.add_argument("--gpus", type=int, default=1, help="GPUs that share the hours; default 1")
    estimate.add_argument("--json", action="store_true")
    estimate.set_defaults(command=_estimate)


def _estimate(parsed: argparse.Namespace) -> None:
    from adaptsr.runs import estimate

    made = estimate.estimate(load_matrix(parsed), parsed.card)
    print(json.dumps(estimate.to_json(made), indent=1) if parsed.json else estimate.to_text(made, parsed.gpus).rstrip())
