"""Commands of data sets and weights: `data prepare`, `status`, `fetch` and `verify`."""

from __future__ import annotations

import argparse

from adaptsr.cli.common import Commands, known, load_matrix, with_profile
from adaptsr.data import fetch


def add(commands: Commands) -> None:
    data = commands.add_parser("data", help="data sets").add_subparsers(metavar="COMMAND", required=True)
    prepare = with_profile(data.add_parser("prepare", help="make a dataset of the profile ready"))
    prepare.add_argument("name", metavar="NAME")
    prepare.set_defaults(command=_prepare)
    for name, text in (
        ("status", "show what is present, what is missing, how large, under what licence"),
        ("fetch", "download what is missing and verify it"),
        ("verify", "check sizes and checksums of what is present"),
    ):
        command = data.add_parser(name, help=text)
        command.add_argument(
            "names", nargs="*", metavar="NAME", help="of config/datasets.tsv or config/weights.tsv; default: all"
        )
        command.set_defaults(command=_data, action=name)


def _prepare(parsed: argparse.Namespace) -> None:
    matrix = load_matrix(parsed)
    profile = matrix.profile
    name = known(matrix, "dataset", parsed.name, profile.datasets)

    from adaptsr.data.manifest import manifest_path
    from adaptsr.data.prepare import check_crop, prepare

    manifest = prepare(name, profile.datasets[name], manifest_path(name).parent, profile.scale)
    for source in profile.data.train:
        if source.dataset == name:
            check_crop(manifest, source.split, profile.schedule.crop)


def _data(parsed: argparse.Namespace) -> int:

    action = {"status": fetch.status, "fetch": fetch.fetch, "verify": fetch.verify}[parsed.action]
    states = action(parsed.names)
    print(fetch.as_text(states))
    return 2 if any(state.problem for state in states) else 0
