"""Write the audit as a page: each claim that arithmetic can check, what was computed, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from adaptsr.reporting.render import render

from .findings import Finding, tally
from .rules import Verdict

COLORS: Mapping[Verdict, str] = {
    "reproduced": "second",
    "reproduced with": "second",
    "consistent": "quiet",
    "contradicted": "best",
    "not determinable": "quiet",
    "by construction": "quiet",
}
"""Style-sheet color of each verdict; the page also gives the verdict in words."""
MEANINGS: Mapping[Verdict, str] = {
    "reproduced": "computing what the paper says gives the printed number, or the statement holds.",
    "reproduced with": "a variant of this suite, or the named reading, gives the printed number.",
    "consistent": "the printed numbers agree with it, but they are too few to establish it.",
    "contradicted": "no reading gives the printed number, or the paper's own numbers say otherwise.",
    "not determinable": "several readings give the printed number, or one does if the last zeros are placeholders, or "
    "what would decide it is not printed.",
    "by construction": "counted apart, because the paper prints the number twice, or this suite sets it to what it is compared with.",
}
CONVENTIONS = (
    "Counts come from the paper's full-size backbones with random weights and every variant attached, whatever this "
    "report's profile; nothing is trained.",
    "A computed value matches the printed one if it rounds to it at the printed digits, halves away from zero.",
    "A statement about order or similarity is judged by the rule beside it; the paper's tables print one number a row.",
    "The last zeros of a whole number such as 7100k count as digits first and as placeholders second.",
    "Published numbers come from papers/adaptsr/published and are judged by rule: change a digit there and its line changes.",
    "Quotation marks hold the paper's own words. Lines are those of its text with one paragraph a line, not of its margin.",
    "Where the paper leaves a method's form open, this suite chose the one that gives the printed counts. The first count "
    "that it gives was fitted; the further ones of the same form are evidence for it.",
)
NOT_CHECKED = (
    "Scores themselves: the tables of this report measure them.",
    "AdaptSR on EDSR, SAFMN and DRCT, for which the paper prints no numbers, and all that it says about DSLR.",
    "The 0.91 rank correlation of importance scores, which needs data.",
    "Tables 9, 11 and 12, which the text at hand mentions but does not show.",
    "Parameter counts of methods outside this suite, and how AdaptSR-GAN is trained, which the paper does not describe.",
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
        claims=len(findings) - tally(findings)["by construction"],
        conventions=CONVENTIONS,
        not_checked=NOT_CHECKED,
    )
    return path
