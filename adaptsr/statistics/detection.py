"""Power of the paired t test, and the differences that a number of seeds can detect."""

from __future__ import annotations

import math

from scipy import optimize, stats

ALPHA = 0.05
"""Level of the tests, two-sided."""


def power(n: int, effect: float, alpha: float = ALPHA) -> float:
    """Return the probability that the two-sided paired t test finds a mean difference.

    n: pairs; below two the power is 0. effect: the mean difference, in standard deviations of the paired differences.
    """
    if n < 2:
        return 0.0
    critical = stats.t.isf(alpha / 2, n - 1)
    noncentrality = effect * math.sqrt(n)
    upper = stats.nct.sf(critical, n - 1, noncentrality)
    lower = stats.nct.cdf(-critical, n - 1, noncentrality)
    return float(upper + (0.0 if math.isnan(lower) else lower))


def minimal_detectable_difference(n: int, sd: float = 1.0, target: float = 0.8, alpha: float = ALPHA) -> float:
    """Return the smallest mean difference that the paired t test of `n` pairs finds with probability `target`.

    The result has the unit of `sd`, the standard deviation of the paired differences. NaN below two pairs.
    """
    if n < 2:
        return math.nan
    upper = 1.0
    while power(n, upper, alpha) < target:
        upper *= 2
    return sd * float(optimize.brentq(lambda effect: power(n, effect, alpha) - target, 0.0, upper, xtol=1e-10))


def seeds_note(n: int, tests: int = 1, alpha: float = ALPHA) -> str:
    """Say what `n` seeds can and cannot show; `tests` is the size of the largest family that Holm's method corrects."""
    if n < 2:
        return "With fewer than two seeds no difference can be tested; the numbers show a single outcome."
    first = f"With {n} seeds the paired t test finds, with 80% power at the {alpha:.0%} level, only mean differences of at least {minimal_detectable_difference(n, alpha=alpha):.2f} standard deviations of the paired differences"
    if tests > 1:
        corrected = minimal_detectable_difference(n, alpha=alpha / tests)
        first += f" ({corrected:.2f} at the strictest level of Holm's correction of {tests} tests)"
    floor = 2 / 2**n
    wilcoxon = f"Wilcoxon's p cannot fall below 2/2^{n} = {floor:.3g}"
    wilcoxon += f", so it can never reach {alpha:g} and is shown only" if floor > alpha else "; it is shown only"
    return f"{first}; a smaller difference can be real and missed, so “not significant” is no evidence of equality. {wilcoxon}."
