"""Write the significance report: the profile's comparisons, tested over seeds and scenes, as numbers and as sentences."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from adaptsr.config.schema import EXTERNAL
from adaptsr.errors import UserError, listing, suggestion
from adaptsr.reporting.conventions import scale_warning
from adaptsr.reporting.metrics import MetricColumn, metric_columns
from adaptsr.reporting.model import MISSING, correlation_text, digits_apart, images_text, number_text, signed
from adaptsr.reporting.render import render, write_frame
from adaptsr.reporting.results import Results
from adaptsr.reporting.sentences import INCOMPLETE, describe
from adaptsr.runs.matrix import Row, matching
from adaptsr.statistics import ALPHA, MIN_SCENES, PRIMARY, SCOPES, VERDICTS, Comparison, Measure, significance
from adaptsr.statistics.comparison import EQUIVALENT, POWER, TESTS
from adaptsr.statistics.corrections import FLIPPED_SCENES

if TYPE_CHECKING:
    from adaptsr.config.schema import Profile


@dataclass(frozen=True)
class ScopeText:
    """What a line shows within one scope, as text. differs: how an equivalent row is shown to differ, or empty."""

    interval: str
    p_holm: str
    p_equivalent: str
    verdict: str
    differs: str


@dataclass(frozen=True)
class SignificanceLine:
    """One tested row, as text. scopes: for other seeds and scenes, then for other seeds on these images."""

    row: str
    title: str
    backbone: str
    dataset: str
    row_mean: str
    compared_mean: str
    difference: str
    scopes: tuple[ScopeText, ScopeText]
    seeds: str
    correlation: str
    sign_flip_p: str
    left_out: str

    @property
    def verdict_class(self) -> str:
        """The verdict that may be colored: that for other seeds and other scenes."""
        verdict = self.scopes[0].verdict
        return verdict if verdict in ("better", "worse", "equivalent") else ""


@dataclass(frozen=True)
class Group:
    """The lines of one metric; `missing` says why there is nothing to compare, else it is empty."""

    title: str
    missing: str
    lines: tuple[SignificanceLine, ...]
    primary: bool


@dataclass(frozen=True)
class SignificanceBlock:
    """One comparison on one backbone and test dataset."""

    id: str
    title: str
    details: str
    groups: tuple[Group, ...]


@dataclass(frozen=True)
class ComparisonReport:
    """One comparison: its sentences, a block for each backbone and test dataset, and the lines of its primary family."""

    title: str
    compared_with: str
    sentences: tuple[str, ...]
    blocks: tuple[SignificanceBlock, ...]
    primary: str

    @property
    def primary_lines(self) -> list[SignificanceLine]:
        groups = [group for block in self.blocks for group in block.groups if group.primary and not group.missing]
        return [line for group in groups for line in group.lines]


@dataclass(frozen=True)
class SignificanceReport:
    """Everything that the template shows."""

    profile: str
    profile_title: str
    warning: str
    conventions: tuple[str, ...]
    comparisons: tuple[ComparisonReport, ...]


def write_significance(results: Results, frame: pd.DataFrame, out_folder: Path) -> list[Path]:
    """Write `<out_folder>/significance.html` and `.csv`, and return their paths; `frame` is from `compare_rows`.

    The same results give the same bytes.
    """
    render("significance.html", out_folder / "significance.html", report=build_report(results, frame))
    write_frame(out_folder / "significance.csv", frame)
    return [out_folder / "significance.html", out_folder / "significance.csv"]


def comparisons_of(profile: Profile, rows: Sequence[Row]) -> list[Comparison]:
    """Resolve the row patterns of the profile's comparisons; a row is never compared with itself.

    External models are left out. Raises `UserError` if the row to compare with is missing or a title is used twice.
    """
    names = [row.name for row in rows]
    found: list[Comparison] = []
    for comparison in profile.report.comparisons:
        where = f"profile {profile.name}: report.comparisons: {comparison.title!r}"
        if comparison.compared_with not in names:
            raise UserError(
                f"{where}: no row {comparison.compared_with!r}{suggestion(comparison.compared_with, names)}; this profile runs {listing(names)}"
            )
        if any(other.title == comparison.title for other in found):
            raise UserError(f"{where}: two comparisons have this title; give each its own")
        matched = [row for row in matching(rows, comparison.rows) if row.baseline != EXTERNAL]
        chosen = [row.name for row in matched if row.name != comparison.compared_with]
        found.append(Comparison(comparison.title, tuple(chosen), comparison.compared_with))
    return found


def comparisons_shown(results: Results) -> list[Comparison]:
    """Return the profile's comparisons; in a part of a matrix, with the rows that the part has."""
    there = {row.name for row in results.rows}
    declared = comparisons_of(results.profile, results.declared_rows)
    return [replace(one, rows=tuple(row for row in one.rows if row in there)) for one in declared]


