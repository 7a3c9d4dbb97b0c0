"""A made-up benchmark on disk: 4 backbones, 9 rows, 5 seeds, 12 test images of 6 scenes; only the numbers are invented."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from adaptsr.config.mistakes import validate
from adaptsr.config.schema import Profile
from adaptsr.data.manifest import Item, Manifest
from adaptsr.reporting.results import Results, read_results
from adaptsr.runs.choices import Choice
from adaptsr.runs.keys import Inputs
from adaptsr.runs.matrix import Row
from adaptsr.runs.records import RunRecord
from adaptsr.runs.run import Run
from adaptsr.scoring.table import (
    Fingerprint,
    KeptScores,
    fingerprint_of,
    kept_path,
    kept_typed,
    metric_key,
    typed,
    write_kept,
    write_scores,
)
from tests.factories import Json, pairs_profile, run_record

ASKED = "job"
BACKBONES = {"edsr": "EDSR", "safmn": "SAFMN", "swinir": "SwinIR", "drct": "DRCT"}
SEEDS = [1, 2, 3, 4, 5]
IMAGES = {f"{scene}-{i}": scene for scene in ("cat", "cup", "elm", "fox", "ice", "sky") for i in (0, 1)}
ROWS = {
    "unadapted": "Unadapted",
    "arc/svd50": "ARC (svd50)",
    "difffit/published": "DiffFit",
    "full_finetuning/all": "Full fine-tuning",
    "lora/r1": "LoRA, r = 1",
    "lora/r2": "LoRA, r = 2",
    "lora/r8": "LoRA, r = 8",
    "rank_aware/gradient": "Rank-aware LoRA",
    "shira/paper": "SHiRA",
}
METRICS = {
    "psnr_y": {"name": "psnr", "title": "PSNR-Y"},
    "ssim_y": {"name": "ssim", "title": "SSIM-Y"},
    "lpips": {"name": "lpips", "title": "LPIPS"},
    "vif": {"name": "vif", "title": "VIF"},
}
LEVEL = {"psnr_y": 27.0, "ssim_y": 0.8, "lpips": 0.3, "vif": 0.4}
SPREAD = {"psnr_y": 1.0, "ssim_y": 0.02, "lpips": 0.02, "vif": 0.02}


def profile_content() -> Json:
    changes: Json = {
        "name": "toy",
        "title": "Toy benchmark",
        "paper": "adaptsr",
        "seeds": SEEDS,
        "backbones": {name: {"architecture": title, "title": title} for name, title in BACKBONES.items()},
        "training": {"iterations": 10, "batch_size": 1, "crop": 32, "lr": 0.001, "validate_every": 5},
        "scoring": {"metrics": deepcopy(METRICS)},
        "report": {
            "tables": {
                "table2": {
                    "title": "Table 2: ranks",
                    "rows": ["unadapted", "full_finetuning/all", "lora/*", "rank_aware/gradient"],
                    "published": "table2.csv",
                    "published_datasets": {"photos": "realsr"},
                },
                "table3": {
                    "title": "Table 3: methods",
                    "rows": ["unadapted", "full_finetuning/all", "arc/*", "difffit/*", "rank_aware/gradient"],
                    "metrics": ["psnr_y", "lpips"],
                    "published": "table3.csv",
                    "published_datasets": {"photos": "realsr"},
                },
            },
            "comparisons": [
                {"title": "Rank-aware against uniform", "rows": ["rank_aware/gradient"], "compared_with": "lora/r2"},
                {"title": "Against full fine-tuning", "rows": ["*/*"], "compared_with": "full_finetuning/all"},
            ],
            "note": "Toy numbers.",
        },
    }
    return pairs_profile({"test": "all"}, **changes)


def row_of(name: str, title: str) -> Row:
    baseline, _, variant = name.partition("/")
    return Row(baseline, variant, title, tuple(BACKBONES))


@cache
def made_up_scores() -> pd.DataFrame:
    """Every row better than the one before it, on every backbone, by 0.1 spreads; seeds and images add noise."""
    random = np.random.default_rng(0)
    lines = []
    for backbone in BACKBONES:
        for position, name in enumerate(ROWS):
            baseline, _, variant = name.partition("/")
            for seed in [None] if name == "unadapted" else SEEDS:
                for metric, level in LEVEL.items():
                    sign = -1 if metric == "lpips" else 1
                    gain = SPREAD[metric] * (0.1 * position * sign + random.normal(0, 0.01))
                    for i, image in enumerate(IMAGES):
                        value = level + gain + SPREAD[metric] * (0.2 * i + random.normal(0, 0.01))
                        lines.append((backbone, baseline, variant, seed, image, metric, value))
    frame = pd.DataFrame(lines, columns=["backbone", "baseline", "variant", "seed", "image", "metric", "value"])
    frame = frame.assign(
        profile="toy", dataset="photos", reason=None, crop_border=0, seed=frame["seed"].astype("Int64")
    )
    frame["color_space"] = np.where(frame["metric"].isin(["psnr_y", "ssim_y"]), "ycbcr", "rgb")
    return frame


@cache
def made_up_record(backbone: str, row: Row, seed: int) -> RunRecord:
    extended = (row.baseline, backbone) == ("arc", "edsr")
    return run_record(
        variant_key=ASKED,
        inputs=Inputs(weights=None, train=(), validation="0"),
        profile="toy",
        backbone=backbone,
        baseline=row.baseline,
        variant=row.variant,
        seed=seed,
        config={},
        title=row.title,
        extension="in front of dense convolutions, our extension" if extended else None,
        trainable_parameters=20_000 if row.baseline == "full_finetuning" else 1_500,
        adaptation_sha256=f"weights of {Run(backbone, row.name, seed).name}",
    )


def matches(_run: Run, record: RunRecord) -> bool:
    return record.variant_key == ASKED


@cache
def made_up_manifest() -> Manifest:
    items = [
        Item(name=image, scene=scene, lr=f"lr/{image}.png", hr=f"hr/{image}.png", lr_sha256="0", hr_sha256="0")
        for image, scene in IMAGES.items()
    ]
    return Manifest(dataset="photos", scale=4, kind="pairs", split_rule="all", splits={"test": items})


@dataclass
class World:
    """Everything that a report reads, still open to change; `write` puts it under `root`."""

    root: Path
    content: dict[str, Any] = field(default_factory=profile_content)
    rows: list[Row] = field(default_factory=lambda: [row_of(*item) for item in ROWS.items()])
    scores: pd.DataFrame = field(default_factory=lambda: made_up_scores().copy())
    records: dict[Run, RunRecord] = field(default_factory=dict)
    choices: dict[tuple[str, str], Choice] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for backbone in BACKBONES:
            for row in self.rows[1:]:
                for seed in SEEDS:
                    self.records[Run(backbone, row.name, seed)] = made_up_record(backbone, row, seed)

    @property
    def profile(self) -> Profile:
        return validate(self.content, Path("toy.yaml"))

    @property
    def results(self) -> Path:
        return self.root / "results" / "toy"

    @property
    def resources(self) -> Path:
        return self.root / "resources"

    @property
    def reports(self) -> Path:
        return self.root / "reports"

    def lines(self, **where: Any) -> pd.Series:
        """A mask of the lines of `scores` that have these values."""
        mask = pd.Series(True, index=self.scores.index)
        for column, value in where.items():
            mask &= (self.scores[column] == value).fillna(False)
        return mask

    def without(self, **where: Any) -> None:
        """Take out the scores that have these values."""
        self.scores = self.scores[~self.lines(**where)]

    def change(self, backbone: str, row: str, seed: int, **values: Any) -> None:
        """Give a record other values."""
        run = Run(backbone, row, seed)
        self.records[run] = self.records[run].model_copy(update=values)

    def write(self) -> World:
        folder = self.results
        folder.mkdir(parents=True, exist_ok=True)
        write_scores(typed(self.scores), folder / "scores.parquet", self.fingerprint(self._scored_runs))
        for run, record in self.records.items():
            record.write(run.record_path(folder))
        made_up_manifest().write(self.resources / "photos" / "manifest.json")
        return self

    @property
    def _scored_runs(self) -> list[Run]:
        keys = self.scores.assign(row=self.scores["baseline"] + "/" + self.scores["variant"]).dropna(subset="seed")
        scored = set(zip(keys["backbone"], keys["row"], keys["seed"].astype(int), strict=True))
        return [run for run in self.records if run in scored]

    def fingerprint(self, runs: Iterable[Run]) -> Fingerprint:
        """What the scores of these runs are made of."""
        weights = {run.name: sha256 for run in runs if (sha256 := self.records[run].adaptation_sha256)}
        return fingerprint_of(self.profile.scoring, {"photos/test": made_up_manifest().digest("test")}, weights)

    def write_run_scores(self, backbone: str, row: str, seed: int) -> None:
        """Write what a run keeps once it is scored."""
        run, scoring = Run(backbone, row, seed), self.profile.scoring
        baseline, _, variant = row.partition("/")
        lines = self.scores[self.lines(backbone=backbone, baseline=baseline, variant=variant, seed=seed)]
        rows = lines.assign(metric=[metric_key(scoring, column) for column in lines["metric"]])
        restored, images = self.records[run].result_key, made_up_manifest().digest("test")
        kept = KeptScores(kept_typed(rows), restored, images, frozenset())
        write_kept(kept_path(run.folder(self.results), "photos"), kept)

    def read(self, resources: Path | None = None, *, partial: bool = False) -> Results:
        return read_results(
            self.profile,
            self.rows,
            matches,
            self.results,
            resources or self.resources,
            choices=self.choices,
            partial=partial,
        )


NASTY = r"<script>alert(1)</script> 50% of a_b & c | d * \e {f} $g$ # `h` ~ ^"
"""A title that means something in HTML, Markdown and LaTeX."""

VOID = {"meta", "source", "br", "link", "img", "input", "wbr", "hr"}


class Page(HTMLParser):
    """Reads a page strictly: balanced tags, the rows of every table with their widths, and every measured number."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.widths: list[list[int]] = []
        self.scopeless: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.table: tuple[str, str] = ("", "")
        self.row = ""
        self.values: dict[tuple[str, str, str], list[str]] = {}
        """The `data-value` of body cells by table, backbone and row, in order."""
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.widths.append([])
            self.table = (attributes.get("data-table") or "", attributes.get("data-backbone") or "")
        if tag == "tr":
            self.widths[-1].append(0)
            self.row = attributes.get("data-row") or ""
        if tag in ("th", "td"):
            self.widths[-1][-1] += int(attributes.get("colspan") or 1)
        if tag == "td" and self.row and attributes.get("class") != "published":
            self.values.setdefault((*self.table, self.row), []).append(attributes.get("data-value") or "")
        if tag == "th" and "scope" not in attributes:
            self.scopeless.append(self.get_starttag_text() or "")

    @property
    def links(self) -> list[str]:
        targets = (attributes.get("href") or attributes.get("src") for _, attributes in self.tags)
        return [target for target in targets if target]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data if "style" not in self.open else ""
