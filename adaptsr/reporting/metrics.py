"""Describe the metrics of a profile to a reader: heading, direction, unit and options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptsr.errors import UserError, listing, suggestion
from adaptsr.metrics.conventions import conventions, scoring_of

if TYPE_CHECKING:
    from adaptsr.config.schema import Profile

PSNR_MARGIN = 0.05
"""Margin in dB of every PSNR for which a profile declares none."""


NAMES = {
    "psnr": "peak signal-to-noise ratio",
    "psnry": "peak signal-to-noise ratio",
    "ssim": "structural similarity",
    "ssimc": "structural similarity",
    "lpips": "learned perceptual image patch similarity",
    "dists": "deep image structure and texture similarity",
    "gmsd": "gradient magnitude similarity deviation",
    "nlpd": "normalized Laplacian pyramid distance",
    "vif": "visual information fidelity",
    "fsim": "feature similarity",
}
"""The full names of pyiqa's metrics that have abbreviated ones."""
OWN_ORDER = {
    "ssim": "computed in a faster order of ours, 1.7e-10 apart",
    "ssimc": "computed in a faster order of ours, 1.7e-10 apart",
    "dists": "on a CPU computed in a faster order of ours, 1.2e-7 apart",
}
"""What the suite computes itself from pyiqa's numbers, with the measured difference."""


@dataclass(frozen=True)
class MetricColumn:
    """A metric as a column. name: in the profile. title: its heading. measure, options: pyiqa's metric and its options.

    margin: the largest difference that does not matter, in the metric's unit; None where the profile declares none.
    reference: whether it compares with HR. weights: the file of its trained weights, where it has its own.
    """

    name: str
    title: str
    measure: str
    options: Mapping[str, Any]
    lower_better: bool
    margin: float | None = None
    reference: bool = True
    weights: str = ""

    @property
    def arrow(self) -> str:
        return "↓" if self.lower_better else "↑"

    @property
    def unit(self) -> str:
        return "dB" if self.measure.startswith("psnr") else ""

    @property
    def in_unit(self) -> str:
        """The unit as it follows a number: ` dB`, or nothing."""
        return f" {self.unit}" if self.unit else ""

    @property
    def meaning(self) -> str:
        """Such as `GMSD ↓ (gradient magnitude similarity deviation)`."""
        return f"{self.title} {self.arrow}{f' ({NAMES[self.measure]})' if self.measure in NAMES else ''}"

    @property
    def description(self) -> str:
        """Such as `PSNR-Y is pyiqa's psnr (test_y_channel=True), higher is better`."""
        options = ", ".join(f"{key}={value}" for key, value in sorted(self.options.items()))
        own = "" if self.options.get("downsample") else OWN_ORDER.get(self.measure, "")
        parts = [
            f"{self.title} is {f'the {NAMES[self.measure]}, ' if self.measure in NAMES else ''}pyiqa's {self.measure}{f' ({options})' if options else ''}",
            *([own] if own else []),
            *([] if self.reference else ["without a reference"]),
            *([f"with the weights {self.weights}"] if self.weights and not self.reference else []),
            f"{'lower' if self.lower_better else 'higher'} is better",
        ]
        return ", ".join(parts)


def metric_columns(profile: Profile, names: Sequence[str] | None = None) -> list[MetricColumn]:
    """Return the metrics of the profile in its order, or those of `names`.

    Raises `UserError` if a name is missing from `scoring.metrics`.
    """
    known = profile.scoring.metrics
    for name in names or []:
        if name not in known:
            raise UserError(
                f"profile {profile.name}: report.tables: no metric {name!r}{suggestion(name, known)}; scoring.metrics has {listing(known)}"
            )
    columns = {
        convention.column: MetricColumn(
            name=convention.column,
            title=convention.heading,
            measure=convention.name,
            options={key: _shown(value) for key, value in convention.options.items()},
            lower_better=convention.lower_is_better,
            margin=profile.report.margins.get(
                convention.column, PSNR_MARGIN if convention.name.startswith("psnr") else None
            ),
            reference=convention.reference,
            weights=convention.weights,
        )
        for convention in conventions(profile.scoring)
    }
    return [columns[name] for name in (known if names is None else names)]


def drift_columns(profile: Profile) -> list[MetricColumn]:
    """Return the column of what adapted models forget, if the profile has one."""
    drift = profile.data.drift
    if drift is None:
        return []
    return metric_columns(profile.model_copy(update={"scoring": scoring_of(profile, drift.dataset)}))


def _shown(value: Any) -> Any:
    """Shorten a path to its file name, since a report must not show folders of this machine."""
    return Path(value).name if isinstance(value, str) and "/" in value else value
