"""Put the tests of one comparison into sentences that claim no more than the tests carry, each with its family's size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from adaptsr.reporting.metrics import MetricColumn, metric_columns
from adaptsr.reporting.model import correlation_text
from adaptsr.reporting.results import Results
from adaptsr.statistics import ALPHA, EXPLORATORY, PRIMARY, SCOPES, VERDICTS, Comparison
from adaptsr.statistics.comparison import EQUIVALENT, NO_STATEMENT

INCOMPLETE = "no conclusion: the declared family is incomplete"
"""The verdict where runs of a family are left out of a report or still to come."""
ABOUT = {"seeds": "for other seeds on these images", "scenes": "for other seeds and other scenes"}


def describe(results: Results, lines: pd.DataFrame, comparison: Comparison) -> Iterator[str]:
    """Yield the sentences of one comparison from all its lines in the frame of `compare_rows`."""
    if not comparison.rows:
        yield f"This comparison matches no row of this {'part' if results.selection else 'profile'}."
        return
    first, *others = metric_columns(results.profile)
    primary = lines[lines["family"] == PRIMARY]
    yield f"{first.title}, the primary family: {verdicts(primary, first)}."
    if incomplete(lines):
        yield from _pairing(results, primary, comparison)
        return
    if len(results.datasets) > 1:
        for dataset in results.datasets:
            here = primary[primary["dataset"] == dataset]
            if here.empty:  # photographs without HR, where the primary metric compares with it
                continue
            yield f"Of these on {dataset}: {'; '.join(_counted(here, scope, first) for scope in SCOPES)}."
    yield from filter(None, [not_inferior(results, primary, comparison, first)])
    if others:
        explored = lines[lines["family"] == EXPLORATORY]
        parts = [
            f"{metric.title}: {_in_scopes(explored[explored['metric'] == metric.name], metric)}" for metric in others
        ]
        yield f"The other metrics, the exploratory family{family_size(explored)}: {'; '.join(parts)}."
    yield from _pairing(results, primary, comparison)
    yield from power(primary, first)


def verdicts(lines: pd.DataFrame, metric: MetricColumn) -> str:
    """Say how the tests of a whole family came out in each scope, and what was corrected."""
    return no_verdicts(lines) or f"{_in_scopes(lines, metric)}{family_size(lines)}"


def no_verdicts(lines: pd.DataFrame) -> str:
    """Say why a family has no verdicts; empty if it has."""
    if incomplete(lines):
        return INCOMPLETE
    return "no test could be made" if widest_scope(lines) is None else ""


def incomplete(lines: pd.DataFrame) -> bool:
    """Return whether the verdicts of these lines wait for runs of their family."""
    return any(lines[f"verdict_{scope}"].eq(INCOMPLETE).any() for scope in SCOPES)


def family_size(lines: pd.DataFrame, each: str = ", for each scope and question") -> str:
    """Write the number of tests in a family, all its `lines` given, and its correction if there is one."""
    if incomplete(lines):
        return " (incomplete, not corrected)"
    size, unmeasured = len(lines), int(lines["difference"].isna().sum())
    if size < 2 or size == unmeasured:
        return " (one test)" if size > unmeasured else ""
    missing = f", {unmeasured} of them not measured" if unmeasured else ""
    asked = int(lines["margin"].notna().sum())
    fewer = f", {asked} for equivalence" if 0 < asked < size else ""
    return f" (Holm's correction of {size} tests{missing}{fewer}{each})"


def _in_scopes(lines: pd.DataFrame, metric: MetricColumn) -> str:
    if lines["difference"].isna().all():
        return "not measured"
    return "; ".join(_counted(lines, scope, metric) for scope in reversed(SCOPES))


def _counted(lines: pd.DataFrame, scope: str, metric: MetricColumn) -> str:
    """Count the verdicts, such as `for other seeds on these images 2 better, 1 undecided`."""
    found = outcomes(lines, scope, metric)
    if not found:
        return f"no statement {ABOUT[scope]}{why_no_statement(lines, scope)}"
    return f"{ABOUT[scope]} {', '.join(f'{len(those)} {word}{listed([differ(those, scope)])}' for word, those in found.items())}"


def outcomes(lines: pd.DataFrame, scope: str, metric: MetricColumn) -> dict[str, pd.DataFrame]:
    """Sort lines by their verdict within a scope, `not tested` at the end; nothing if none is tested."""
    found = lines[f"verdict_{scope}"]
    if not found.isin(VERDICTS).any():
        return {}
    within = f"{EQUIVALENT} within ±{metric.margin or 0:g}{metric.in_unit}"
    sorted_out = {within if word == EQUIVALENT else word: lines[found == word] for word in VERDICTS}
    sorted_out["not tested"] = lines[~found.isin(VERDICTS)]
    return {word: those for word, those in sorted_out.items() if len(those)}


def differ(lines: pd.DataFrame, scope: str) -> str:
    """Say how many of the lines that are shown to be equivalent are also shown not to be 0; empty if none is."""
    shown = lines[(lines[f"verdict_{scope}"] == EQUIVALENT) & (lines[f"p_holm_{scope}"] < ALPHA)]
    counts = {"lower": (shown["difference"] < 0).sum(), "higher": (shown["difference"] > 0).sum()}
    return ", ".join(f"{count} of them shown to be {word}" for word, count in counts.items() if count)


def why_no_statement(lines: pd.DataFrame, scope: str) -> str:
    """Say what the scenes of the test images lack for a scope to have a statement; empty if it is not about them."""
    reasons = lines[f"verdict_{scope}"].str.extract(rf"^{NO_STATEMENT}: (.*)", expand=False).dropna().unique()
    return f": {'; '.join(reasons)}" if len(reasons) else ""


def listed(parts: Sequence[str], separator: str = "; ") -> str:
    """Write what there is in parentheses, behind a space; empty if there is nothing."""
    there = separator.join(filter(None, parts))
    return f" ({there})" if there else ""


def not_inferior(results: Results, lines: pd.DataFrame, comparison: Comparison, metric: MetricColumn) -> str:
    """Say which rows are shown to lose less than the margin to the row they are compared with; empty without a margin."""
    scope = widest_scope(lines)
    if metric.margin is None or scope is None or incomplete(lines):
        return ""
    titles = results.titles
    tested = lines[lines[f"p_not_inferior_{scope}"].notna()]
    shown = tested[tested[f"p_not_inferior_holm_{scope}"] < ALPHA]
    everywhere = [
        titles[row] for row in comparison.rows if 0 < (lines["row"] == row).sum() == (shown["row"] == row).sum()
    ]
    places = "on every backbone" if lines["dataset"].nunique() == 1 < lines["backbone"].nunique() else "in every test"
    which = f", {places} for {', '.join(everywhere)}" if everywhere and len(comparison.rows) > 1 else ""
    family = family_size(lines, "")[2:-1]
    return (
        f"Shown to be less than {metric.margin:g}{metric.in_unit} worse than {titles[comparison.compared_with]} in {metric.title}, "
        f"{ABOUT[scope]}: {len(shown)} of {len(tested)} tests (non-inferiority, {family}){which}."
    )


def widest_scope(lines: pd.DataFrame) -> str | None:
    """Return the widest scope in which any of the lines is tested."""
    return next((scope for scope in reversed(SCOPES) if lines[f"p_{scope}"].notna().any()), None)


def _pairing(results: Results, lines: pd.DataFrame, comparison: Comparison) -> Iterator[str]:
    """Say how far pairing by seed helps, and which rows do not share the data of the row they are compared with."""
    found = lines["correlation"].dropna()
    if len(found):
        least, median, most = (correlation_text(float(value)) for value in (found.min(), found.median(), found.max()))
        spread = f" in the median (from {least} to {most})" if len(found) > 1 else ""
        metric = metric_columns(results.profile)[0].title
        yield f"Paired means of {metric} correlate over the seeds by {median}{spread}; pairing sharpens a comparison as far as this is above 0."
    titles, reference = results.titles, _data_streams(results, comparison.compared_with)
    other: dict[str, list[str]] = {}
    for row in comparison.rows:
        streams = _data_streams(results, row)
        runs = streams.keys() & reference
        differing = [
            word
            for key, word in DATA_STREAM.items()
            if any(streams[run].get(key) != reference[run].get(key) for run in runs)
        ]
        if differing:
            other.setdefault(", ".join(differing), []).append(titles[row])
    for what, rows in other.items():
        yield f"Pairs of {', '.join(rows)} did not see the same training data as {titles[comparison.compared_with]}: other {what}."


DATA_STREAM = {"iterations": "iterations", "batch_size": "batch", "crop": "crop", "images": "images"}
"""What decides which crops a run saw, besides the seed: keys of `training`, and their words."""


def _data_streams(results: Results, row: str) -> dict[tuple[object, int], dict[str, Any]]:
    """Return the schedules of the runs of a row, by backbone and seed."""
    records = results.records.items()
    return {
        (run.backbone, record.seed): record.config.get("training", {}) for run, record in records if run.variant == row
    }


def power(lines: pd.DataFrame, metric: MetricColumn) -> Iterator[str]:
    """Say what the seeds and scenes of a family can show, in the unit of the metric."""
    scope = widest_scope(lines)
    if scope is None:
        return
    tested = lines[lines[f"p_{scope}"].notna()]
    size, found, unit = len(lines), tested[f"detectable_{scope}"], metric.in_unit
    count = f"{span(tested['seeds'], 'seed')} and {span(tested['scenes'], 'scene')}"
    tests, spread = (
        (f"half of the {len(tested)} tests", f" ({found.min():.2g} to {found.max():.2g})")
        if len(tested) > 1
        else ("the test", "")
    )
    level = f"{ALPHA:.0%}{f'/{size}' if size > 1 else ''}"
    yield (
        f"From the variances seen here, with {count}, {tests} {ABOUT[scope]} would need a true difference above "
        f"{found.median():.2g}{unit}{spread} to be found with 70 to 80% power at level {level}, or a margin above "
        f"{tested[f'provable_margin_{scope}'].median():.2g}{unit} to show equivalence where the true difference is "
        f"0{_beside_margin(metric)}. Undecided is no evidence of equality."
    )


def _beside_margin(metric: MetricColumn) -> str:
    return f" (the margin is {metric.margin:g}{metric.in_unit})" if metric.margin is not None else ""


def span(counts: Sequence[int] | pd.Series[int], noun: str) -> str:
    """Format counts as `5 seeds`, or as `3 to 5 seeds` where they differ."""
    least, most = int(min(counts)), int(max(counts))
    return f"{least if least == most else f'{least} to {most}'} {noun}{'s' if most > 1 else ''}"
