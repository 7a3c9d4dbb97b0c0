"""Put the tests of one comparison into sentences that claim no more than the tests carry, each with its family's size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from adaptsr.reporting.metrics import MetricColumn, metric_columns
from adaptsr.reporting.results import Results
from adaptsr.statistics import ALPHA, EXPLORATORY, MIN_SCENES, PRIMARY, SCOPES, VERDICTS, Comparison

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


def verdicts(lines: pd.DataFrame, metric: MetricColumn, named: Mapping[str, str] | None = None) -> str:
    """Say how the tests of a whole family came out in each scope, and what was corrected."""
    if incomplete(lines):
        return INCOMPLETE
    if not lines["tests_seeds"].any():
        return "no test could be made"
    return f"{_in_scopes(lines, metric, named)}{family_size(lines)}"


def incomplete(lines: pd.DataFrame) -> bool:
    """Return whether the verdicts of these lines wait for runs of their family."""
    return any(lines[f"verdict_{scope}"].eq(INCOMPLETE).any() for scope in SCOPES)


def family_size(lines: pd.DataFrame) -> str:
    """Write the number of tests in the family that `lines` belong to, and its correction if there is one."""
    if incomplete(lines):
        return " (incomplete, not corrected)"
    sizes = sorted({int(lines[f"tests_{scope}"].max()) for scope in SCOPES if len(lines)} - {0})
    if not sizes:
        return ""
    if sizes == [1]:
        return " (one test)"
    return f" (Holm's correction of {' or '.join(map(str, sizes))} tests)"


def _in_scopes(lines: pd.DataFrame, metric: MetricColumn, named: Mapping[str, str] | None = None) -> str:
    if lines["difference"].isna().all():
        return "not measured"
    return "; ".join(_counted(lines, scope, metric, named) for scope in reversed(SCOPES))


def _counted(lines: pd.DataFrame, scope: str, metric: MetricColumn, named: Mapping[str, str] | None = None) -> str:
    """Count the verdicts, such as `for other seeds on these images 2 better (EDSR, DRCT), 1 undecided`.

    named: titles by backbone, to list those that are not undecided.
    """
    found = lines[f"verdict_{scope}"]
    if not found.isin(VERDICTS).any():
        few = scope == "scenes" and lines[f"verdict_{SCOPES[0]}"].isin(VERDICTS).any()
        return f"no statement {ABOUT[scope]}{f': they would need {MIN_SCENES} scenes' if few else ''}"
    parts = []
    for word in VERDICTS:
        backbones = lines.loc[found == word, "backbone"]
        if len(backbones):
            names = [named[backbone] for backbone in backbones] if named and word != "undecided" else []
            within = f" within ±{metric.margin:g}{metric.in_unit}" if word == "equivalent" else ""
            parts.append(f"{len(backbones)} {word}{within}{_listed(names)}")
    rest = len(found) - int(found.isin(VERDICTS).sum())
    return f"{ABOUT[scope]} {', '.join([*parts, *([f'{rest} not tested'] if rest else [])])}"


def _listed(names: Sequence[str]) -> str:
    return f" ({', '.join(names)})" if names else ""


def not_inferior(results: Results, lines: pd.DataFrame, comparison: Comparison, metric: MetricColumn) -> str:
    """Say which rows are shown to lose less than the margin to the row they are compared with; empty without a margin."""
    scope = widest_scope(lines)
    if metric.margin is None or scope is None or incomplete(lines):
        return ""
    titles = results.titles
    tested = lines[lines[f"p_not_inferior_{scope}"].notna()]
    shown = tested[tested[f"p_not_inferior_holm_{scope}"] < ALPHA]
    everywhere = [
        titles[row] for row in comparison.rows if 0 < (tested["row"] == row).sum() == (shown["row"] == row).sum()
    ]
    places = "on every backbone" if tested["backbone"].nunique() > 1 else "in every test"
    which = f", {places} for {', '.join(everywhere)}" if everywhere and len(comparison.rows) > 1 else ""
    return (
        f"Less than {metric.margin:g}{metric.in_unit} worse than {titles[comparison.compared_with]} in {metric.title}, "
        f"{ABOUT[scope]} (non-inferiority, {family_size(tested)[2:-1]}): shown in {len(shown)} of {len(tested)} tests{which}."
    )


def widest_scope(lines: pd.DataFrame) -> str | None:
    """Return the widest scope in which any of the lines is tested."""
    return next((scope for scope in reversed(SCOPES) if lines[f"p_{scope}"].notna().any()), None)


def _pairing(results: Results, lines: pd.DataFrame, comparison: Comparison) -> Iterator[str]:
    """Say how far pairing by seed helps, and which rows do not share the data of the row they are compared with."""
    found = lines["correlation"].dropna()
    if len(found):
        spread = f" (from {found.min():.1f} to {found.max():.1f})" if len(found) > 1 else ""
        yield f"Paired means correlate over the seeds by {found.median():.1f}{' in the median' if spread else ''}{spread}; pairing sharpens a comparison as far as this is above 0."
    titles = results.titles
    reference = _data_streams(results, comparison.compared_with)
    other = [row for row in comparison.rows if reference and _data_streams(results, row) - reference]
    if other:
        yield f"Pairs of {', '.join(titles[row] for row in other)} did not see the same training data as {titles[comparison.compared_with]}: iterations, batch or crop differ."


def _data_streams(results: Results, row: str) -> set[tuple[object, ...]]:
    """Return what decides which crops the runs of a row saw, besides the seed."""
    configs = [record.config.get("training", {}) for run, record in results.records.items() if run.variant == row]
    return {tuple(config.get(key) for key in ("iterations", "batch_size", "crop")) for config in configs}


def power(lines: pd.DataFrame, metric: MetricColumn) -> Iterator[str]:
    """Say what the seeds and scenes of a family can show, in the unit of the metric."""
    scope = widest_scope(lines)
    if scope is None:
        return
    tested = lines[lines[f"p_{scope}"].notna()]
    size = int(tested[f"tests_{scope}"].max())
    strict = " at the strictest level of Holm's correction" if size > 1 else ""
    typical = {key: float(tested[f"{key}_{scope}"].median()) for key in ("detectable", "provable_margin")}
    count = f"{span(tested['seeds'], 'seed')} and {span(tested['scenes'], 'scene')}"
    unit = metric.in_unit
    yield f"With {count}, a median test {ABOUT[scope]} finds a difference of about {typical['detectable']:.2g}{unit} with 80% power{strict}, and shows equivalence within about {typical['provable_margin']:.2g}{unit}{_beside_margin(metric)}. Undecided is no evidence of equality."


def _beside_margin(metric: MetricColumn) -> str:
    return f" (the margin is {metric.margin:g}{metric.in_unit})" if metric.margin is not None else ""


def span(counts: Sequence[int] | pd.Series[int], noun: str) -> str:
    """Format counts as `5 seeds`, or as `3 to 5 seeds` where they differ."""
    least, most = int(min(counts)), int(max(counts))
    return f"{least if least == most else f'{least} to {most}'} {noun}{'s' if most > 1 else ''}"
