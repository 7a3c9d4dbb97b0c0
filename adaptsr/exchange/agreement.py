"""Say whether two runs of one key agree: to the bit, within the spread of seeds, or not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from adaptsr.runs.records import RunRecord
from adaptsr.scoring.table import kept_path, read_kept

Means = Mapping[tuple[str, str], float]
"""The mean over the test images by dataset and key of a metric."""


@dataclass(frozen=True)
class Agreement:
    """Whether two runs agree, None if it cannot be said, and why."""

    agrees: bool | None
    text: str


def means_of(folder: Path, datasets: Iterable[str]) -> dict[tuple[str, str], float]:
    """Return the means of the scores that a run keeps; metrics without values are left out."""
    found = {}
    for dataset in datasets:
        kept = read_kept(kept_path(folder, dataset), None, None)
        if kept is not None:
            means = kept.rows.groupby("metric")["value"].mean().dropna()
            found.update({(dataset, str(metric)): float(value) for metric, value in means.items()})
    return found


def spread_of(seeds: Iterable[Means]) -> dict[tuple[str, str], float]:
    """Return the greatest difference between two seeds of a row, where it has at least two."""
    values: dict[tuple[str, str], list[float]] = {}
    for means in seeds:
        for place, value in means.items():
            values.setdefault(place, []).append(value)
    return {place: max(found) - min(found) for place, found in values.items() if len(found) > 1}


def compare(one: RunRecord, other: RunRecord, means: tuple[Means, Means], spread: Means) -> Agreement:
    """Compare two runs of one key by their weights and, where these differ, by their mean scores.

    means: of each. spread: of the seeds of their row.
    """
    if one.status != other.status:
        return Agreement(False, f"one {one.status}, the other {other.status}")
    if one.adaptation_sha256 == other.adaptation_sha256:
        return Agreement(True, "the same to the bit")
    shared = means[0].keys() & means[1].keys() & spread.keys()
    if not shared:
        return Agreement(None, "other weights, and no scores of both and of two seeds to compare them by")
    shares = {place: _share(abs(means[0][place] - means[1][place]), spread[place]) for place in shared}
    worst = max(shares, key=lambda place: (shares[place], place))
    agrees = shares[worst] <= 1
    within = "within" if agrees else "beyond"
    return Agreement(
        agrees, f"other weights, {within} the spread of seeds (at most {shares[worst]:.2g} of it, on {worst[0]})"
    )


def _share(difference: float, spread: float) -> float:
    if spread:
        return difference / spread
    return 0.0 if difference == 0 else float("inf")


def machine(record: RunRecord) -> str:
    """Name the card or processor that a run was trained on."""
    made = record.provenance
    return made.device if made.device != "cpu" else f"cpu ({made.processor or 'unknown processor'})"


def same_type(one: RunRecord, other: RunRecord) -> bool:
    """Return whether two runs must agree to the bit: the same machine type, packages and code, all operators deterministic."""
    kinds = [
        (r.provenance.device, r.provenance.processor, r.provenance.packages, r.provenance.code_version)
        for r in (one, other)
    ]
    undetermined = any("differs in its last bits" in note for r in (one, other) for note in r.notes)
    return kinds[0] == kinds[1] and not undetermined
