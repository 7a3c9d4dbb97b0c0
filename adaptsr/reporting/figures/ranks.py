"""Draw where a rank-aware allocation puts its ranks, beside the importance scores behind it."""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.ticker import LogLocator

from adaptsr.files import read_json
from adaptsr.reporting.figures.canvas import Drawing, is_narrow, new_figure
from adaptsr.reporting.results import Results
from adaptsr.reporting.significance import backbone_title
from adaptsr.runs.matrix import Row
from adaptsr.runs.run import Run
from adaptsr.statistics import seed_mean

ELSEWHERE = "other"
WHITE = "#fefefe"
"""Looks like the page's white, but stays white on a dark page, as the cells keep their colors."""
DECIDING = ("allocation", "budget", "r_min", "r_max", "cap")
"""Options that decide how ranks follow from scores."""
HOW_TO_READ = (
    "Blocks from top to bottom, modules from left to right. First the ranks, then the importance scores that they follow "
    "from, on a logarithmic scale; scores have no unit and compare within one figure alone. A rank of 0 means that the site is "
    "not adapted; an empty cell means that the block does not have this site. A rank depends not on the score alone, but also on "
    "the budget, on what a rank costs at the site, on the lowest and highest rank allowed and, where ranks are capped, on the "
    "ranks that the layer's shape can use. "
)
INDEXED = re.compile(r"([A-Za-z_]*?)_?(\d+)")


class Place(NamedTuple):
    """Place of a site in the heatmap: the line of its block, the column of its module."""

    block: str
    module: str


def rank_maps(results: Results) -> Iterable[Drawing]:
    """Draw a figure for every backbone and row whose plans hold ranks and importance scores; the first says how to read them."""
    how_to_read = HOW_TO_READ
    for backbone in results.profile.backbones:
        for row in results.adapted_rows:
            plans = _plans(results, backbone, row)
            if plans:
                yield _drawing(results, backbone, row, plans, how_to_read)
                how_to_read = ""


def _plans(results: Results, backbone: str, row: Row) -> list[Mapping[str, Any]]:
    plans = []
    for seed in results.row_records(backbone, row.name):
        path = Run(backbone, row.name, seed).folder(results.folder) / "plan.json"
        if path.is_file():
            plan = read_json(path, "the plan of a run")
            if isinstance(plan.get("ranks"), dict) and isinstance(plan.get("scores"), dict):
                plans.append(plan)
    return plans


def _drawing(
    results: Results, backbone: str, row: Row, plans: Sequence[Mapping[str, Any]], how_to_read: str
) -> Drawing:
    ranks, scores = (heatmap([plan[key] for plan in plans]) for key in ("ranks", "scores"))
    lines, columns = ranks.shape
    width, height = 0.42 * columns + 0.9, 1.6 + 0.21 * lines
    figure = new_figure(1.2 + width, 2 * height) if is_narrow() else new_figure(max(6.0, 1.6 + 2 * width), height)
    left, right = figure.subplots(*((2, 1) if is_narrow() else (1, 2)), sharey=True)
    varies = any(plan["ranks"] != plans[0]["ranks"] for plan in plans)
    _panel(left, ranks, f"rank{', mean over seeds' if varies else ''}", annotated=True, logarithmic=False)
    _panel(right, scores, "importance score (no unit)", annotated=False, logarithmic=True)
    by_site = {
        Place(str(block), str(module)): float(value)
        for block, line in zip(ranks.index, ranks.to_numpy(), strict=True)
        for module, value in zip(ranks.columns, line, strict=True)
        if not np.isnan(value)
    }
    linear = {
        place_of(site): len(placed["shape"]) == 2 for plan in plans for site, placed in plan.get("sites", {}).items()
    }
    highest = sorted(by_site, key=lambda site: -by_site[site])[:3]
    named = ", ".join(f"{_site(*site)} ({by_site[site]:.3g})" for site in highest)
    return Drawing(
        name=f"ranks-{backbone}-{row.name.replace('/', '-')}",
        kind="ranks",
        title=f"Ranks of {row.title} on {backbone_title(results.profile, backbone)}",
        caption=f"{how_to_read}Mean of {len(plans)} plan{'s' if len(plans) > 1 else ''}, each from its seed's calibration batches{decided(results, backbone, row)}. {seen(by_site, linear)}",
        alt=f"Two heatmaps of {lines} blocks by {columns} modules. Ranks reach from {min(by_site.values()):.3g} to {max(by_site.values()):.3g}; the highest are at {named}.",
        figure=figure,
    )


