"""Write the significance report: the profile's comparisons, tested over seeds, as numbers and as sentences."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from adaptsr.config.schema import EXTERNAL
from adaptsr.errors import UserError, listing, suggestion
from adaptsr.reporting.conventions import scale_warning
from adaptsr.reporting.metrics import MetricColumn, metric_columns
from adaptsr.reporting.model import number_text
from adaptsr.reporting.render import render, write_frame
from adaptsr.reporting.results import Results
from adaptsr.runs.matrix import Row, matching
from adaptsr.runs.records import RunRecord
from adaptsr.runs.run import Run
from adaptsr.statistics import ALPHA, Family, seeds_note, significance

if TYPE_CHECKING:
    from adaptsr.config.schema import Profile


@dataclass(frozen=True)
class SignificanceLine:
    """One tested row, as text."""

    title: str
    row_mean: str
    compared_mean: str
    difference: str
    interval: str
    sd: str
    seeds: str
    t: str
    p: str
    p_holm: str
    wilcoxon_p: str
    d_z: str
    g_z: str
    verdict: str
    left_out: str


@dataclass(frozen=True)
class Group:
    """The lines of one metric; `missing` says why there is nothing to compare, else it is empty."""

    title: str
    missing: str
    lines: tuple[SignificanceLine, ...]


@dataclass(frozen=True)
class SignificanceBlock:
    """One comparison on one backbone and test dataset."""

    id: str
    title: str
    details: str
    groups: tuple[Group, ...]


@dataclass(frozen=True)
class ComparisonReport:
    """One comparison: its sentences, and a block for each backbone and test dataset."""

    title: str
    compared_with: str
    sentences: tuple[str, ...]
    blocks: tuple[SignificanceBlock, ...]


@dataclass(frozen=True)
class SignificanceReport:
    """Everything that the template shows."""

    profile: str
    profile_title: str
    warning: str
    seeds_note: str
    conventions: tuple[str, ...]
    comparisons: tuple[ComparisonReport, ...]


def write_significance(results: Results, frame: pd.DataFrame, out_folder: Path) -> list[Path]:
    """Write `<out_folder>/significance.html` and `.csv`, and return their paths; `frame` is from `compare_rows`.

    The same results give the same bytes.
    """
    render("significance.html", out_folder / "significance.html", report=build_report(results, frame))
    write_frame(out_folder / "significance.csv", frame)
    return [out_folder / "significance.html", out_folder / "significance.csv"]


def families(profile: Profile, rows: Sequence[Row]) -> list[Family]:
    """Resolve the row patterns of the profile's comparisons; a row is never compared with itself.

    External models are left out. Raises `UserError` if the row to compare with is missing or a title is used twice.
    """
    names = [row.name for row in rows]
    found: list[Family] = []
    for comparison in profile.report.comparisons:
        where = f"profile {profile.name}: report.comparisons: {comparison.title!r}"
        if comparison.compared_with not in names:
            raise UserError(
                f"{where}: no row {comparison.compared_with!r}{suggestion(comparison.compared_with, names)}; this profile runs {listing(names)}"
            )
        if any(family.title == comparison.title for family in found):
            raise UserError(f"{where}: two comparisons have this title; give each its own")
        matched = [row for row in matching(rows, comparison.rows) if row.baseline != EXTERNAL]
        chosen = [row.name for row in matched if row.name != comparison.compared_with]
        found.append(Family(comparison.title, tuple(chosen), comparison.compared_with))
    return found


def compare_rows(results: Results) -> pd.DataFrame:
    """Test the profile's comparisons and return the frame of `statistics.significance`; diverged runs do not count."""
    profile = results.profile
    metrics = metric_columns(profile)
    frame = significance(
        _without_diverged(results.scores, results.records),
        families(profile, results.rows),
        backbones=list(profile.backbones),
        datasets=results.datasets,
        metrics=[metric.name for metric in metrics],
        scenes=results.scenes,
        lower_better={metric.name: metric.lower_better for metric in metrics},
        seeds=profile.seeds,
    )
    rows = {row.name: row for row in results.rows}
    run = [rows[row].on(backbone) for row, backbone in zip(frame["row"], frame["backbone"], strict=True)]
    return frame[pd.Series(run, index=frame.index, dtype=bool)].reset_index(drop=True)


