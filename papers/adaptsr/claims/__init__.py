"""How each number and statement of the text is checked: what is computed from what, and by which rule it is judged.

A module for each theme; a line of `claims.csv` has its check in the `CHECKS` of one of them.
"""

from __future__ import annotations

from collections.abc import Mapping

from . import comparisons, costs, forms, gains
from .common import TextCheck

TEXT_CHECKS: Mapping[str, TextCheck] = {**costs.CHECKS, **forms.CHECKS, **gains.CHECKS, **comparisons.CHECKS}