def seen(ranks: Mapping[Place, float], linear: Mapping[Place, bool]) -> str:
    """Say which parts of a backbone get more than the average rank, and whether the paper's Figure 5 describes them.

    ranks: blocks from first to last. linear: whether a site is a linear layer, where that is known.
    """
    blocks = list(dict.fromkeys(block for block, _ in ranks if block != ELSEWHERE))
    later = blocks[(len(blocks) + 1) // 2 :]
    parts = {
        "sites outside the blocks": [rank for (block, _), rank in ranks.items() if block == ELSEWHERE],
        "the earlier half of the blocks": [
            r for (block, _), r in ranks.items() if block in blocks and block not in later
        ],
        "the later half": [rank for (block, _), rank in ranks.items() if block in later],
        "attention and MLP layers": [rank for site, rank in ranks.items() if linear.get(site) is True],
        "convolutions": [rank for site, rank in ranks.items() if linear.get(site) is False],
    }
    means = {part: float(np.mean(found)) for part, found in parts.items() if found}
    means["the mean of all sites"] = float(np.mean(list(ranks.values())))
    outside, earlier, late, layers, convolutions, average = (*parts, "the mean of all sites")
    rule = (
        (late, "above", earlier, operator.gt),
        (outside, "not above", average, operator.le),
        (layers, "not below", convolutions, operator.ge),
    )
    checks = [
        f"{one} {word} {other} ({means[one]:.2f} and {means[other]:.2f}: {'so' if holds(means[one], means[other]) else 'not so'})"
        for one, word, other, holds in rule
        if one in means and other in means
    ]
    described = "on later blocks and on attention and MLP layers" if layers in means else "on later blocks"
    return f"The paper's Figure 5 describes ranks {described}, minimal ones elsewhere. As a rule for mean ranks, with what is seen here: {'; '.join(checks)}."


def decided(results: Results, backbone: str, row: Row) -> str:
    """Say which options decided the ranks besides the scores, behind a comma; empty if the records name none."""
    records = results.row_records(backbone, row.name).values()
    options: Mapping[str, object] = next(
        (record.config["options"] for record in records if "options" in record.config), {}
    )
    chosen = ", ".join(f"{name} {options[name]}" for name in DECIDING if name in options)
    return f", with {chosen}" if chosen else ""


def _site(block: str, module: str) -> str:
    return module if block == ELSEWHERE else f"{module} of {block}"


def heatmap(plans: Sequence[Mapping[str, float]]) -> pd.DataFrame:
    """Average plans into a table, blocks by modules in natural order; sites outside any block share the last line."""
    means = {site: seed_mean(plan[site] for plan in plans if site in plan) for site in chain(*plans)}
    placed = {place_of(site): value for site, value in means.items()}
    blocks = sorted({place.block for place in placed}, key=lambda block: (block == ELSEWHERE, _natural(block)))
    count = {module: sum(place.module == module for place in placed) for module in {p.module for p in placed}}
    modules = sorted(count, key=lambda module: (-count[module], _natural(module)))
    return pd.DataFrame(
        [[placed.get(Place(block, module), np.nan) for module in modules] for block in blocks],
        index=blocks,
        columns=modules,
    )


def place_of(site: str) -> Place:
    """Split the name of a site into block and module.

    `layers.0.residual_group.blocks.1.attn.qkv` is module `attn.qkv` of block `layers 0, blocks 1`. The block's name
    consists of the indices that a word follows, each with the word before it; `swin1` counts as an index. An index at the
    end counts layers of one module (`ccm.0`).
    """
    parts = site.split(".")
    last = max((i for i, part in enumerate(parts) if not part.isdigit()), default=0)
    indices = [i for i in range(last) if INDEXED.fullmatch(parts[i])]
    if not indices:
        return Place(ELSEWHERE, site)
    block = ", ".join(_block_name(parts, i) for i in indices)
    return Place(block, ".".join(parts[indices[-1] + 1 :]))


def _block_name(parts: Sequence[str], index: int) -> str:
    word, number = INDEXED.fullmatch(parts[index]).groups()  # type: ignore[union-attr]
    return f"{word or (parts[index - 1] if index else '')} {number}".strip()


def _natural(text: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.findall(r"\d+|\D+", text)]


def _panel(axes: Axes, values: pd.DataFrame, title: str, *, annotated: bool, logarithmic: bool) -> None:
    import seaborn

    positive = values.where(values > 0)
    low, high = float(positive.min().min()), float(values.max().max())
    logarithmic = logarithmic and low < high
    scale = LogNorm(low, high) if logarithmic else Normalize(0, high or 1)
    wide = logarithmic and high > 100 * low
    labels = values.map(lambda value: "" if np.isnan(value) else f"{value:.3g}")
    seaborn.heatmap(
        positive if logarithmic else values,
        ax=axes,
        cmap="cividis",
        norm=scale,
        annot=labels if annotated else None,
        fmt="",
        annot_kws={"fontsize": 6.5},
        linewidths=0.5,
        linecolor="none",
        cbar_kws={
            "shrink": min(1.0, 6 / len(values) + 0.3),
            "aspect": 25,
            "format": lambda value, _position: f"{value:g}",
            "ticks": LogLocator(subs=(1,) if wide else (1, 2, 5)) if logarithmic else None,
        },
    )
    axes.collections[0].colorbar.minorticks_off()  # type: ignore[union-attr]
    for label in axes.texts:
        if label.get_color() == "w":
            label.set_color(WHITE)
    axes.set_title(title)
    axes.grid(False)
    axes.tick_params(length=0)
    axes.set_xticks(axes.get_xticks(), values.columns, rotation=45, ha="right", rotation_mode="anchor")
    axes.tick_params(axis="y", rotation=0)