def _without_diverged(scores: pd.DataFrame, records: Mapping[Run, RunRecord]) -> pd.DataFrame:
    kept = pd.Series(True, index=scores.index)
    for record in records.values():
        if record.status == "diverged":
            identity = {key: getattr(record, key) for key in ("backbone", "baseline", "variant", "seed")}
            run = pd.concat([scores[key] == value for key, value in identity.items()], axis=1).fillna(False)
            kept &= ~run.all(axis=1)
    return scores[kept]


def build_report(results: Results, frame: pd.DataFrame) -> SignificanceReport:
    """Put the frame of `compare_rows` into words."""
    profile = results.profile
    largest = int(frame["tests"].max()) if len(frame) else 1
    return SignificanceReport(
        profile=profile.name,
        profile_title=profile.title,
        warning=scale_warning(profile),
        seeds_note=seeds_note(len(profile.seeds), largest),
        conventions=tuple(_conventions(profile)),
        comparisons=tuple(
            _comparison(results, frame, family, i) for i, family in enumerate(families(profile, results.rows))
        ),
    )


def _conventions(profile: Profile) -> Iterable[str]:
    directions = ", ".join(f"{metric.title} {metric.arrow}" for metric in metric_columns(profile))
    yield f"A difference is a row minus the row it is compared with, raw; the arrow says which direction is better: {directions}. Each seed gives one pair: the means over the same test images of two runs that saw the same data."
    yield f"p comes from the two-sided paired t test over seeds. Holm's correction is applied within one comparison, backbone, test dataset and metric, at the {ALPHA:.0%} level. Wilcoxon's p is shown only and decides nothing."
    yield "The interval is for the mean difference over other seeds and other scenes: a bootstrap crossed over seeds and scenes (images of a scene stay together), with percentiles widened for few units. The test is about other seeds on these images; if it is significant and the interval contains 0, the difference is not shown for other scenes."
    yield "d_z is the mean difference in standard deviations of the paired differences; g_z is d_z with Hedges' small-sample correction. n counts the paired seeds; a seed with a missing or infinite value or a diverged run is left out and named."
    if profile.report.note:
        yield profile.report.note


def _comparison(results: Results, frame: pd.DataFrame, family: Family, number: int) -> ComparisonReport:
    lines = frame[frame["comparison"] == family.title]
    places = [(dataset, backbone) for dataset in results.datasets for backbone in results.profile.backbones]
    by_place = [lines[(lines["dataset"] == dataset) & (lines["backbone"] == backbone)] for dataset, backbone in places]
    return ComparisonReport(
        title=family.title,
        compared_with=_titles(results)[family.compared_with],
        sentences=tuple(_sentences(results, lines, family)),
        blocks=tuple(_block(results, part, f"block-{number}-{i}") for i, part in enumerate(by_place) if len(part)),
    )


def _titles(results: Results) -> dict[str, str]:
    return {row.name: row.title for row in results.rows}


