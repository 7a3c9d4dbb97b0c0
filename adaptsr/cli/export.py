"""The commands `merge` and `export`: take a run's model away."""

from __future__ import annotations

import argparse

from adaptsr.cli.common import Commands, baseline_folders, progress, project_path, user_path, with_baselines


def add(commands: Commands) -> None:
    merge = with_baselines(
        commands.add_parser("merge", help="write the adapted backbone of a run as a checkpoint of its architecture")
    )
    merge.add_argument(
        "run", type=project_path, metavar="RUN", help="folder of a finished run, results/<profile>/<backbone>/..."
    )
    merge.add_argument("-o", "--out", type=user_path, required=True, metavar="FILE", help=".safetensors or .pth")
    merge.set_defaults(command=_merge)

    export = with_baselines(
        commands.add_parser("export", help="write a run's model for others: weights, a card, and OpenModelDB's entry")
    )
    export.add_argument("run", type=project_path, metavar="RUN", help="folder of a finished run")
    export.add_argument("-o", "--out", type=user_path, required=True, metavar="DIR")
    export.add_argument("--name", metavar="NAME", help="of the model; default: that of its profile")
    export.add_argument("--onnx", action="store_true", help="write ONNX too, compared with onnxruntime (extra `onnx`)")
    export.set_defaults(command=_export)


def _merge(parsed: argparse.Namespace) -> None:
    from adaptsr.runs.loading import write_merged

    write_merged(parsed.run, parsed.out, baseline_folders(parsed))


def _export(parsed: argparse.Namespace) -> None:
    from adaptsr.runs.exporting import export_run

    exported = export_run(parsed.run, parsed.out, parsed.name, baseline_folders(parsed), onnx=parsed.onnx)
    for note in exported.notes:
        progress(note)
    for path in exported.paths:
        print(path)
