"""Commands that score: `score-runs`, `gather`, `fetch-metric-weights`, `measure-costs` and `score`."""

from __future__ import annotations

import argparse
import json
import sys

from adaptsr import files
from adaptsr.cli.common import (
    Commands,
    baseline_folders,
    known,
    known_backbone,
    load_matrix,
    prepared_device,
    progress,
    project_path,
    user_path,
    with_baselines,
    with_part,
    with_profile,
)
from adaptsr.errors import UserError
from adaptsr.runs.matrix import Matrix, matching

WITH_HR = ("psnr", "ssim", "lpips", "dists")
WITHOUT_HR = ("niqe", "musiq", "maniqa", "clipiqa")


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
    weights.add_argument("--attempt", type=int, default=0, metavar="N", help="number to write with them; default: 0")
    weights.set_defaults(command=_fetch_metric_weights)

    costs = with_profile(
        commands.add_parser("measure-costs", help="measure what restoring an image costs the models of a profile")
    )
    costs.add_argument("--out", type=user_path, required=True, metavar="FILE")
    costs.set_defaults(command=_measure_costs)

    score = commands.add_parser(
        "score", help="score a folder of restored images, from any model, against its HR images or without any"
    )
    images = score.add_mutually_exclusive_group(required=True)
    images.add_argument("--sr", type=user_path, metavar="DIR", help="restored images")
    images.add_argument(
        "--model",
        type=project_path,
        metavar="MODEL_OR_RUN",
        help="with --conventions: what restores LR that is made from HR, by each way of bicubic reduction",
    )
    score.add_argument("--hr", type=user_path, metavar="DIR", help="default: none, with metrics that need no reference")
    score.add_argument(
        "--metrics",
        nargs="+",
        metavar="NAME",
        help=f"metrics of pyiqa; default: {', '.join(WITH_HR)}, or without --hr {', '.join(WITHOUT_HR)}",
    )
    score.add_argument(
        "--crop-border", type=int, default=0, metavar="N", help="pixels to ignore at each border; default: 0"
    )
    score.add_argument("--device", choices=["auto", "cpu", "cuda"], default="cpu", help="default: cpu")
    score.add_argument("--json", action="store_true")
    score.add_argument("--conventions", action="store_true", help="PSNR and SSIM under all conventions in use")
    score.add_argument("--scale", type=int, default=4, metavar="N", help="a border of --conventions; default: 4")
    score.add_argument("--expected", metavar="NUMBER", help="say which convention comes closest to a PSNR or SSIM")
    with_baselines(score)
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


def _measure_costs(parsed: argparse.Namespace) -> None:
    matrix = load_matrix(parsed, weights=True)
    if matrix.profile.report.cost is None:
        raise UserError(f"{matrix.source}: report.cost: missing; it says for which size to measure")

    from adaptsr.scoring.costs import write_costs

    write_costs(matrix, matrix.profile.report.cost, parsed.out)


def _fetch_metric_weights(parsed: argparse.Namespace) -> None:
    matrix = load_matrix(parsed)

    from adaptsr.metrics.weights import attempt_record, fetch_weights

    missing = {**fetch_weights(matrix.profile.scoring), **_fetch_for_objectives(matrix)}
    for name, reason in missing.items():
        progress(f"{name}: {reason}")
    if parsed.out:
        record = attempt_record(matrix.profile.scoring, matrix.objectives, missing, parsed.attempt)
        files.write_json(parsed.out, record)


def _fetch_for_objectives(matrix: Matrix) -> dict[str, str]:
    """Fetch the weights that the losses of the profile's variants need; return what stays missing and may be left out."""
    from adaptsr.metrics.conventions import loss_conventions
    from adaptsr.metrics.weights import fetch_all, loss_column
    from adaptsr.training.objectives import weights_error

    missing = {}
    for objective in matrix.objectives:
        for loss, reason in fetch_all(loss_conventions(objective)).items():
            if objective.missing_weights == "error":
                raise weights_error(loss, reason)
            missing[loss_column(loss)] = reason
    return missing


def _score(parsed: argparse.Namespace) -> None:
    if parsed.crop_border < 0:
        raise UserError(f"--crop-border {parsed.crop_border}: expected a number of pixels of at least 0")
    if parsed.conventions:
        _score_by_conventions(parsed)
        return
    if parsed.model or parsed.expected is not None:
        raise UserError(f"{'--model' if parsed.model else '--expected'}: belongs to --conventions; add it")

    from adaptsr.scoring.folders import as_text, named_scoring, score_folders, standard_scoring

    names = parsed.metrics or (WITHOUT_HR if parsed.hr is None else None)
    scoring = named_scoring(names) if names else standard_scoring()
    scored = score_folders(parsed.sr, parsed.hr, scoring, parsed.crop_border, str(prepared_device(parsed.device)))
    if parsed.json:
        print(json.dumps(scored, indent=1))
        return
    print(as_text(scored))
    for metric, reason in scored["mean"].get("reasons", {}).items():
        print(f"{metric}: {reason}", file=sys.stderr)


def _score_by_conventions(parsed: argparse.Namespace) -> None:
    if parsed.hr is None or parsed.scale < 1:
        raise UserError("--conventions: needs the HR images (--hr DIR) and a scale of at least 1")

    from adaptsr.restoring.models import load_restorer
    from adaptsr.scoring import readings
    from adaptsr.scoring.folders import matched_folders

    found: list[readings.Reading] = []
    if parsed.model:
        restorer = load_restorer(parsed.model, baseline_folders(parsed))
        model = restorer.model.to(prepared_device(parsed.device))
        for name, reduce in readings.REDUCTIONS.items():
            images = readings.restore_folder(model, restorer.scale, parsed.hr, reduce)
            found += readings.read_all(images, restorer.scale, lr=name)
    else:
        found = readings.read_all(readings.read_folders(matched_folders(parsed.sr, parsed.hr)), parsed.scale)
    if parsed.json:
        print(json.dumps(readings.as_json(found, parsed.expected), indent=1))
    else:
        print(readings.as_text(found, parsed.expected))
