"""Parse numbers as a paper prints them (`886k`, `+1.13M`, `7100k`, `8.1%`, `28.40 dB`): value and significant digits."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from adaptsr.errors import UserError

NUMBER = re.compile(r"[+~≈]?(?P<digits>\d+(?:\.(?P<decimals>\d+))?)(?P<scale>[kM]?)\s?(?P<unit>%|x|dB|h)?")
SHARE = re.compile(r"(?P<count>[^()]+?)\s*\((?P<share>[^()]+)\)")
SCALES = {"": 1, "k": 1_000, "M": 1_000_000}
NOTHING = "-"


@dataclass(frozen=True)
class Printed:
    """A printed number: its value, and the worth of its last digit.

    `step` is the worth of the last printed digit, `coarse_step` that of the last digit that certainly counts: the last
    zeros of a whole number (`7100k`) may be placeholders. A percentage's value is in per cent.
    """

    text: str
    value: Fraction
    step: Fraction
    coarse_step: Fraction
    counts: bool
    unit: str

    def matches(self, exact: Fraction, coarse: bool = False) -> bool:
        """Tell whether `exact`, rounded to the printed digits, gives this number."""
        return round_to(exact, self.coarse_step if coarse else self.step) == self.value

    @property
    def ambiguous(self) -> bool:
        """Whether the printed zeros leave the number of digits open."""
        return self.coarse_step != self.step

    def show(self, exact: Fraction) -> str:
        """Format an exact value for the reader: a count in full, anything else with two digits more than printed."""
        if self.counts:
            return f"{round_to(exact, Fraction(1)).numerator:,}"
        decimals = decimals_of(self.step)
        whole, _, behind = f"{float(exact):.{decimals + 2}f}".partition(".")
        behind = behind[:decimals] + behind[decimals:].rstrip("0")
        return join_unit(f"{whole}.{behind}" if behind else whole, self.unit)

    def show_rounded(self, exact: Fraction) -> str:
        """Format an exact value as the paper would have printed it."""
        rounded = round_to(exact, self.step)
        if not rounded:
            return join_unit("0", self.unit)
        scale = next((sign for sign in "kM" if sign in self.text), "")
        decimals = decimals_of(self.step / SCALES[scale])
        return join_unit(f"{float(rounded / SCALES[scale]):.{decimals}f}{scale}", self.unit)


def round_to(exact: Fraction, step: Fraction) -> Fraction:
    """Return the nearest multiple of `step`, halves away from zero."""
    whole = (abs(exact) / step + Fraction(1, 2)).__floor__() * step
    return whole if exact >= 0 else -whole


def decimals_of(step: Fraction) -> int:
    """Return the number of decimals of a number printed in steps of `step`, a power of ten."""
    return max(len(str(step.denominator)) - 1, 0)


def join_unit(number: str, unit: str) -> str:
    return f"{number}{unit}" if unit in ("", "%", "x") else f"{number} {unit}"


def parse(text: str, where: str) -> Printed:
    """Parse a printed number; `-` gives 0. Raises `UserError` naming `where` for anything else."""
    stripped = text.strip()
    if stripped == NOTHING:
        return Printed(stripped, Fraction(0), Fraction(1), Fraction(1), counts=True, unit="")
    match = NUMBER.fullmatch(stripped)
    if not match:
        raise UserError(f"{where}: invalid printed number {text!r}; expected one such as 886k, +1.13M, 8.1% or 28.40")
    digits, decimals, scale = match["digits"], match["decimals"] or "", SCALES[match["scale"]]
    value = Fraction(digits) * scale
    step = Fraction(scale, 10 ** len(decimals))
    zeros = len(digits) - len(digits.rstrip("0")) if not decimals and value else 0
    return Printed(stripped, value, step, step * 10**zeros, counts=bool(match["scale"]), unit=match["unit"] or "")


def split_share(text: str) -> tuple[str, str]:
    """Split `+152k (1.4%)` into count and share; the share is empty if none is printed."""
    match = SHARE.fullmatch(text.strip())
    return (match["count"], match["share"]) if match else (text.strip(), "")


def parse_range(text: str, where: str) -> tuple[Printed, Printed]:
    """Parse `5-6x` into its ends, both with the unit after it."""
    match = re.fullmatch(r"\+?(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?)(.*)", text.strip())
    if not match:
        raise UserError(f"{where}: invalid range {text!r}; expected one such as 5-6x")
    return parse(match[1] + match[3], where), parse(match[2] + match[3], where)


def parse_set(text: str, where: str) -> tuple[int, ...]:
    """Parse `{1, 4, 8}` into whole numbers; a single one needs no braces."""
    match = re.fullmatch(r"\{?\s*(\d+(?:\s*,\s*\d+)*)\s*\}?", text.strip())
    if not match:
        raise UserError(f"{where}: invalid set of ranks {text!r}; expected one such as {{1, 4, 8}}")
    return tuple(int(part) for part in match[1].split(","))


def parse_shape(text: str, sizes: dict[str, int], where: str) -> tuple[int, ...]:
    """Parse `d x d_k` into a shape, replacing each symbol by its size."""
    symbols = [part.strip() for part in text.split(" x ")]
    unknown = [symbol for symbol in symbols if symbol not in sizes]
    if unknown:
        raise UserError(f"{where}: unknown size {unknown[0]!r}; there are {', '.join(sizes)}")
    return tuple(sizes[symbol] for symbol in symbols)
