"""Show how far mini-batches agree on the importance of sites, with the published correlation beside."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

from adaptsr import files
from adaptsr.papers import published_tables
from adaptsr.reporting.published import read_published
from adaptsr.reporting.render import render, write_frame

if TYPE_CHECKING:
    from adaptsr.config.schema import Profile

PUBLISHED = "table_stability.csv"
"""The published table: its `row` ends with a score, its only metric is `pairwise`."""
NOT_PRINTED = "not printed"
SHOWN = {
    "sites": "sites",
    "batches": "mini-batches",
    "batch_size": "batch size",
    "pairwise": "mean of all pairs",
    "with_mean": "mean against the mean scores",
    "minimum": "lowest pair",
    "published": "published",
}


class _Listing(NamedTuple):
    headings: Sequence[str]
    rows: Sequence[tuple[str, Sequence[str], str]]
    first: str = "Backbone and score"
    last: str = "Source of the published number"


def write_stability(profile: Profile, results_folder: Path, out_folder: Path) -> list[Path]:
    """Write `stability.html` and `stability.csv` from what was measured on each backbone; return their paths."""
    paths = [results_folder / "stability" / f"{name}.json" for name in profile.backbones]
    measured = [files.read_json(path, "what `adaptsr stability` writes")["measured"] for path in paths]
    frame = pd.concat(map(pd.DataFrame, measured), ignore_index=True)
    known = profile.paper is not None and PUBLISHED in published_tables(profile.paper)
    lines = read_published(str(profile.paper), PUBLISHED) if known else []
    printed = {row.rpartition("/")[2]: line for line in lines for row in line.rows}
    frame["published"] = [
        printed[score].values["pairwise"] if score in printed else NOT_PRINTED for score in frame["score"]
    ]
    write_frame(out_folder / "stability.csv", frame)
    rows = [
        (
            f"{profile.backbones[line['backbone']].title or line['backbone']}, {line['score']}",
            [f"{line[key]:.3f}" if isinstance(line[key], float) else str(line[key]) for key in SHOWN],
            printed[line["score"]].label if line["score"] in printed else "",
        )
        for line in frame.to_dict("records")
    ]
    render(
        "compared.html",
        out_folder / "stability.html",
        title=f"Stability of importance scores: {profile.title}",
        text="Spearman correlations of the order in which single mini-batches rank the sites of a backbone.",
        table=_Listing(list(SHOWN.values()), rows),
        pictures=[],
    )
    return [out_folder / "stability.html", out_folder / "stability.csv"]