def _block(results: Results, lines: pd.DataFrame, identity: str) -> SignificanceBlock:
    """Make the block of one comparison, backbone and dataset from its lines, of which there is at least one."""
    titles, digits = _titles(results), results.decimals
    backbone, dataset = (str(lines[column].iloc[0]) for column in ("backbone", "dataset"))
    groups = []
    for metric in metric_columns(results.profile):
        tested = lines[lines["metric"] == metric.name]
        texts = [_line(tested.iloc[i], titles, digits.get(metric.name, 4)) for i in range(len(tested))]
        missing = "" if tested["seeds"].any() else _why_missing(results, backbone, dataset, metric)
        groups.append(Group(f"{metric.title} {metric.arrow}", missing, tuple(texts)))
    images, scenes = (int(lines[column].max()) for column in ("images", "scenes"))
    return SignificanceBlock(
        id=identity,
        title=f"{backbone_title(results.profile, backbone)} on {dataset}",
        details=f"{images} test images of {scenes} scenes" if images else "nothing measured",
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


def _line(line: pd.Series[Any], titles: Mapping[str, str], digits: int) -> SignificanceLine:
    low, high = line["low"], line["high"]
    interval = "-" if math.isnan(low) else f"{signed(low, digits + 1)} to {signed(high, digits + 1)}"
    return SignificanceLine(
        title=titles[line["row"]],
        row_mean=number_text(line["row_mean"], digits),
        compared_mean=number_text(line["compared_mean"], digits),
        difference=signed(line["difference"], digits + 1),
        interval=interval,
        sd=number_text(line["sd"], digits + 1),
        seeds=str(line["seeds"]),
        t=number_text(line["t"], 2),
        p=p_text(line["p"]),
        p_holm=p_text(line["p_holm"]),
        wilcoxon_p=p_text(line["wilcoxon_p"]),
        d_z=signed(line["d_z"], 2),
        g_z=signed(line["g_z"], 2),
        verdict=line["verdict"],
        left_out=line["left_out"],
    )


def signed(value: float, digits: int) -> str:
    """Format a number with its sign; `-` if it is NaN."""
    return "-" if math.isnan(value) else f"{value:+.{digits}f}"


def p_text(p: float) -> str:
    """Format a p value; `-` if it is NaN."""
    if math.isnan(p):
        return "-"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _sentences(results: Results, lines: pd.DataFrame, family: Family) -> Iterable[str]:
    """Write a sentence per dataset and metric: how many tests went which way, and the differences of a single row."""
    if not family.rows:
        yield "This comparison matches no row of this profile."
        return
    titles, digits = _titles(results), results.decimals
    for dataset in results.datasets:
        for metric in metric_columns(results.profile):
            tested = lines[(lines["dataset"] == dataset) & (lines["metric"] == metric.name)]
            where = f"{metric.title} on {dataset}" if len(results.datasets) > 1 else metric.title
            sentence = f"{where}: {count_sentence(tested, titles, family)}"
            if len(family.rows) == 1:
                sentence += _difference_sentence(results.profile, tested, metric, digits.get(metric.name, 4))
            yield sentence


def count_sentence(tested: pd.DataFrame, titles: Mapping[str, str], family: Family) -> str:
    """Say how the tests of one comparison and metric came out."""
    made = tested[tested["p"].notna()]
    if made.empty:
        return "no test could be made."
    who = titles[family.rows[0]] if len(family.rows) == 1 else "the row"
    significant = made[made["significant"]]
    better = int((significant["better"] == "row").sum())
    unclear = len(made) - len(significant)
    sentence = f"of {len(made)} test{'s' if len(made) > 1 else ''}, {who} is significantly better than {titles[family.compared_with]} in {better} and significantly worse in {len(significant) - better}"
    sentence += f"; {unclear} not significant, which is no evidence of equality" if unclear else ""
    spans = int(((significant["low"] <= 0) & (significant["high"] >= 0)).sum())
    sentence += f"; in {spans} of the significant ones the interval over seeds and scenes contains 0" if spans else ""
    return sentence + (f"; {len(tested) - len(made)} could not be tested." if len(tested) > len(made) else ".")


def _difference_sentence(profile: Profile, tested: pd.DataFrame, metric: MetricColumn, digits: int) -> str:
    measured = tested[tested["difference"].notna()]
    differences = [
        f"{backbone_title(profile, backbone)} {signed(difference, digits + 1)}"
        for backbone, difference in measured[["backbone", "difference"]].to_numpy().tolist()
    ]
    unit = f" {metric.unit}" if metric.unit else ""
    return f" Mean differences: {', '.join(differences)}{unit}." if differences else ""
