"""The library from the shell: `adaptsr <command>`; `adaptsr --help` lists the commands."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from adaptsr import __version__, files
from adaptsr.config.reading import load_profile
from adaptsr.errors import UserError, listing, suggestion
from adaptsr.runs.matrix import Matrix, matching

DEFAULT_PROFILE = "config/demo.yaml"
FULL_SIZE_PROFILE = "config/paper.yaml"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; a user's mistake ends in one line on stderr and status 2."""
    parsed = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int | None] = parsed.command
    try:
        return command(parsed) or 0
    except UserError as error:
        if parsed.debug:
            raise
        print(f"adaptsr: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # Whoever read our output has closed it; python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="adaptsr", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--version", action="version", version=f"adaptsr {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    train = _with_profile(commands.add_parser("train", help="train the runs of one variant that are not there yet"))
    train.add_argument("--backbone", required=True)
    train.add_argument("--variant", required=True, metavar="BASELINE/VARIANT")
    train.add_argument("--seeds", type=int, nargs="+", help="the profile's without it")
    train.add_argument("--out", type=Path, help="write the list of runs here")
    train.set_defaults(command=_train)

    data = commands.add_parser("data", help="data sets").add_subparsers(metavar="COMMAND", required=True)
    prepare = _with_profile(data.add_parser("prepare", help="make a dataset of the profile ready"))
    prepare.add_argument("name")
    prepare.set_defaults(command=_prepare)
    for name, text in (
        ("status", "what is there, what is missing, how large, under what licence"),
        ("fetch", "download what is missing and verify it"),
        ("verify", "check sizes and checksums of what is there"),
    ):
        command = data.add_parser(name, help=text)
        command.add_argument(
            "names", nargs="*", metavar="NAME", help="of config/datasets.tsv or config/weights.tsv; all without it"
        )
        command.set_defaults(command=_data, action=name)

    pretrain = _with_profile(commands.add_parser("pretrain", help="train one of the demo's backbones from scratch"))
    pretrain.add_argument("--backbone", required=True)
    pretrain.add_argument("--out", type=Path, required=True)
    pretrain.set_defaults(command=_pretrain)

    evaluate = _with_profile(commands.add_parser("evaluate", help="score all runs on one backbone, or all outputs"))
    subject = evaluate.add_mutually_exclusive_group(required=True)
    subject.add_argument("--backbone")
    subject.add_argument("--external", action="store_true", help="the external models")
    evaluate.add_argument("--dataset", required=True, help="the test dataset")
    evaluate.add_argument("--rows", nargs="+", help="rows or patterns with `*`; all without it")
    evaluate.add_argument("--out", type=Path, required=True, help="write the list of what was scored here")
    evaluate.set_defaults(command=_evaluate)

    gather = _with_profile(commands.add_parser("gather", help="put the scores of all runs into one file"))
    gather.add_argument("--out", type=Path, required=True)
    gather.set_defaults(command=_gather)

    weights = _with_profile(
        commands.add_parser("fetch-metric-weights", help="fetch the network weights that metrics need")
    )
    weights.add_argument("--out", type=Path, help="write what is there and what is missing here")
    weights.set_defaults(command=_fetch_metric_weights)

    report = _with_profile(commands.add_parser("report", help="render the report from the scores"))
    report.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="tables of the profile, `significance`, or `index`, the page with everything; `index` without it",
    )
    report.add_argument("--partial", action="store_true", help="show what is there while the rest is still training")
    report.set_defaults(command=_report)

    planned = _with_profile(
        commands.add_parser("plan", help="estimate GPU hours, downloads and disk of a profile"), FULL_SIZE_PROFILE
    )
    planned.add_argument("--json", action="store_true")
    planned.set_defaults(command=_plan)

    score = commands.add_parser(
        "score", help="score a folder of restored images, from any model, against its HR images"
    )
    score.add_argument("--sr", type=Path, required=True, metavar="DIR")
    score.add_argument("--hr", type=Path, required=True, metavar="DIR")
    score.add_argument(
        "--crop-border", type=int, default=0, metavar="N", help="pixels left out at each border; default 0"
    )
    score.add_argument("--device", default="cpu")
    score.add_argument("--json", action="store_true")
    score.set_defaults(command=_score)

    check = commands.add_parser("check-baseline", help="check that a baseline file keeps the contract")
    check.add_argument("file", type=Path, metavar="FILE")
    check.set_defaults(command=_check_baseline)

    audit = commands.add_parser("audit", help="check the paper's numbers and claims by arithmetic")
    audit.add_argument("--paper", default="adaptsr", metavar="NAME", help="a folder of papers/; default: adaptsr")
    audit.add_argument("--json", action="store_true")
    audit.set_defaults(command=_audit)

    audit_page = _with_profile(
        commands.add_parser("audit-page", help="write the audit as a page of a profile's report")
    )
    audit_page.set_defaults(command=_audit_page)

    listed = _with_profile(commands.add_parser("list", help="what a profile can name"), FULL_SIZE_PROFILE)
    listed.add_argument("what", choices=["backbones", "baselines", "datasets"])
    listed.set_defaults(command=_list)

    sites = _with_profile(commands.add_parser("sites", help="sites of a backbone, with their kinds"), FULL_SIZE_PROFILE)
    sites.add_argument("--backbone", required=True, metavar="NAME_OR_FILE")
    sites.set_defaults(command=_sites)

    params = _with_profile(commands.add_parser("params", help="count the parameters of a variant"), FULL_SIZE_PROFILE)
    params.add_argument("--backbone", required=True, metavar="NAME_OR_FILE")
    params.add_argument("--variant", required=True, metavar="BASELINE/VARIANT")
    params.add_argument("--json", action="store_true")
    params.set_defaults(command=_params)

    stability = _with_profile(commands.add_parser("stability", help="how well importance scores of mini-batches agree"))
    stability.add_argument("--backbone", required=True)
    stability.add_argument("--score", default="gradient", help="gradient (default), fisher, activation, snip or random")
    stability.add_argument("--batches", type=int, default=50, metavar="N")
    stability.set_defaults(command=_stability)

    merge = commands.add_parser("merge", help="write the adapted backbone of a run as a checkpoint of its architecture")
    merge.add_argument(
        "run", type=Path, metavar="RUN", help="folder of a finished run, results/<profile>/<backbone>/..."
    )
    merge.add_argument("-o", "--out", type=Path, required=True, metavar="FILE", help=".safetensors or .pth")
    merge.set_defaults(command=_merge)
    return parser


