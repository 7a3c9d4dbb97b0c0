"""What a metric of a profile means: direction, unit, options and the words for them."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptsr.config import listing, suggestion
from adaptsr.errors import UserError

if TYPE_CHECKING:
    from adaptsr.config import Profile


@dataclass(frozen=True)
class MetricColumn:
    """A metric as a column: our name, its heading, and pyiqa's metric with all options behind it."""

    name: str
    title: str
    measure: str
    options: Mapping[str, Any]
    lower_better: bool

    @property
    def arrow(self) -> str:
        return "↓" if self.lower_better else "↑"

    @property
    def unit(self) -> str:
        return "dB" if self.measure.startswith("psnr") else ""

    @property
    def description(self) -> str:
        """`PSNR-Y is pyiqa's psnr (test_y_channel=True); higher is better`."""
        options = ", ".join(f"{key}={value}" for key, value in sorted(self.options.items()))
        direction = "lower" if self.lower_better else "higher"
        return f"{self.title} is pyiqa's {self.measure}{f' ({options})' if options else ''}, {direction} is better"


def metric_columns(profile: Profile, names: Sequence[str] | None = None) -> list[MetricColumn]:
    """The profile's metrics in their order, or those of `names`. `UserError` for a name that the profile does not score."""
    known = profile.scoring.metrics
    for name in names or []:
        if name not in known:
            raise UserError(
                f"profile {profile.name}: report.tables: no metric {name!r}{suggestion(name, known)}; scoring.metrics has {listing(known)}"
            )
    columns = []
    for name in known if names is None else names:
        defaults = _pyiqa_defaults().get(known[name].name, {})
        options = {key: value for key, value in defaults.get("metric_opts", {}).items() if key != "type"}
        columns.append(
            MetricColumn(
                name=name,
                title=known[name].title or name,
                measure=known[name].name,
                options={**options, **known[name].options},
                lower_better=bool(defaults.get("lower_better", False)),
            )
        )
    return columns


@cache
def _pyiqa_defaults() -> Mapping[str, Mapping[str, Any]]:
    """pyiqa's table of metrics.

    Its file is executed alone: importing the package would load torch and every metric, for a table of literals.
    """
    package = importlib.util.find_spec("pyiqa")
    if package is None or package.origin is None:
        raise UserError("pyiqa is not installed, and reports need its table of metrics; install requirements.lock")
    path = Path(package.origin).with_name("default_model_configs.py")
    spec = importlib.util.spec_from_file_location("pyiqa_defaults", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    defaults: Mapping[str, Mapping[str, Any]] = module.DEFAULT_CONFIGS
    return defaults
