"""Write the headline of a report: sentences that claim no more than the tests support."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from adaptsr.reporting.metrics import MetricColumn, metric_columns
from adaptsr.reporting.results import Results
from adaptsr.reporting.sentences import not_inferior, span, verdicts
from adaptsr.reporting.significance import comparisons_shown, short_titles, signed
from adaptsr.statistics import PRIMARY, Comparison


def headline(results: Results, frame: pd.DataFrame) -> list[str]:
    """Write what the primary families of the first two comparisons show. frame: from `compare_rows`."""
    found = comparisons_shown(results)
    if not found:
        return ["This profile names no comparisons, so nothing is tested."]
    primary = frame[frame["family"] == PRIMARY]
    return [
        sentence
        for comparison in found[:2]
        for sentence in _sentences(results, primary[primary["comparison"] == comparison.title], comparison)
    ]


def _sentences(results: Results, lines: pd.DataFrame, comparison: Comparison) -> Iterator[str]:
    titles = results.titles
    metric = metric_columns(results.profile)[0]
    single = len(comparison.rows) == 1
    who = titles[comparison.rows[0]] if single else f"{len(comparison.rows)} rows"
    about = f"{who} against {titles[comparison.compared_with]}, {metric.title} on {', '.join(results.datasets)}"
    measured = lines[lines["difference"].notna()]
    if measured.empty:
        yield f"{about}: nothing to compare, no pair of runs has been scored."
        return
    named = short_titles(results.profile) if single and len(results.datasets) == 1 else None
    digits = results.decimals.get(metric.name, 4)
    numbers = f"{_differences(measured, metric, digits)}, {span(measured['seeds'], 'seed')}{' each' if len(measured) > 1 else ''}"
    yield f"{about}: {numbers}; {verdicts(lines, metric, named)}."
    if sentence := not_inferior(results, lines, comparison, metric):
        yield sentence


def _differences(measured: pd.DataFrame, metric: MetricColumn, digits: int) -> str:
    low, high = (signed(float(value), digits) for value in (measured["difference"].min(), measured["difference"].max()))
    if len(measured) == 1 or low == high:
        return f"a mean difference of {low}{metric.in_unit}"
    backbones = measured["backbone"].nunique()
    where = f"over {backbones} backbones" if backbones > 1 else f"over {len(measured)} tests"
    return f"mean differences from {low} to {high}{metric.in_unit} {where}"