def _with_profile(parser: argparse.ArgumentParser, default: str = DEFAULT_PROFILE) -> argparse.ArgumentParser:
    parser.add_argument("--profile", type=Path, default=Path(default), help=f"default: {default}")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a setting the profile asks for"
    )
    return parser


def load_matrix(parsed: argparse.Namespace) -> Matrix:
    settings = {}
    for item in parsed.set:
        name, equals, value = item.partition("=")
        if not equals:
            raise UserError(f"--set {item}: NAME=VALUE was expected")
        settings[name] = value
    return Matrix.of(load_profile(parsed.profile, settings), str(parsed.profile))


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _known_backbone(matrix: Matrix, name: str) -> str:
    if name not in matrix.profile.backbones:
        known = matrix.profile.backbones
        raise UserError(
            f"--backbone {name}: no such backbone in {matrix.source}{suggestion(name, known)}; there are {listing(known)}"
        )
    return name


def _train(parsed: argparse.Namespace) -> int:
    from adaptsr.training.termination import Terminated
    from adaptsr.training.train_runs import ensure_runs

    matrix = load_matrix(parsed)
    seeds = parsed.seeds or matrix.profile.seeds
    try:
        runs = ensure_runs(matrix, _known_backbone(matrix, parsed.backbone), parsed.variant, seeds, _progress)
    except Terminated as stop:
        print(f"adaptsr: {stop}", file=sys.stderr)
        return 143
    if parsed.out:
        files.write_json(parsed.out, {"backbone": parsed.backbone, "row": parsed.variant, "runs": runs})
    return 0


def _prepare(parsed: argparse.Namespace) -> None:
    from adaptsr.data.manifest import manifest_path

    profile = load_matrix(parsed).profile
    if parsed.name not in profile.datasets:
        raise UserError(
            f"{parsed.profile}: no dataset {parsed.name!r}{suggestion(parsed.name, profile.datasets)}; there are {listing(profile.datasets)}"
        )

    from adaptsr.data.prepare import prepare

    prepare(parsed.name, profile.datasets[parsed.name], manifest_path(parsed.name).parent, profile.scale)


def _data(parsed: argparse.Namespace) -> int:
    from adaptsr.data import fetch

    action = {"status": fetch.status, "fetch": fetch.fetch, "verify": fetch.verify}[parsed.action]
    states = action(parsed.names)
    print(fetch.as_text(states))
    return 2 if any(state.problem for state in states) else 0


def _pretrain(parsed: argparse.Namespace) -> None:
    from adaptsr.training.pretraining import pretrain

    matrix = load_matrix(parsed)
    pretrain(matrix, _known_backbone(matrix, parsed.backbone), parsed.out, _progress)


