"""The audit's findings: one for each claim, and their text and JSON."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

from .rules import Verdict
from .sources import Cell, Quote

VERDICTS: tuple[Verdict, ...] = (
    "reproduced",
    "reproduced with",
    "consistent",
    "contradicted",
    "not determinable",
    "by construction",
)


@dataclass(frozen=True)
class Finding:
    """One claim and its verdict.

    `subject` names a table's cell in our words; a claim of the text has `quotes` instead, the paper's own words.
    `published` is the claim's number or word as printed, `source` its location, `how` says what is computed, `computed`
    pairs names with values, and `cells` are all published numbers used.
    """

    id: str
    group: str
    subject: str
    quotes: tuple[Quote, ...]
    published: str
    source: Cell
    how: str
    computed: tuple[tuple[str, str], ...]
    verdict: Verdict
    variant: str
    sentence: str
    cells: tuple[Cell, ...]

    @property
    def verdict_text(self) -> str:
        return f"{self.verdict} {self.variant}".strip()


def tally(findings: Iterable[Finding]) -> dict[Verdict, int]:
    """Count the findings of each verdict."""
    counted = Counter(finding.verdict for finding in findings)
    return {verdict: counted[verdict] for verdict in VERDICTS}


def format_text(findings: Sequence[Finding]) -> str:
    """Format the findings for a terminal: the claims by group, then the number of each verdict."""
    lines: list[str] = []
    for group, members in groupby(findings, key=lambda finding: finding.group):
        lines += [group, "=" * len(group), ""]
        for finding in members:
            lines.append(f"{finding.id}: {finding.verdict_text}")
            lines += [f"  {finding.subject}"] if finding.subject else []
            lines += [f'  {quote.source}: "{quote.words}"' for quote in finding.quotes]
            lines.append(f"  published {finding.published}; computed: {finding.how}")
            lines += textwrap.wrap(finding.sentence, 110, initial_indent="  ", subsequent_indent="  ")
            lines.append("")
    lines += [f"{count:4d} {verdict}" for verdict, count in tally(findings).items()]
    return "\n".join(lines) + "\n"


def to_json(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """Return the findings as plain data, for `json.dumps`."""
    return [
        {
            "id": finding.id,
            "group": finding.group,
            "subject": finding.subject,
            "quotes": [asdict(quote) for quote in finding.quotes],
            "published": finding.published,
            "how": finding.how,
            "computed": [{"name": name, "value": value} for name, value in finding.computed],
            "verdict": finding.verdict_text,
            "sentence": finding.sentence,
            "source": str(finding.source),
            "uses": [str(cell) for cell in finding.cells],
        }
        for finding in findings
    ]
