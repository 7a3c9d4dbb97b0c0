"""Checks of the text's numbers and statements: what is computed, and which rule judges it.

Each theme is a module; each line of `claims.csv` has its check in one module's `CHECKS`.
"""

from __future__ import annotations

from collections.abc import Mapping

from . import comparisons, costs, forms, gains
from .common import TextCheck

TEXT_CHECKS: Mapping[str, TextCheck] = {**costs.CHECKS, **forms.CHECKS, **gains.CHECKS, **comparisons.CHECKS}
