"""Commands that train: `train`, `tune` and `pretrain`."""

from __future__ import annotations

import argparse
import sys

from adaptsr import files
from adaptsr.cli.common import Commands, known, known_backbone, load_matrix, progress, user_path, with_profile


def add(commands: Commands) -> None:
    train = with_profile(commands.add_parser("train", help="train the missing runs of one variant"))
    train.add_argument("--backbone", required=True)
    train.add_argument("--variant", required=True, metavar="BASELINE/VARIANT")
    train.add_argument("--seeds", type=int, nargs="+", help="default: the profile's")
    train.add_argument("--out", type=user_path, metavar="FILE", help="write the list of runs to this file")
    train.set_defaults(command=_train)

    tune = with_profile(commands.add_parser("tune", help="choose a variant's options on the validation split"))
    tune.add_argument("--backbone", required=True)
    tune.add_argument("--variant", required=True, metavar="BASELINE/VARIANT")
    tune.add_argument("--out", type=user_path, required=True, metavar="FILE", help="write the choice to this file")
    tune.set_defaults(command=_tune)

    pretrain = with_profile(commands.add_parser("pretrain", help="train one of the demo's backbones from scratch"))
    pretrain.add_argument("--backbone", required=True)
    pretrain.add_argument("--out", type=user_path, required=True, metavar="FILE")
    pretrain.set_defaults(command=_pretrain)


def _train(parsed: argparse.Namespace) -> int:
    matrix = load_matrix(parsed, weights=True)
    backbone, row = known_backbone(matrix, parsed.backbone), matrix.variant(parsed.variant).row

    from adaptsr.training.termination import Terminated
    from adaptsr.training.train_runs import ensure_runs

    try:
        runs = ensure_runs(matrix, backbone, row, parsed.seeds or matrix.profile.seeds, progress)
    except Terminated as stop:
        print(f"adaptsr: {stop}", file=sys.stderr)
        return 143
    if parsed.out:
        files.write_json(parsed.out, {"backbone": backbone, "row": row, "runs": runs})
    return 0


def _tune(parsed: argparse.Namespace) -> int:
    matrix = load_matrix(parsed, weights=True)
    backbone = known_backbone(matrix, parsed.backbone)
    row = known(matrix, "row", parsed.variant, [row.name for row in matrix.rows_on(backbone) if row.trained])

    from adaptsr.training.termination import Terminated
    from adaptsr.tuning.tune import choice_here, tune

    if made := choice_here(matrix, backbone, row, parsed.out):
        made.write(parsed.out)  # newer than what it follows from
        return 0
    try:
        tune(matrix, backbone, row, progress).write(parsed.out)
    except Terminated as stop:
        print(f"adaptsr: {stop}", file=sys.stderr)
        return 143
    return 0


def _pretrain(parsed: argparse.Namespace) -> None:
    matrix = load_matrix(parsed)
    backbone = known_backbone(matrix, parsed.backbone)

    from adaptsr.training.pretraining import pretrain

    pretrain(matrix, backbone, parsed.out, progress)