def _evaluate(parsed: argparse.Namespace) -> None:
    from adaptsr.scoring.score_runs import score_block

    matrix = load_matrix(parsed)
    backbone = None if parsed.external else _known_backbone(matrix, parsed.backbone)
    tests = {test.dataset: test for test in matrix.tests}
    if parsed.dataset not in tests:
        raise UserError(
            f"--dataset {parsed.dataset}: no such test dataset in {matrix.source}{suggestion(parsed.dataset, tests)}; there are {listing(tests)}"
        )
    rows = matching(matrix.rows_on(backbone), parsed.rows) if parsed.rows else matrix.rows_on(backbone)
    score_block(matrix, backbone, tests[parsed.dataset], rows, parsed.out, _progress)


def _gather(parsed: argparse.Namespace) -> None:
    from adaptsr.scoring.sources import gather

    gather(load_matrix(parsed), parsed.out)


def _fetch_metric_weights(parsed: argparse.Namespace) -> None:
    from adaptsr.metrics.weights import fetch_weights

    missing = fetch_weights(load_matrix(parsed).profile.scoring)
    for metric, reason in missing.items():
        _progress(f"{metric}: {reason}")
    if parsed.out:
        files.write_json(parsed.out, {"missing": missing})


def _report(parsed: argparse.Namespace) -> None:
    from adaptsr.reporting.page import write_report
    from adaptsr.reporting.results import read_results
    from adaptsr.reporting.significance import compare_rows, write_significance
    from adaptsr.reporting.tables import build_table, write_table

    matrix = load_matrix(parsed)
    known = ["index", "significance", *matrix.profile.report.tables]
    names = parsed.names or ["index"]
    for name in names:
        if name not in known:
            raise UserError(
                f"report {name}: no such report in {matrix.source}{suggestion(name, known)}; there are {listing(known)}"
            )
    results = read_results(matrix.profile, matrix.rows, matrix.matches(), matrix.results, partial=parsed.partial)
    for name in ["index"] if parsed.partial else names:
        if name == "index":
            write_report(results, matrix.reports, shlex.join(_report_command(parsed)))
        elif name == "significance":
            write_significance(results, compare_rows(results), matrix.reports)
        else:
            write_table(build_table(results, name), matrix.reports)


def _report_command(parsed: argparse.Namespace) -> list[str]:
    """What remakes the page, as it is typed."""
    settings = [word for item in parsed.set for word in ("--set", item)]
    partial = ["--partial"] if parsed.partial else []
    return ["adaptsr", "report", "--profile", str(parsed.profile), *settings, *partial]


def _plan(parsed: argparse.Namespace) -> None:
    from adaptsr.runs import estimate

    made = estimate.estimate(load_matrix(parsed))
    print(json.dumps(estimate.to_json(made), indent=1) if parsed.json else estimate.to_text(made).rstrip())


def _score(parsed: argparse.Namespace) -> None:
    from adaptsr.scoring.folders import score_folders, standard_scoring

    if parsed.crop_border < 0:
        raise UserError(f"--crop-border {parsed.crop_border}: a number of pixels of at least 0 was expected")
    scored = score_folders(parsed.sr, parsed.hr, standard_scoring(), parsed.crop_border, parsed.device)
    if parsed.json:
        print(json.dumps(scored, indent=1))
        return
    metrics = [metric for metric in scored["mean"] if metric != "reasons"]
    width = max(len("mean"), *(len(image["name"]) for image in scored["images"]))
    print(f"{'image':<{width}}  " + "  ".join(f"{metric:>9}" for metric in metrics))
    for image in [*scored["images"], {"name": "mean", **scored["mean"]}]:
        values = (image[metric] for metric in metrics)
        print(
            f"{image['name']:<{width}}  "
            + "  ".join(f"{value:>9.4f}" if value is not None else f"{'-':>9}" for value in values)
        )
    for metric, reason in scored["mean"].get("reasons", {}).items():
        print(f"{metric}: {reason}", file=sys.stderr)


def _check_baseline(parsed: argparse.Namespace) -> int:
    from adaptsr.adaptation.contract.run import check_baseline

    results = check_baseline(parsed.file, _progress)
    failed = [result for result in results if result.status == "failed"]
    for result in failed:
        print(result)
    counts = {status: sum(result.status == status for result in results) for status in ("passed", "failed", "skipped")}
    print(", ".join(f"{number} {status}" for status, number in counts.items()))
    return 1 if failed else 0


def _audit(parsed: argparse.Namespace) -> None:
    from adaptsr.papers import load_paper

    audit = load_paper(parsed.paper).audit()
    print(json.dumps(audit.to_json(), indent=1) if parsed.json else audit.text().rstrip())


