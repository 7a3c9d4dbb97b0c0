"""The page of an adaptation calls gain what is one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from adaptsr.camera.summary import HEADINGS, _gain


@pytest.mark.parametrize(("lower_better", "word"), [(False, "a gain of -0.04"), (True, "a difference of -0.04")])
def test_less_of_what_is_better_low_is_a_difference(lower_better: bool, word: str) -> None:
    metric: Any = SimpleNamespace(title="LPIPS", in_unit="", lower_better=lower_better)
    line = pd.Series(
        {"images": 8, "scenes": 8, "compared_mean": 0.306, "row_mean": 0.265, "difference": -0.041}
        | {f"{end}_{scope}": float("nan") for end in ("low", "high") for scope in ("seeds", "scenes")}
    )
    assert word in _gain(metric, line)
    assert "difference" in HEADINGS
    assert "gain" not in HEADINGS
