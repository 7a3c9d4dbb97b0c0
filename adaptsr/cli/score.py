"""Commands that score: `score-runs`, `gather`, `fetch-metric-weights` and `score`."""

from __future__ import annotations

import argparse
import json
import sys

from adaptsr import files
from adaptsr.cli.common import (
    Commands,
    known,
    known_backbone,
    load_matrix,
    progress,
    user_path,
    with_part,
    with_profile,
)
from adaptsr.errors import UserError
from adaptsr.runs.matrix import Matrix, matching


def add(commands: Commands) -> None:
    runs = with_profile(
        commands.add_parser("score-runs", help="score the runs on one backbone, or external models, with test datasets")
    )
    subject = runs.add_mutually_exclusive_group(required=True)
    subject.add_argument("--backbone")
    subject.add_argument("--external", action="store_true", help="the external models")
    runs.add_argument("--dataset", help="the test dataset; default: all of the profile")
    runs.add_argument("--rows", nargs="+", metavar="ROW", help="rows or patterns with `*`; default: all")
    with_part(runs, "seeds")
    runs.add_argument(
        "--out", type=user_path, required=True, metavar="FILE", help="write a list of the runs to this file"
    )
    runs.set_defaults(command=_score_runs)

    gather = with_part(with_profile(commands.add_parser("gather", help="put the scores of all runs into one file")))
    gather.add_argument("--out", type=user_path, required=True, metavar="FILE")
    gather.set_defaults(command=_gather)

    weights = with_profile(
        commands.add_parser("fetch-metric-weights", help="fetch the network weights that metrics and losses need")
    )
    weights.add_argument("--out", type=user_path, metavar="FILE", help="write the missing ones to this file")
    weights.set_defaults(command=_fetch_metric_weights)

    score = commands.add_parser(
        "score", help="score a folder of restored images, from any model, against its HR images"
    )
    score.add_argument("--sr", type=user_path, required=True, metavar="DIR")
    score.add_argument("--hr", type=user_path, required=True, metavar="DIR")
    score.add_argument(
        "--crop-border", type=int, default=0, metavar="N", help="pixels to ignore at each border; default: 0"
    )
    score.add_argument("--device", default="cpu")
    score.add_argument("--json", action="store_true")
    score.set_defaults(command=_score)


def _score_runs(parsed: argparse.Namespace) -> None:
    matrix = load_matrix(parsed, weights=True)
    backbone = None if parsed.external else known_backbone(matrix, parsed.backbone)
    tests = {test.dataset: test for test in matrix.tests}
    chosen = [known(matrix, "test dataset", parsed.dataset, tests)] if parsed.dataset else list(tests)
    rows = matrix.rows_on(backbone)

    from adaptsr.scoring.score_runs import score_block

    rows = matching(rows, parsed.rows) if parsed.rows else rows
    score_block(matrix, backbone, [tests[name] for name in chosen], rows, parsed.out, progress)


def _gather(parsed: argparse.Namespace) -> None:
    matrix = load_matrix(parsed)

    from adaptsr.scoring.gather import gather

    gather(matrix, parsed.out)


def _fetch_metric_weights(parsed: argparse.Namespace) -> None:
    matrix = load_matrix(parsed)

    from adaptsr.metrics.weights import fetch_weights

    missing = fetch_weights(matrix.profile.scoring)
    for name, reason in [*missing.items(), *_fetch_for_objectives(matrix).items()]:
        progress(f"{name}: {reason}")
    if parsed.out:
        files.write_json(parsed.out, {"missing": missing})


def _fetch_for_objectives(matrix: Matrix) -> dict[str, str]:
    """Fetch the weights that the losses of the profile's variants need; return what stays missing and may be left out."""
    from adaptsr.metrics.conventions import loss_conventions
    from adaptsr.metrics.weights import fetch_all
    from adaptsr.training.objectives import weights_error

    missing = {}
    for objective in matrix.objectives:
        for loss, reason in fetch_all(loss_conventions(objective)).items():
            if objective.missing_weights == "error":
                raise weights_error(loss, reason)
            missing[f"the loss {loss}"] = reason
    return missing


def _score(parsed: argparse.Namespace) -> None:
    if parsed.crop_border < 0:
        raise UserError(f"--crop-border {parsed.crop_border}: expected a number of pixels of at least 0")

    from adaptsr.scoring.folders import as_text, score_folders, standard_scoring

    scored = score_folders(parsed.sr, parsed.hr, standard_scoring(), parsed.crop_border, parsed.device)
    if parsed.json:
        print(json.dumps(scored, indent=1))
        return
    print(as_text(scored))
    for metric, reason in scored["mean"].get("reasons", {}).items():
        print(f"{metric}: {reason}", file=sys.stderr)
