"""The table of what restoring one image costs: read from what the workflow measured."""

from __future__ import annotations

from dataclasses import dataclass

from adaptsr.errors import UserError
from adaptsr.files import read_json
from adaptsr.metrics.costs import COSTS, Costs
from adaptsr.reporting.results import Results

HEADS = ("parameters", "FLOPs (G)", "activations (M)", "latency (ms)", "memory (MB)")


@dataclass(frozen=True)
class CostTable:
    """Lines of a title and its numbers as text, in the order of `HEADS`; `sentence` says how they were measured."""

    heads: tuple[str, ...]
    lines: tuple[tuple[str, tuple[str, ...]], ...]
    sentence: str


def read_costs(results: Results) -> CostTable | None:
    """Read the measured costs; None if the profile does not ask for them, or they are not measured yet."""
    path = results.folder / COSTS
    if results.profile.report.cost is None or not path.is_file():
        return None
    content = read_json(path, "what `adaptsr measure-costs` writes")
    try:
        models = {title: Costs(**costs) for title, costs in content["models"].items()}
        first, device = next(iter(models.values())), content["device"]
    except (KeyError, TypeError, AttributeError, StopIteration):
        raise UserError(f"{path}: not what `adaptsr measure-costs` writes; delete it and run snakemake again") from None
    return CostTable(
        heads=HEADS,
        lines=tuple((title, _texts(costs)) for title, costs in models.items()),
        sentence=f"Restoring one image of {first.width}x{first.height} LR pixels on {device}: the mean of {first.runs} runs, with their standard deviation. A multiplication and an addition count as two FLOPs, of matrix products and convolutions alone; activations are the numbers that convolutions put out; memory is the most that weights and tensors take at once. Adapted rows are merged, so each costs what its backbone costs.",
    )


def _texts(costs: Costs) -> tuple[str, ...]:
    return (
        f"{costs.parameters:,}",
        f"{costs.flops / 1e9:,.3f}",
        f"{costs.activations / 1e6:,.3f}",
        f"{1e3 * costs.seconds:,.1f} ± {1e3 * costs.seconds_sd:,.1f}",
        f"{costs.memory_bytes / 1e6:,.1f}",
    )
