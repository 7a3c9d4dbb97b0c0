"""Write the headline of a report: two sentences that claim no more than the tests support."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from adaptsr.reporting.metrics import MetricColumn, metric_columns
from adaptsr.reporting.results import Results
from adaptsr.reporting.significance import families, short_titles, signed
from adaptsr.statistics import Family


def headline(results: Results, frame: pd.DataFrame) -> list[str]:
    """Write a sentence for each of the first two comparisons, in the first metric on the first test dataset.

    A profile with a single comparison gets a sentence for its next measured metric too. frame: from `compare_rows`.
    """
    found = families(results.profile, results.rows)
    metrics = metric_columns(results.profile)
    if not found:
        return ["This profile names no comparisons, so nothing is tested."]
    subjects = [(family, metrics[0]) for family in found[:2]]
    if len(found) == 1:
        measured = set(frame.loc[frame["difference"].notna(), "metric"])
        subjects += [(found[0], metric) for metric in metrics[1:] if metric.name in measured][:1]
    return [_sentence(results, frame, family, metric) for family, metric in subjects]


def _sentence(results: Results, frame: pd.DataFrame, family: Family, metric: MetricColumn) -> str:
    titles = {row.name: row.title for row in results.rows}
    dataset = results.datasets[0]
    lines = frame[
        (frame["comparison"] == family.title) & (frame["metric"] == metric.name) & (frame["dataset"] == dataset)
    ]
    single = len(family.rows) == 1
    who = titles[family.rows[0]] if single else f"{len(family.rows)} rows"
    about = f"{who} against {titles[family.compared_with]}, {metric.title} on {dataset}"
    measured = lines[lines["difference"].notna()]
    tested = lines[lines["p"].notna()]
    if measured.empty:
        return f"{about}: nothing to compare, no pair of runs has been scored."
    numbers = f"{about}: {_differences(measured, metric, results.decimals.get(metric.name, 4))}, {_seeds(measured)}"
    if tested.empty:
        return f"{numbers}; no test could be made, so this is no evidence of a difference."
    names = short_titles(results.profile) if single else {}
    return f"{numbers}; {_outcome(tested, names)}{_untested(lines, tested)}."


def _differences(measured: pd.DataFrame, metric: MetricColumn, digits: int) -> str:
    unit = f" {metric.unit}" if metric.unit else ""
    low, high = (signed(float(value), digits) for value in (measured["difference"].min(), measured["difference"].max()))
    if len(measured) == 1 or low == high:
        return f"a mean difference of {low}{unit}"
    backbones = measured["backbone"].nunique()
    where = f"over {backbones} backbones" if backbones > 1 else f"over {len(measured)} rows"
    return f"mean differences from {low} to {high}{unit} {where}"


def _seeds(measured: pd.DataFrame) -> str:
    least, most = int(measured["seeds"].min()), int(measured["seeds"].max())
    count = f"{most}" if least == most else f"{least} to {most}"
    return f"{count} seed{'s' if most > 1 else ''}{'' if len(measured) == 1 else ' each'}"


def _outcome(tested: pd.DataFrame, names: Mapping[str, str]) -> str:
    """Count what is significant after Holm's correction.

    names: titles of backbones, to list those concerned; empty unless the comparison has a single row.
    """
    significant = tested[tested["significant"]]
    better, worse = (significant[significant["better"] == side] for side in ("row", "compared_with"))
    unclear = len(tested) - len(significant)
    sentence = (
        f"of {len(tested)} test{'s' if len(tested) > 1 else ''} after Holm's correction, {_are(len(better))} significantly better"
        f"{_named(better, names)} and {_are(len(worse))} significantly worse{_named(worse, names)}"
    )
    spans = int(((significant["low"] <= 0) & (significant["high"] >= 0)).sum())
    if spans:
        sentence += (
            f"; of these {'none is' if spans == len(significant) else f'{_are(spans)} not'} shown for other scenes too"
        )
    return sentence + (f"; {_are(unclear)} not significant, which is no evidence of equality" if unclear else "")


def _are(count: int) -> str:
    return "1 is" if count == 1 else f"{count} are"


def _named(lines: pd.DataFrame, names: Mapping[str, str]) -> str:
    listed = [names[backbone] for backbone in lines["backbone"] if backbone in names]
    return f" ({', '.join(listed)})" if listed else ""


def _untested(lines: pd.DataFrame, tested: pd.DataFrame) -> str:
    rest = len(lines) - len(tested)
    return f"; {rest} could not be tested" if rest else ""
