"""Numbers as a paper prints them: what `886k`, `+1.13M`, `7100k`, `8.1%` or `28.40 dB` says, and to how many digits."""

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
    """A printed number: its value, and the steps in which its digits count.

    `step` is the worth of the last digit printed. `coarse_step` is that of the last digit that certainly counts: the
    zeros at the end of a whole number (`7100k`) may only hold places. A percentage's value is in per cent.
    """

    text: str
    value: Fraction
    step: Fraction
    coarse_step: Fraction
    counts: bool
    unit: str

    def matches(self, exact: Fraction, coarse: bool = False) -> bool:
        """Whether `exact`, rounded to the printed digits, gives this number."""
        return round_to(exact, self.coarse_step if coarse else self.step) == self.value

    @property
    def ambiguous(self) -> bool:
        """Whether the printed zeros leave the number of digits open."""
        return self.coarse_step != self.step

    def show(self, exact: Fraction) -> str:
        """An exact value for the reader: a count in full, anything else with two digits more than printed."""
        if self.counts:
            return f"{round_to(exact, Fraction(1)).numerator:,}"
        decimals = decimals_of(self.step)
        whole, _, behind = f"{float(exact):.{decimals + 2}f}".partition(".")
        behind = behind[:decimals] + behind[decimals:].rstrip("0")
        return join_unit(f"{whole}.{behind}" if behind else whole, self.unit)

    def show_rounded(self, exact: Fraction) -> str:
        """An exact value as it would have been printed."""
        rounded = round_to(exact, self.step)
        if not rounded:
            return join_unit("0", self.unit)
        scale = next((sign for sign in "kM" if sign in self.text), "")
        decimals = decimals_of(self.step / SCALES[scale])
        return join_unit(f"{float(rounded / SCALES[scale]):.{decimals}f}{scale}", self.unit)


def round_to(exact: Fraction, step: Fraction) -> Fraction:
    """The nearest multiple of `step`, halves away from zero."""
    whole = (abs(exact) / step + Fraction(1, 2)).__floor__() * step
    return whole if exact >= 0 else -whole


def decimals_of(step: Fraction) -> int:
    """Digits behind the point of a number printed in steps of `step`, a power of ten."""
    return max(len(str(step.denominator)) - 1, 0)


def join_unit(number: str, unit: str) -> str:
    return f"{number}{unit}" if unit in ("", "%", "x") else f"{number} {unit}"


def parse(text: str, where: str) -> Printed:
    """A printed number; `-` says none at all. `UserError` naming `where` for anything else."""
    stripped = text.strip()
    if stripped == NOTHING:
        return Printed(stripped, Fraction(0), Fraction(1), Fraction(1), counts=True, unit="")
    match = NUMBER.fullmatch(stripped)
    if not match:
        raise UserError(f"{where}: {text!r} is no printed number; one such as 886k, +1.13M, 8.1% or 28.40 was expected")
    digits, decimals, scale = match["digits"], match["decimals"] or "", SCALES[match["scale"]]
    value = Fraction(digits) * scale
    step = Fraction(scale, 10 ** len(decimals))
    zeros = len(digits) - len(digits.rstrip("0")) if not decimals and value else 0
    return Printed(stripped, value, step, step * 10**zeros, counts=bool(match["scale"]), unit=match["unit"] or "")


def split_share(text: str) -> tuple[str, str]:
    """`+152k (1.4%)` as its count and its share; the share is empty where none is printed."""
    match = SHARE.fullmatch(text.strip())
    return (match["count"], match["share"]) if match else (text.strip(), "")


def parse_range(text: str, where: str) -> tuple[Printed, Printed]:
    """`5-6x` as its ends, both in the unit printed behind it."""
    match = re.fullmatch(r"\+?(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?)(.*)", text.strip())
    if not match:
        raise UserError(f"{where}: {text!r} is no range; one such as 5-6x was expected")
    return parse(match[1] + match[3], where), parse(match[2] + match[3], where)


def parse_set(text: str, where: str) -> tuple[int, ...]:
    """`{1, 4, 8}` as whole numbers; a single one may stand without braces."""
    match = re.fullmatch(r"\{?\s*(\d+(?:\s*,\s*\d+)*)\s*\}?", text.strip())
    if not match:
        raise UserError(f"{where}: {text!r} is no set of ranks; one such as {{1, 4, 8}} was expected")
    return tuple(int(part) for part in match[1].split(","))


def parse_shape(text: str, sizes: dict[str, int], where: str) -> tuple[int, ...]:
    """`d x d_k` as a shape, each symbol replaced by its size."""
    symbols = [part.strip() for part in text.split(" x ")]
    unknown = [symbol for symbol in symbols if symbol not in sizes]
    if unknown:
        raise UserError(f"{where}: {unknown[0]!r} is no size; there are {', '.join(sizes)}")
    return tuple(sizes[symbol] for symbol in symbols)
