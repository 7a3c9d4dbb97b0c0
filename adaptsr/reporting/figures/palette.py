"""Choose the look of rows: a color and marker per method, the same in every figure; a dash pattern per variant."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING

from adaptsr.config.schema import UNADAPTED

if TYPE_CHECKING:
    from adaptsr.runs.matrix import Row

METHOD_COLORS = ("#346bf1", "#f7511f", "#22765c", "#c369cc", "#3295f6", "#bc3d17", "#539d54", "#8856a5")
"""Distinct under protan, deutan and tritan vision; contrast of at least 3:1 against a white and a dark page."""
UNADAPTED_COLOR = "#7f858c"
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h")
Dash = tuple[float, tuple[float, ...]]
DASHES: tuple[Dash, ...] = (
    (0, ()),
    (0, (5, 1.5)),
    (0, (1.2, 1.2)),
    (0, (5, 1.2, 1.2, 1.2)),
    (0, (8, 2)),
    (0, (3, 1.2, 1.2, 1.2, 1.2, 1.2)),
)


@dataclass(frozen=True)
class Look:
    """The look of a row. method: what the titles of the method's rows share. variant: empty if it has a single row."""

    color: str
    marker: str
    dash: Dash
    method: str
    variant: str


def looks(rows: Sequence[Row]) -> Mapping[str, Look]:
    """Choose the look of every row, by name."""
    of_method: dict[str, list[Row]] = {}
    for row in rows:
        if row.baseline != UNADAPTED:
            of_method.setdefault(row.baseline, []).append(row)
    found = {UNADAPTED: Look(UNADAPTED_COLOR, "*", (0, (1, 1.5)), "Unadapted", "")}
    for place, (method, members) in enumerate(of_method.items()):
        for among, row in enumerate(members):
            found[row.name] = Look(
                color=METHOD_COLORS[place % len(METHOD_COLORS)],
                marker=MARKERS[place % len(MARKERS)],
                dash=DASHES[among % len(DASHES)],
                method=method_title(method, [row.title for row in members]),
                variant=row.variant if len(members) > 1 else "",
            )
    return found


def method_title(name: str, titles: Sequence[str]) -> str:
    """Return what titles share: `LoRA` for `LoRA, r = 1` and `LoRA, r = 8`; `name` if they share nothing."""
    if len(titles) == 1:
        return titles[0]
    common = "".join(signs[0] for signs in takewhile(lambda signs: len(set(signs)) == 1, zip(*titles, strict=False)))
    return re.split(r"[,(=]", common)[0].strip() or name