def _audit_page(parsed: argparse.Namespace) -> None:
    from adaptsr.papers import load_paper

    matrix = load_matrix(parsed)
    profile = matrix.profile
    if profile.paper is None:
        raise UserError(
            f"{matrix.source}: paper: this profile names no paper to audit; add `paper: <folder of papers/>`"
        )
    load_paper(profile.paper).audit().write_page(profile.name, profile.title, matrix.reports / "audit.html")


def _list(parsed: argparse.Namespace) -> None:
    from adaptsr.adaptation.baseline_files import defined_variants

    matrix = load_matrix(parsed)
    if parsed.what == "backbones":
        for name, backbone in matrix.profile.backbones.items():
            print(f"{name:<12} {backbone.architecture:<10} {backbone.title or ''}")
    elif parsed.what == "datasets":
        for name, dataset in matrix.profile.datasets.items():
            print(f"{name:<16} {dataset.kind}")
    else:
        for name, file in matrix.baselines.items():
            print(f"{name}: {file.summary}\n  trains {file.trains}")
            for variant in defined_variants(file, matrix.profile.baselines.get(name)):
                row = f"{name}/{variant}"
                print(f"  {row:<34} {matrix.variant(row).title}")


def _sites(parsed: argparse.Namespace) -> None:
    from adaptsr.runs.backbones import backbone_and_sites

    _, sites = backbone_and_sites(load_matrix(parsed), parsed.backbone)
    for site in sites:
        marks = [
            *(["feeds a pixel shuffle"] if site.upsampling else []),
            *([f"{site.groups} groups"] if site.grouped else []),
        ]
        shape = "x".join(map(str, site.shape))
        print(
            f"{site.name:<52} {site.kind:<10} {shape:<16} {'bias' if site.bias else '-':<5} {', '.join(marks)}".rstrip()
        )
    print(
        "A wrong kind is corrected in the profile, backbones.<name>.kinds: {<site or pattern>: conv | attention | mlp | skip}",
        file=sys.stderr,
    )


def _params(parsed: argparse.Namespace) -> None:
    import dataclasses

    from adaptsr.adaptation.counting import count
    from adaptsr.runs.backbones import backbone_and_sites

    matrix = load_matrix(parsed)
    model, sites = backbone_and_sites(matrix, parsed.backbone)
    counted = count(model, sites, matrix.variant(parsed.variant), matrix.profile.scale, parsed.backbone)
    if parsed.json:
        print(json.dumps(dataclasses.asdict(counted), indent=1))
        return
    print(f"{counted.row} on {counted.backbone}")
    print(f"  total      {counted.total:>12,}")
    print(f"  trainable  {counted.trainable:>12,}  ({100 * counted.trainable / counted.total:.2f}% of the total)")
    print(f"  merged     {counted.merged_total:>12,}")
    for kind, number in counted.by_kind.items():
        print(f"  trainable, {kind:<10} {number:>11,}")
    if counted.left_out:
        print(f"  untouched sites: {', '.join(counted.left_out)}")


def _stability(parsed: argparse.Namespace) -> None:
    from adaptsr.adaptation.allocation import importance, rank_correlation
    from adaptsr.backbones.sites import select
    from adaptsr.training.context import TrainingContext

    if parsed.batches < 2:
        raise UserError(
            f"--batches {parsed.batches}: at least 2 were expected, since they are compared with each other"
        )
    matrix = load_matrix(parsed)
    bench = TrainingContext.of(matrix, _known_backbone(matrix, parsed.backbone))
    calibration, sites = bench.calibration(matrix.profile.training, matrix.profile.seeds[0]), select(bench.sites)

    def scores_of(index: int) -> dict[str, float]:
        return importance(bench.fresh_backbone(), sites, parsed.score, lambda _: calibration(index), 1, seed=index)

    vectors = [scores_of(index) for index in range(parsed.batches)]
    agreement = rank_correlation(vectors)
    print(
        f"Spearman correlation of {parsed.score} scores at {len(sites)} sites of {parsed.backbone}, {parsed.batches} mini-batches"
    )
    print(f"  mean over all pairs      {agreement['pairwise']:.3f}   (the paper says 0.91, not of which)")
    print(f"  mean against the mean    {agreement['with_mean']:.3f}")
    print(f"  lowest pair              {agreement['minimum']:.3f}")


def _merge(parsed: argparse.Namespace) -> None:
    from adaptsr.runs.loading import write_merged

    write_merged(parsed.run, parsed.out)


if __name__ == "__main__":
    sys.exit(main())
