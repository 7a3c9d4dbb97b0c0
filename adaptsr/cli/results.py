"""Commands that put results together: `results pack`, `results merge` and `results check`."""

from __future__ import annotations

import argparse

from adaptsr.cli.common import Commands, load_matrix, progress, project_path, user_path, with_part, with_profile
from adaptsr.errors import printable


def add(commands: Commands) -> None:
    results = commands.add_parser("results", help="pack finished runs, merge packs of others, check one")
    parts = results.add_subparsers(metavar="COMMAND", required=True)

    pack = with_part(
        with_profile(parts.add_parser("pack", help="pack what is finished: records, plans, weights, scores"))
    )
    pack.add_argument("-o", "--out", type=user_path, required=True, metavar="FILE", help="the zip to write")
    pack.add_argument("--by", default="", metavar="NAME", help="who ran it, for reports")
    pack.add_argument("--without-weights", action="store_true", help="leave out the adaptations")
    pack.set_defaults(command=_pack)

    merge = with_profile(parts.add_parser("merge", help="merge packs into results/<profile>, all or nothing"))
    merge.add_argument("packs", type=project_path, nargs="+", metavar="PACK")
    merge.add_argument("--other-code", action="store_true", help="accept runs of several versions of the code")
    merge.set_defaults(command=_merge)

    check = with_profile(parts.add_parser("check", help="redo one run of a pack and compare"))
    check.add_argument("pack", type=project_path, metavar="PACK")
    check.add_argument("--run", metavar="NAME", help="<backbone>/<row>/seed<k>; default: the shortest")
    check.set_defaults(command=_check)


def _pack(parsed: argparse.Namespace) -> None:
    matrix = load_matrix(parsed)

    from adaptsr.exchange.packs import write_pack

    about = write_pack(matrix, parsed.out, weights=not parsed.without_weights, by=parsed.by)
    of = sum(run.trained for run in matrix.runs)
    chosen = f", {len(made)} choices of tuning" if (made := matrix.made_choices()) else ""
    print(
        f"{parsed.out}: {len(about.runs)} of {of} runs{', without weights' if parsed.without_weights else ''}{chosen}"
    )


def _merge(parsed: argparse.Namespace) -> None:
    matrix = load_matrix(parsed)

    from adaptsr.exchange.merge import merge_packs

    merged = merge_packs(matrix, parsed.packs, progress, other_code=parsed.other_code)
    print(f"{matrix.results}: {len(merged.added)} runs added, {len(merged.twice)} were there")


def _check(parsed: argparse.Namespace) -> int:
    matrix = load_matrix(parsed, weights=True)

    from adaptsr.exchange.check import check_pack

    check = check_pack(matrix, parsed.pack, parsed.run, progress)
    print(printable(check.text))
    return 0 if check.passed else 1
