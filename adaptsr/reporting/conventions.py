"""Sentences under a table: what its numbers mean and whether they compare with published ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from adaptsr.papers import load_paper
from adaptsr.reporting.metrics import MetricColumn
from adaptsr.reporting.results import Results
from adaptsr.reporting.tuning import settings_sentence
from adaptsr.scoring.external import NOT_MEASURED

if TYPE_CHECKING:
    from adaptsr.config.schema import Profile, Table

COLOR_SPACES = {
    "ycbcr": "on the Y channel of YCbCr (BT.601, studio swing)",
    "yiq": "on full-range luma (YIQ)",
    "rgb": "on RGB",
}


def scale_warning(profile: Profile) -> str:
    """Return a warning if the measured numbers cannot be compared with published ones, else an empty string."""
    if profile.report.comparable_with_paper:
        return ""
    return f"The measured numbers are those of the profile “{profile.title}”, whose models, data or training are of another scale than the published ones. They are not comparable with the published numbers."


def as_sentence(text: str) -> str:
    """Begin a text with a capital and end it with a full stop."""
    text = text.strip()
    return f"{text[0].upper()}{text[1:]}{'' if text.endswith(('.', '!', '?')) else '.'}"


def words(results: Results) -> str:
    """Explain the words that the page begins with."""
    datasets = _words([f"“{name}”" for name in results.datasets])
    plural = len(results.datasets) > 1
    return (
        "A row is a method with its options fixed. A run trains one row on one backbone with one seed; the seed decides all "
        "that is drawn at random: which crops are trained on and in which order, the initial values, the calibration images. "
        "What one photograph, or several of one place, show is a scene. "
        f"{datasets} {'are data sets' if plural else 'is a data set'} of this profile."
    )


def training_differences(results: Results) -> str:
    """Say which rows were trained with other settings than the profile's; tuned ones are told elsewhere."""
    training = results.profile.training
    declared = training.model_dump(mode="json") if training else {}
    if declared.get("betas") is None:  # a record holds the optimizer's own
        declared.pop("betas", None)
    tuned = results.profile.tuning.grid if results.profile.tuning else {}
    rows: dict[tuple[str, ...], dict[str, None]] = {}
    for run, record in results.records.items():
        found = record.config.get("training", {})
        keys = tuple(key for key in declared if key in found and found[key] != declared[key] and key not in tuned)
        if keys:
            rows.setdefault(keys, {})[results.titles[run.variant]] = None
    return "; ".join(f"{_words(list(titles))} with other {_words(keys)}" for keys, titles in rows.items())


def table_conventions(
    results: Results, table: Table, datasets: Sequence[str], metrics: Sequence[MetricColumn]
) -> Iterable[str]:
    """Say what the numbers of a table mean, one convention at a time."""
    profile = results.profile
    count = len(profile.seeds)
    if results.selection:
        yield results.part_sentence
    yield (
        f"Mean over the test images, then mean ± standard deviation (n - 1) over {count} seeds ({', '.join(map(str, profile.seeds))}); n is given where seeds are missing. The unadapted backbone is scored once."
        if count > 1
        else f"Mean over the test images, for the one seed {profile.seeds[0]}."
    )
    yield "Among the adapted rows that have all their seeds, bold (red on the page) is the best mean and underlined (blue) the second best, by the digits shown; ties are marked alike. This is not a test."
    yield "Trainable parameters are counted in every run; a parameter that several sites share counts once. Percentages are of all parameters of the backbone."
    yield from filter(None, [settings_sentence(results)])
    yield f"{'; '.join(metric.description for metric in metrics)}."
    yield f"{_color_spaces(results.scores, metrics)}Restored images are rounded to 8 bit before scoring; the crop border is {_crop_borders(results)}."
    drift = profile.data.drift
    if drift:
        yield f"Drift is what adaptation forgot: PSNR-Y on {drift.dataset}, which the profile names as bicubic pairs such as the backbones were trained on; compare it with the unadapted row's. It is in no comparison."
    for dataset in (*datasets, *([drift.dataset] if drift else [])):
        if dataset in results.manifests:
            yield as_sentence(f"Data set {dataset}: {results.manifests[dataset].split_rule}")
    for test in profile.data.test:
        if (
            test.optional
            and test.dataset not in results.datasets
            and test.dataset in (table.datasets or [test.dataset])
        ):
            yield f"Data set {test.dataset}: {NOT_MEASURED}, because an archive that must be downloaded by hand is missing (`adaptsr data status` names it)."
    if table.published_datasets:
        yield f"“Published” numbers are those printed in the {load_paper(str(profile.paper)).TITLE} paper, digit for digit; “-” means that it prints none. They are for full-size models, so other backbones and rows have none."
    if profile.report.note:
        yield profile.report.note


def _color_spaces(scores: pd.DataFrame, metrics: Sequence[MetricColumn]) -> str:
    titles: dict[str, list[str]] = {}
    for metric in metrics:
        spaces = scores.loc[scores["metric"] == metric.name, "color_space"].dropna().unique()
        for space in sorted(spaces):
            titles.setdefault(str(space), []).append(metric.title)
    sentences = [f"{_words(names)}: {COLOR_SPACES.get(space, f'in {space}')}." for space, names in titles.items()]
    return "".join(f"{sentence} " for sentence in sentences)


def _crop_borders(results: Results) -> str:
    borders = sorted(results.scores["crop_border"].dropna().unique()) or [results.profile.scoring.crop_border]
    return f"{_words([str(int(border)) for border in borders])} pixels"


def _words(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
