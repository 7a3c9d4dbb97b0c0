"""Write the headline of a report: sentences that claim no more than the tests support."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from adaptsr.reporting.metrics import MetricColumn, metric_columns
from adaptsr.reporting.model import signed
from adaptsr.reporting.results import Results
from adaptsr.reporting.sentences import (
    differ,
    family_size,
    listed,
    no_verdicts,
    not_inferior,
    outcomes,
    span,
    why_no_statement,
)
from adaptsr.reporting.significance import comparisons_shown, short_titles
from adaptsr.statistics import PRIMARY, SCOPES, Comparison

MOST_NAMED = 4
"""Tests of one outcome are named if there are at most so many."""


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
    who = titles[comparison.rows[0]] if len(comparison.rows) == 1 else f"{len(comparison.rows)} rows"
    places = [dataset for dataset in results.datasets if dataset in set(lines["dataset"])] or results.datasets
    about = f"{who} against {titles[comparison.compared_with]}, {metric.title} on {', '.join(places)}"
    measured = lines[lines["difference"].notna()]
    if measured.empty:
        yield f"{about}: nothing to compare, no pair of runs has been scored."
        return
    digits = results.decimals.get(metric.name, 4)
    numbers = f"{_differences(measured, metric, digits)}, {span(measured['seeds'], 'seed')}{' each' if len(measured) > 1 else ''}"
    if nothing := no_verdicts(lines):
        yield f"{about}: {numbers}; {nothing}."
        return
    sample = (
        f", of which these {span(measured['scenes'], 'scene')} could be a random sample"
        if measured["scenes"].all()
        else ""
    )
    elsewhere = f"Expected to hold for other seeds and other scenes{sample}"
    here, family = _expected(results, lines, comparison, SCOPES[0]), family_size(lines)[2:-1]
    yield (
        f"{about}: {numbers}. {elsewhere}: {_expected(results, lines, comparison, SCOPES[1])}. "
        f"For other seeds on these images: {here}. {family[0].upper()}{family[1:]}."
    )
    if sentence := not_inferior(results, lines, comparison, metric):
        yield sentence


def _expected(results: Results, lines: pd.DataFrame, comparison: Comparison, scope: str) -> str:
    """Say what the tests of a scope show, such as `better on 3 of 4 backbones (EDSR, SwinIR, DRCT), undecided on 1 (SAFMN)`."""
    found = outcomes(lines, scope, metric_columns(results.profile)[0])
    if not found:
        return f"no statement{why_no_statement(lines, scope)}"
    single = len(comparison.rows) == 1 and lines["dataset"].nunique() == 1
    place, noun = ("on", "backbone") if single else ("in", "test")
    parts: list[str] = []
    for word, those in found.items():
        of = f" of {len(lines)} {noun}{'s' if len(lines) > 1 else ''}" if not parts else ""
        names = [_name(results, line, comparison) for _, line in those.iterrows()] if len(those) <= MOST_NAMED else []
        parts.append(
            f"{word} {place} {len(those)}{of}{listed([('; ', ', ')[single].join(names), differ(those, scope)])}"
        )
    return ", ".join(parts)


def _name(results: Results, line: pd.Series[Any], comparison: Comparison) -> str:
    """Name a line by what tells it from the others: its row, its backbone and its test dataset."""
    backbone = short_titles(results.profile)[line["backbone"]]
    row = f"{results.titles[line['row']]} on " if len(comparison.rows) > 1 else ""
    dataset = f" and {line['dataset']}" if len(results.datasets) > 1 else ""
    return f"{row}{backbone}{dataset}"


def _differences(measured: pd.DataFrame, metric: MetricColumn, digits: int) -> str:
    low, high = (signed(float(value), digits) for value in (measured["difference"].min(), measured["difference"].max()))
    if len(measured) == 1 or low == high:
        return f"a mean difference of {low}{metric.in_unit}"
    backbones = measured["backbone"].nunique()
    where = f"over {backbones} backbones" if backbones > 1 else f"over {len(measured)} tests"
    return f"mean differences from {low} to {high}{metric.in_unit} {where}"