def compare_rows(results: Results) -> pd.DataFrame:
    """Test the profile's comparisons and return the frame of `statistics.significance`.

    Families hold only rows that the backbone runs, and every declared metric and test dataset, measured here or not. While runs of a family are missing, its lines keep differences, intervals
    and p values, and get no correction and no verdict.
    """
    profile = results.profile
    metrics = metric_columns(profile)
    rows = {row.name: row for row in results.rows}
    unpaired = {name for name, dataset in profile.datasets.items() if dataset.kind == "unpaired"}  # without HR
    comparing = {metric.name for metric in metrics if metric.reference}
    frame = significance(
        results.scores,
        comparisons_shown(results),
        backbones=list(profile.backbones),
        datasets=list(dict.fromkeys(test.dataset for test in profile.data.test)),
        measures=[Measure(metric.name, metric.lower_better, metric.margin) for metric in metrics],
        primary=metrics[0].name,
        scenes=results.scenes,
        seeds=profile.seeds,
        runs=lambda backbone, row: rows[row].on(backbone),
        apply=lambda dataset, metric: not (dataset in unpaired and metric in comparing),
        diverged=results.diverged_seeds,
    )
    declared = comparisons_of(profile, results.declared_rows)
    waiting = [one.title for one in declared if results.unfinished({*one.rows, one.compared_with})]
    withheld = frame["comparison"].isin(waiting)
    of_families = (*POWER, *(f"{test}_holm" for test in TESTS))
    for scope in SCOPES:
        frame.loc[withheld, [f"{column}_{scope}" for column in of_families]] = math.nan
        frame.loc[withheld & frame[f"verdict_{scope}"].isin(VERDICTS), f"verdict_{scope}"] = INCOMPLETE
    return frame


def build_report(results: Results, frame: pd.DataFrame) -> SignificanceReport:
    """Put the frame of `compare_rows` into words."""
    profile = results.profile
    return SignificanceReport(
        profile=profile.name,
        profile_title=profile.title,
        warning=scale_warning(profile),
        conventions=tuple(filter(None, [results.part_sentence, *_conventions(results)])),
        comparisons=tuple(
            _comparison(results, frame, comparison, i) for i, comparison in enumerate(comparisons_shown(results))
        ),
    )


def _conventions(results: Results) -> Iterable[str]:
    profile = results.profile
    metrics = metric_columns(profile)
    directions = ", ".join(f"{metric.title} {metric.arrow}" for metric in metrics)
    margins = ", ".join(f"{m.title} {m.margin:g}{m.in_unit}" for m in metrics if m.margin is not None)
    without = ", ".join(metric.title for metric in metrics if metric.margin is None)
    limits = f"{margins or 'none'}{f'; without one nothing is called equivalent: {without}' if without else ''}"
    yield f"A difference is a row minus the row it is compared with, raw; the arrow says which direction is better: {directions}. Each seed gives one pair: two runs of that seed, scored on the same test images."
    yield "A statement is about other seeds on these images, or about other seeds and other scenes. The first takes the seed means as its sample (the paired t test). The second takes seeds and scenes as crossed random effects: the variances of the seed means and of the scene means add up, each with Student's quantile for its own degrees of freedom (Banerjee 1961). Images of one scene count as one scene. Other scenes are those of which these could be a random sample."
    yield f"With fewer than {MIN_SCENES} scenes, or more whose numbers of images differ so that they weigh as fewer, nothing is said about other scenes, and no line is colored."
    yield f"In each comparison the tests in {metrics[0].title} on all rows, backbones and test datasets are one family, the primary one; those in all other metrics are another, which is exploratory. Holm's method corrects a family as a whole, separately for each scope and question, at the {ALPHA:.0%} level; a declared test that was not made counts as one that shows nothing (p = 1). Intervals are those of one test, uncorrected; equivalence at 5% is that of an interval of 90%, so that one of 95% may reach beyond the margin."
    yield f"better, worse: shown to differ from 0. equivalent: shown to differ by less than the margin (two one-sided tests), even if shown to differ from 0 (then “shown lower” or “shown higher”). undecided: neither, which is no evidence of equality. Margins: {limits}."
    yield f"p, sign flips: the sign-flip test over the scenes (exact for up to {FLIPPED_SCENES}), for these {len(profile.seeds)} seeds and other scenes, uncorrected; it supposes independent scenes and symmetry. A check that decides nothing, since with 8 scenes it cannot fall below 0.0078."
    yield "n counts the paired seeds; a seed with a missing or infinite value is left out and named. Where a run diverged nothing is tested: the seeds that are left do not stand for all. r is the correlation of the two rows' means over the seeds. significance.csv holds all p values, and effects in standard deviations (d_z; g_z with Hedges' correction)."
    if profile.report.note:
        yield profile.report.note


