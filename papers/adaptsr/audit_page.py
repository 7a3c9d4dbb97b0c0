"""The audit as a page: every claim that arithmetic can check, what was computed, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from adaptsr.reporting.render import render

from .audit import Finding, tally
from .rules import Verdict

if TYPE_CHECKING:
    pass

COLORS: Mapping[Verdict, str] = {
    "reproduced": "second",
    "reproduced with": "second",
    "contradicted": "best",
    "not determinable": "quiet",
}
"""Verdict to the color of the style sheet; the verdict stands there in words too."""
MEANINGS: Mapping[Verdict, str] = {
    "reproduced": "what the paper's words say gives the number that it prints, or the statement holds.",
    "reproduced with": "a variant of this suite, or a reading that is named, gives the printed number.",
    "contradicted": "no reading gives the printed number, or the paper's own numbers say otherwise.",
    "not determinable": "several readings give the printed number, or only if its last zeros are no digits.",
}
CONVENTIONS = (
    "Counts are of the paper's full-size backbones, built with random weights and with every variant really attached, "
    "whatever the profile of this report; nothing is trained.",
    "A computed value counts as the printed one when it rounds to it at the printed digits, halves away from zero.",
    "The zeros at the end of a whole number such as 7100k are taken as digits first and as placeholders second.",
    "Published numbers are read from papers/adaptsr/published and judged by rule: change a digit there and its line changes.",
)
NOT_CHECKED = (
    "Scores themselves: the tables of this report measure them.",
    "The 0.91 rank correlation of importance scores, which needs data.",
    "Tables 9, 11 and 12, which the paper refers to and does not show.",
    "Parameter counts of methods that are not in this suite, and AdaptSR-GAN, which the paper does not describe.",
)


@dataclass(frozen=True)
class Line:
    """One row of the page."""

    finding: Finding
    color: str


@dataclass(frozen=True)
class Group:
    title: str
    lines: tuple[Line, ...]


def write_audit_page(profile: str, profile_title: str, findings: Sequence[Finding], path: Path) -> Path:
    """Write the page (`reports/<profile>/audit.html`); the same findings give the same bytes."""
    groups = [
        Group(title, tuple(Line(finding, COLORS[finding.verdict]) for finding in members))
        for title, members in groupby(findings, key=lambda finding: finding.group)
    ]
    summary = [(count, verdict, COLORS[verdict], MEANINGS[verdict]) for verdict, count in tally(findings).items()]
    render(
        "audit.html",
        path,
        folder=Path(__file__).parent,
        profile=profile,
        profile_title=profile_title,
        groups=groups,
        summary=summary,
        claims=len(findings),
        conventions=CONVENTIONS,
        not_checked=NOT_CHECKED,
    )
    return path
