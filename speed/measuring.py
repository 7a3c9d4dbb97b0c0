"""Time candidates in turns, print figures as a table and keep them as JSON: what every benchmark shares."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from adaptsr.files import atomic_write
from adaptsr.runs.provenance import provenance

FOLDER = Path("results/speed")


@dataclass(frozen=True)
class Figure:
    """One measured number. value: None if this machine cannot measure it; `note` says why. goal: the value to reach."""

    what: str
    value: float | None
    unit: str
    goal: float | None = None
    note: str = ""


def in_turns(candidates: Mapping[str, Callable[[], object]], rounds: int, warm_up: int = 1) -> dict[str, list[float]]:
    """Return the seconds that each candidate took in each round, without the warm-up rounds.

    Candidates take turns, so that a temporary slowdown of the machine affects all of them.
    """
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for round_ in range(warm_up + rounds):
        for name, candidate in candidates.items():
            began = time.perf_counter()
            candidate()
            if round_ >= warm_up:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def ratio(seconds: Mapping[str, Sequence[float]], ours: str, theirs: str) -> float:
    """Return the median over rounds of the ratio ours / theirs within a round."""
    return statistics.median(a / b for a, b in zip(seconds[ours], seconds[theirs], strict=True))


def arguments(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add the options that every benchmark has."""
    parser.add_argument("--tiny", action="store_true", help="use a size that only shows that the benchmark works")
    parser.add_argument("--json", type=Path, help="where to write the figures (default: results/speed/NAME.json)")
    return parser


def report(name: str, settings: Mapping[str, Any], figures: Sequence[Figure], path: Path | None, device: str) -> None:
    """Print the figures as a table, and write them with their settings and machine to `path` or the default place."""
    width = max(len(figure.what) for figure in figures)
    for figure in figures:
        value = "not measured" if figure.value is None else f"{figure.value:.3f} {figure.unit}".strip()
        goal = "" if figure.goal is None else f"goal {figure.goal:g}"
        print(f"{figure.what:<{width}}  {value:>14}  {goal:<10}  {figure.note}".rstrip())
    content = {
        "benchmark": name,
        "date": datetime.now(UTC).date().isoformat(),
        "settings": dict(settings),
        "figures": [asdict(figure) for figure in figures],
        "provenance": provenance(device).model_dump(mode="json"),
    }
    target = path or FOLDER / f"{name}.json"
    with atomic_write(target) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n")
    print(f"written to {target}")