def _comparison(results: Results, frame: pd.DataFrame, comparison: Comparison, number: int) -> ComparisonReport:
    lines = frame[frame["comparison"] == comparison.title]
    places = [(dataset, backbone) for dataset in results.datasets for backbone in results.profile.backbones]
    by_place = [lines[(lines["dataset"] == dataset) & (lines["backbone"] == backbone)] for dataset, backbone in places]
    return ComparisonReport(
        title=comparison.title,
        compared_with=results.titles[comparison.compared_with],
        sentences=tuple(describe(results, lines, comparison)),
        blocks=tuple(_block(results, part, f"block-{number}-{i}") for i, part in enumerate(by_place) if len(part)),
        primary=metric_columns(results.profile)[0].title,
    )


def _block(results: Results, lines: pd.DataFrame, identity: str) -> SignificanceBlock:
    """Make the block of one comparison, backbone and dataset from its lines, of which there is at least one."""
    titles, digits, backbones = results.titles, results.decimals, short_titles(results.profile)
    backbone, dataset = (str(lines[column].iloc[0]) for column in ("backbone", "dataset"))
    groups = []
    for metric in metric_columns(results.profile):
        tested = lines[lines["metric"] == metric.name]
        if tested.empty:
            continue
        texts = [_line(tested.iloc[i], titles, backbones, digits.get(metric.name, 4)) for i in range(len(tested))]
        missing = "" if tested["seeds"].any() else _why_missing(results, backbone, dataset, metric)
        family = tested["family"].iloc[0]
        groups.append(
            Group(f"{metric.title} {metric.arrow}, {family} family", missing, tuple(texts), family == PRIMARY)
        )
    images, scenes = (int(lines[column].max()) for column in ("images", "scenes"))
    return SignificanceBlock(
        id=identity,
        title=f"{backbone_title(results.profile, backbone)} on {dataset}",
        details=images_text(images, scenes) if images else "nothing measured",
        groups=tuple(groups),
    )


def _why_missing(results: Results, backbone: str, dataset: str, metric: MetricColumn) -> str:
    scores = results.scores
    here = (scores["backbone"] == backbone) & (scores["dataset"] == dataset) & (scores["metric"] == metric.name)
    reasons = sorted(set(scores.loc[here, "reason"].dropna()))
    return f"Nothing to compare: {'; '.join(reasons) or 'no pair of runs has been scored'}"


def backbone_title(profile: Profile, backbone: str) -> str:
    return profile.backbones[backbone].title or backbone


def short_titles(profile: Profile) -> dict[str, str]:
    """Return the titles of the backbones, without parentheses if they stay different."""
    titles = {name: backbone_title(profile, name) for name in profile.backbones}
    short = {name: title.partition(" (")[0] for name, title in titles.items()}
    return short if len(set(short.values())) == len(short) else titles


def _line(
    line: pd.Series[Any], titles: Mapping[str, str], backbones: Mapping[str, str], digits: int
) -> SignificanceLine:
    here, elsewhere = (
        ScopeText(
            interval=interval_text(line[f"low_{scope}"], line[f"high_{scope}"], digits + 1),
            p_holm=p_text(line[f"p_holm_{scope}"]),
            p_equivalent=p_text(line[f"p_equivalent_holm_{scope}"]),
            verdict=line[f"verdict_{scope}"],
            differs=_shown_to_differ(line, scope),
        )
        for scope in SCOPES
    )
    return SignificanceLine(
        row=line["row"],
        title=titles[line["row"]],
        backbone=backbones[line["backbone"]],
        dataset=line["dataset"],
        row_mean=number_text(line["row_mean"], digits),
        compared_mean=number_text(line["compared_mean"], digits),
        difference=signed(line["difference"], digits + 1),
        scopes=(elsewhere, here),
        seeds=str(line["seeds"]),
        correlation=correlation_text(line["correlation"]),
        sign_flip_p=p_text(line["sign_flip_p"]),
        left_out=line["left_out"],
    )


def _shown_to_differ(line: pd.Series[Any], scope: str) -> str:
    if line[f"verdict_{scope}"] != EQUIVALENT or not line[f"p_holm_{scope}"] < ALPHA:
        return ""
    return f", shown {'lower' if line['difference'] < 0 else 'higher'}"


def interval_text(low: float, high: float, digits: int) -> str:
    """Format an interval; a dash if it is NaN."""
    return MISSING if math.isnan(low) else f"{signed(low, digits)} to {signed(high, digits)}"


def p_text(p: float) -> str:
    """Format a p value, with as many digits as tell it from the level; a dash if it is NaN."""
    if math.isnan(p):
        return MISSING
    return "< 0.001" if p < 0.001 else f"{p:.{digits_apart(p, ALPHA, 3)}f}"
