"""Turn numbers into a verdict. No rule knows which claim it judges."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

from .printed import Printed

Verdict = Literal["reproduced", "reproduced with", "consistent", "contradicted", "not determinable", "by construction"]
Relation = Literal[">", ">=", "<", "<="]
RELATIONS: Mapping[Relation, Callable[[Fraction, Fraction], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
OPPOSITES: Mapping[Relation, str] = {">": "not above", ">=": "below", "<": "not below", "<=": "above"}


@dataclass(frozen=True)
class Outcome:
    """The result of a rule. `variant` completes the verdict `reproduced with`; `computed` pairs names with values."""

    verdict: Verdict
    variant: str
    computed: tuple[tuple[str, str], ...]
    sentence: str


@dataclass(frozen=True)
class Limit:
    """The most that agreement can mean for a claim, and the sentence that says why."""

    verdict: Literal["consistent", "by construction"]
    because: str

    def apply(self, outcome: Outcome) -> Outcome:
        if not outcome.verdict.startswith("reproduced"):
            return outcome
        return replace(outcome, verdict=self.verdict, variant="", sentence=f"{outcome.sentence} {self.because}")


REPEATED = Limit("by construction", "The paper prints this number twice, so that agreement says nothing.")


@dataclass(frozen=True)
class Reading:
    """One way to compute a published number.

    literal  what the paper's words say: a match is `reproduced`
    named    a variant or reading that the words leave open: a match is `reproduced with <name>`
    origin   a number that the words do not name: it can explain a mistake, but never reproduces the claim
    """

    kind: Literal["literal", "named", "origin"]
    name: str
    value: Fraction


def literal(name: str, value: Fraction | int) -> Reading:
    return Reading("literal", name, Fraction(value))


def named(name: str, value: Fraction | int) -> Reading:
    return Reading("named", name, Fraction(value))


def origin(name: str, value: Fraction | int) -> Reading:
    return Reading("origin", name, Fraction(value))


def equal(printed: Printed, readings: Sequence[Reading]) -> Outcome:
    """Judge whether a reading, rounded to the printed digits, gives the printed number.

    The first reading that is not an origin is the expected one. The number is reproduced if the expected reading
    matches, or else if all other matches have one value. It is not determinable if several values match, or if one
    matches only with the last zeros as placeholders. It is contradicted if none matches.
    """
    candidates = [reading for reading in readings if reading.kind != "origin"]
    exact = [reading for reading in candidates if printed.matches(reading.value)]
    coarse = [reading for reading in candidates if printed.matches(reading.value, coarse=True)]
    computed = tuple((reading.name, printed.show(reading.value)) for reading in readings)
    expected = candidates[0]
    if exact and (expected in exact or len({reading.value for reading in exact}) == 1):
        chosen = expected if expected in exact else exact[0]
        alike = [reading.name for reading in exact if reading.value != chosen.value]
        sentence = f"{_shown(printed, chosen)} is printed as {printed.text}"
        if chosen is not expected:
            sentence += f"; {_shown(printed, expected)} would be printed as {printed.show_rounded(expected.value)}"
        if alike:
            sentence += f"; so is {listed(alike)}, and the printed digits do not tell them apart"
        verdict: Verdict = "reproduced" if chosen.kind == "literal" else "reproduced with"
        return Outcome(verdict, "" if chosen.kind == "literal" else chosen.name, computed, sentence + ".")
    if exact:
        names = listed([reading.name for reading in exact])
        sentence = f"{names} give {printed.text} alike, and the paper does not say which of them it counted"
        sentence += f"; {_shown(printed, expected)} would be printed as {printed.show_rounded(expected.value)}."
        return Outcome("not determinable", "", computed, sentence)
    if coarse:
        return Outcome("not determinable", "", computed, _coarse_sentence(printed, coarse))
    sentence = (
        f"{_shown(printed, expected)} would be printed as {printed.show_rounded(expected.value)}, not {printed.text}"
    )
    if len(candidates) > 1:
        sentence += ", and no other reading gives that number"
    explained = [reading for reading in readings if reading.kind == "origin" and printed.matches(reading.value)]
    if explained:
        sentence += f"; {printed.text} is {listed([reading.name for reading in explained])}"
    return Outcome("contradicted", "", computed, sentence + ".")


def _coarse_sentence(printed: Printed, coarse: Sequence[Reading]) -> str:
    if len(coarse) == 1:
        return f"{_shown(printed, coarse[0])} agrees with {printed.text} only if its last zeros are placeholders."
    low, high = (printed.show(pick(reading.value for reading in coarse)) for pick in (min, max))
    return (
        f"{len(coarse)} readings, {low} to {high}, agree with {printed.text} if its last zeros are placeholders, "
        "none if they are digits, and the paper does not say which of them it counted."
    )


def unnamed(printed: Printed, readings: Sequence[Reading]) -> Outcome:
    """Judge a number whose meaning the paper leaves open: a reading can match it, but none reproduces it."""
    matched = [reading.name for reading in readings if printed.matches(reading.value)]
    computed = tuple((reading.name, printed.show(reading.value)) for reading in readings)
    if matched:
        sentence = f"{len(matched)} of {len(readings)} readings give {printed.text} ({listed(matched)}), and the paper names none."
        return Outcome("not determinable", "", computed, sentence)
    return Outcome("contradicted", "", computed, f"None of {len(readings)} readings gives {printed.text}.")


def within(low: Printed, high: Printed, values: Mapping[str, Fraction]) -> Outcome:
    """Judge whether every value, rounded to the printed digits, lies in a printed range, or is the one printed number."""
    computed = tuple((name, low.show(value)) for name, value in values.items())
    outside = [
        f"{name} ({low.show(value)})"
        for name, value in values.items()
        if not (low.matches(value) or high.matches(value) or low.value <= value <= high.value)
    ]
    text = f"{low.value.numerator}-{high.text}" if low.value.denominator == 1 else f"{low.text} to {high.text}"
    text = low.text if low == high else text
    if not outside:
        return Outcome("reproduced", "", computed, f"{listed([f'{n} ({v})' for n, v in computed])} lie within {text}.")
    return Outcome(
        "contradicted",
        "",
        computed,
        f"{len(outside)} of {len(values)} {'are not' if low == high else 'lie outside'} {text}: {listed(outside)}.",
    )


def bounded(printed: Printed, relation: Relation, values: Mapping[str, Fraction]) -> Outcome:
    """Judge whether every value has this relation to a printed bound."""
    computed = tuple((name, printed.show(value)) for name, value in values.items())
    broken = [
        f"{name} ({printed.show(value)})"
        for name, value in values.items()
        if not RELATIONS[relation](value, printed.value)
    ]
    if not broken:
        return Outcome(
            "reproduced",
            "",
            computed,
            f"{listed([f'{n} ({v})' for n, v in computed])} {relation} {printed.text}.",
        )
    return Outcome(
        "contradicted",
        "",
        computed,
        f"{listed(broken)} {_are(broken)} {OPPOSITES[relation]} {printed.text}.",
    )


@dataclass(frozen=True)
class Comparison:
    """Two numbers that a statement orders; `show` formats either."""

    left_name: str
    left: Fraction
    relation: Relation
    right_name: str
    right: Fraction
    show: Callable[[Fraction], str]

    @property
    def holds(self) -> bool:
        return RELATIONS[self.relation](self.left, self.right)

    @property
    def failure(self) -> str:
        return f"{self.left_name} {self.show(self.left)} is {OPPOSITES[self.relation]} {self.right_name} {self.show(self.right)}"


def ordered(comparisons: Sequence[Comparison], quorum: Literal["all", "most"] = "all") -> Outcome:
    """Judge whether all comparisons of a statement hold, or `most`: more than half."""
    failed = [comparison for comparison in comparisons if not comparison.holds]
    holding = len(comparisons) - len(failed)
    enough = 2 * holding > len(comparisons) if quorum == "most" else not failed
    computed = tuple(
        (f"{c.left_name} {c.relation} {c.right_name}", f"{c.show(c.left)}, {c.show(c.right)}") for c in comparisons
    )
    sentence = (
        f"{holding} of {len(comparisons)} comparisons hold"
        if len(comparisons) > 1
        else "It holds"
        if enough
        else "It does not hold"
    )
    if failed:
        sentence += f": {listed([comparison.failure for comparison in failed[:4]])}"
        sentence += f" and {len(failed) - 4} more" if len(failed) > 4 else ""
    elif len(comparisons) == 1:
        only = comparisons[0]
        sentence += f": {only.left_name} {only.show(only.left)}, {only.right_name} {only.show(only.right)}"
    return Outcome("reproduced" if enough else "contradicted", "", computed, sentence + ".")


def same(what: str, claimed: Sequence[int], found: Sequence[int], join: str) -> Outcome:
    """Judge whether two lists of whole numbers (ranks, a shape) are equal."""
    computed = ((what, join.join(map(str, found))),)
    if tuple(claimed) == tuple(found):
        return Outcome("reproduced", "", computed, f"{what}: {join.join(map(str, found))}, as claimed.")
    sentence = f"{what}: {join.join(map(str, found))}, where the paper says {join.join(map(str, claimed))}."
    return Outcome("contradicted", "", computed, sentence)


def _shown(printed: Printed, reading: Reading) -> str:
    return f"{printed.show(reading.value)} ({reading.name})"


def _are(items: Sequence[str]) -> str:
    return "is" if len(items) == 1 else "are"


def listed(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
