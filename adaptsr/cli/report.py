"""Commands that report: `report`, `audit` and `audit-page`."""

from __future__ import annotations

import argparse
import json
import math
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from adaptsr.cli.common import (
    DEFAULT_PROFILE,
    Commands,
    known,
    load_matrix,
    part_of,
    project_path,
    with_part,
    with_profile,
)
from adaptsr.errors import UserError
from adaptsr.runs.matrix import Matrix

WATCH_SECONDS = 2


def add(commands: Commands) -> None:
    said = f"the one that the pack of --results names, or {DEFAULT_PROFILE}"
    report = with_part(
        with_profile(commands.add_parser("report", help="render the report from the scores"), None, said)
    )
    report.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="tables of the profile, `significance`, or `index`, the page with everything; default: index",
    )
    report.add_argument(
        "--results",
        type=project_path,
        metavar="DIR",
        help="a pack of results, its unpacked folder, or a folder of packs: each is reported without its data and weights, into reports/<name>",
    )
    report.add_argument("--partial", action="store_true", help="show what is finished while the rest still trains")
    report.set_defaults(command=_report)

    watch = with_part(with_profile(commands.add_parser("watch", help="show runs in progress, and a partial report")))
    watch.add_argument("--every", type=float, default=60, metavar="SECONDS", help="render the report this often")
    watch.add_argument("--once", action="store_true", help="show the present state once, then end")
    watch.set_defaults(command=_watch, partial=True, results=None)

    audit = commands.add_parser("audit", help="check the paper's numbers and claims by arithmetic")
    audit.add_argument("--paper", default="adaptsr", metavar="NAME", help="a folder of papers/; default: adaptsr")
    audit.add_argument("--json", action="store_true")
    audit.set_defaults(command=_audit)

    page = with_profile(commands.add_parser("audit-page", help="write the audit as a page of a profile's report"))
    page.set_defaults(command=_audit_page)


def _report(parsed: argparse.Namespace) -> None:
    for path in _each(parsed.results):
        with _results_of(path) as folder:
            profile = parsed.profile or _profile_of(path, folder)
            _report_on(argparse.Namespace(**{**vars(parsed), "results": path, "profile": profile}), folder)


def _each(path: Path | None) -> list[Path | None]:
    """Return the packs of a folder of packs, or what a user names otherwise."""
    packs = sorted(path.glob("*.zip")) if path and path.is_dir() else []
    return [*packs] or [path]


def _profile_of(path: Path | None, folder: Path | None) -> Path:
    """Return the profile that a pack was made with, found by its name; the default for other results."""
    from adaptsr.exchange.packs import ABOUT, about_of

    if folder is None or not (folder / ABOUT).is_file():
        return Path(DEFAULT_PROFILE)
    profile = Path("config") / f"{about_of(folder, str(path)).profile}.yaml"
    if not profile.is_file():
        raise UserError(
            f"{path}: made with the profile {profile.stem!r}, but {profile} is missing; name it with --profile"
        )
    return profile


def _report_on(parsed: argparse.Namespace, folder: Path | None) -> None:
    matrix = load_matrix(parsed, settings=folder is None)
    reports = [
        "index",
        "significance",
        *(["stability"] if matrix.profile.stability else []),
        *matrix.profile.report.tables,
    ]
    names = [known(matrix, "report", name, reports) for name in parsed.names or ["index"]]

    if "stability" in names:
        from adaptsr.reporting.stability import write_stability

        write_stability(matrix.profile, matrix.results, matrix.reports)
        names.remove("stability")
        if not names:
            return
    matrix = replace(matrix, folder=folder)
    if folder is not None:
        _refuse_other_folders(parsed, matrix, folder)
    partial = parsed.partial or (folder is not None and not (folder / "scores.parquet").is_file())
    _render(parsed, matrix, names, partial)


