"""Find the denominator of Table 2's shares, which is not the size of the model."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from .printed import Printed, round_to
from .rules import Reading, named
from .sources import Reader

Share = tuple[Fraction, Printed]
"""A count and its printed share."""


def printed_shares(reader: Reader, but: str = "") -> list[Share]:
    """Return the printed counts and shares of Table 2, without the rows whose cell reads `but`."""
    cells = {line["label"]: line["parameters"] for line in reader.lines("table2")}
    labels = [label for label, cell in cells.items() if "(" in cell and cell != but]
    return [
        (reader.number("table2", label, "parameters"), reader.share("table2", label, "parameters")) for label in labels
    ]


def common_denominators(shares: Sequence[Share]) -> tuple[Fraction, Fraction]:
    """Return the smallest and largest denominator that round every count to its share; if none does, smallest > largest."""
    lows = [100 * count / (printed.value + printed.step / 2) for count, printed in shares]
    highs = [100 * count / max(printed.value - printed.step / 2, printed.step / 1000) for count, printed in shares]
    return max(lows), min(highs)


def implied_share(reader: Reader, count: Fraction | int, but: str = "") -> list[Reading]:
    """Return the reading that a share is of the roundest denominator that fits Table 2's other shares; empty without one."""
    low, high = common_denominators(printed_shares(reader, but))
    if low > high:
        return []
    middle = (low + high) / 2
    steps = (Fraction(10) ** power for power in range(7, -1, -1))
    roundest = next((number for step in steps if low <= (number := round_to(middle, step)) <= high), middle)
    return [named(f"a denominator of {float(roundest) / 1e6:.1f}M", 100 * Fraction(count) / roundest)]
