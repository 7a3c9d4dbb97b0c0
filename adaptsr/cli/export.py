"""The command `merge`: take a run's model away."""

from __future__ import annotations

import argparse

from adaptsr.cli.common import Commands, baseline_folders, project_path, user_path, with_baselines


def add(commands: Commands) -> None:
    merge = with_baselines(
        commands.add_parser("merge", help="write the adapted backbone of a run as a checkpoint of its architecture")
    )
    merge.add_argument(
        "run", type=project_path, metavar="RUN", help="folder of a finished run, results/<profile>/<backbone>/..."
    )
    merge.add_argument("-o", "--out", type=user_path, required=True, metavar="FILE", help=".safetensors or .pth")
    merge.set_defaults(command=_merge)


def _merge(parsed: argparse.Namespace) -> None:
    from adaptsr.runs.loading import write_merged

    write_merged(parsed.run, parsed.out, baseline_folders(parsed))