def _refuse_other_folders(parsed: argparse.Namespace, matrix: Matrix, folder: Path) -> None:
    """Raise `UserError` for a folder without results, and one whose report would replace that of results of this project."""
    from adaptsr.exchange.packs import ABOUT

    if (
        not (folder / "scores.parquet").is_file()
        and not (folder / ABOUT).is_file()
        and not any(folder.rglob("record.json"))
    ):
        raise UserError(
            f"{parsed.results}: neither a pack nor a folder of results: it has no scores and no records of runs"
        )
    own = Path("results") / matrix.reports.name
    if own.is_dir() and not own.samefile(folder):
        raise UserError(
            f"{parsed.results}: its report would replace {matrix.reports}, that of {own}; give it another name"
        )


def _watch(parsed: argparse.Namespace) -> None:
    """Show a line for each run in progress and one for the matrix, until all are finished or Ctrl-C comes."""
    from adaptsr.runs.running import overview

    matrix = load_matrix(parsed)
    live = sys.stdout.isatty() and not parsed.once
    rendered, shown = -math.inf, 0
    with suppress(KeyboardInterrupt):
        while True:
            ended = all(run.record_path(matrix.results).is_file() for run in matrix.runs if run.trained)
            if ended or time.monotonic() - rendered >= parsed.every:
                _render(parsed, matrix, ["index"], partial=True)
                rendered = time.monotonic()
            lines = overview(matrix)
            print(f"\x1b[{shown}A\x1b[J" if live and shown else "", end="")
            print(*lines, f"The report so far: {matrix.reports / 'index.html'}", sep="\n", flush=True)
            if ended or parsed.once:
                return
            shown = len(lines) + 1
            time.sleep(WATCH_SECONDS if live else parsed.every)


@contextmanager
def _results_of(path: Path | None) -> Iterator[Path | None]:
    """Yield the folder of results: the one that a user names, or a temporary one with what a pack holds."""
    if path is None or path.is_dir():
        yield path
        return

    from adaptsr.exchange.packs import unpacked

    with unpacked(path) as folder:
        yield folder


def _render(parsed: argparse.Namespace, matrix: Matrix, names: Sequence[str], partial: bool) -> None:
    from adaptsr.reporting.page import write_report
    from adaptsr.reporting.results import read_results
    from adaptsr.reporting.significance import compare_rows, write_significance
    from adaptsr.reporting.tables import build_table, write_table

    results = read_results(
        matrix.profile,
        matrix.rows,
        matrix.matches(),
        matrix.results,
        choices=matrix.made_choices(),
        partial=partial,
        selection=matrix.selection,
    )
    for name in ["index"] if partial else names:
        if name == "index":
            write_report(results, matrix.reports, shlex.join(_report_command(parsed)))
        elif name == "significance":
            write_significance(results, compare_rows(results), matrix.reports)
        else:
            write_table(build_table(results, name), matrix.reports)


def _report_command(parsed: argparse.Namespace) -> list[str]:
    """Return the words that make the page again, as they are typed in the root."""
    settings = [word for name, value in parsed.set for word in ("--set", f"{name}={value}")]
    baselines = [word for folder in parsed.baselines for word in ("--baselines", str(folder))]
    partial = ["--partial"] if parsed.partial else []
    words = ["adaptsr", "report", "--profile", str(parsed.profile), *settings, *baselines, *partial]
    words += ["--results", str(parsed.results)] if parsed.results else []
    return [*words, *part_of(parsed).arguments]


def _audit(parsed: argparse.Namespace) -> None:
    from adaptsr.papers import load_paper

    audit = load_paper(parsed.paper).audit()
    print(json.dumps(audit.to_json(), indent=1) if parsed.json else audit.text().rstrip())


def _audit_page(parsed: argparse.Namespace) -> None:
    matrix = load_matrix(parsed)
    profile = matrix.profile
    if profile.paper is None:
        raise UserError(
            f"{matrix.source}: paper: this profile names no paper to audit; add `paper: <folder of papers/>`"
        )

    from adaptsr.papers import load_paper

    load_paper(profile.paper).audit().write_page(profile.name, profile.title, matrix.reports / "audit.html")
