"""Judge the paper's claims that arithmetic can check, each by a rule.

Published numbers come from `published/` (the tables, and `claims.csv` for the text); counts come from building the
backbones and attaching the variants. No verdict is fixed in advance: a changed digit in a published number changes it.
"""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from adaptsr.errors import UserError, listing, suggestion

from .claims import TEXT_CHECKS
from .counting import Counts
from .rules import Outcome, Verdict
from .sources import Cell, Claim, Published, Reader, claim_cell
from .tables import TableCheck, table_checks

VERDICTS: tuple[Verdict, ...] = ("reproduced", "reproduced with", "contradicted", "not determinable")


@dataclass(frozen=True)
class Finding:
    """One claim and its verdict.

    `published` is the claim's number or word as printed, `source` its location, `how` says what is computed, `computed`
    pairs names with values, and `cells` are all published numbers used.
    """

    id: str
    group: str
    place: str
    quote: str
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


def audit_claims(counts: Counts, published_folder: Path) -> list[Finding]:
    """Judge every claim, in groups: the tables' columns first, then the text.

    Raises `UserError` if a published number is missing or unreadable, or a line of `claims.csv` has no check.
    """
    published = Published.read(published_folder)
    _check_ids(published)
    found = [_table_finding(counts, published, check) for check in table_checks(Reader(published))]
    found += [_text_finding(counts, published, claim) for claim in published.claims.values() if claim.judged]
    order = {group: place for place, group in enumerate(dict.fromkeys(finding.group for finding in found))}
    return sorted(found, key=lambda finding: order[finding.group])


def _check_ids(published: Published) -> None:
    path = published.folder / "claims.csv"
    judged = [id for id, claim in published.claims.items() if claim.judged]
    for id in judged:
        if id not in TEXT_CHECKS:
            raise UserError(
                f"{path}: {id}: this id has no check{suggestion(id, TEXT_CHECKS)}; papers/adaptsr/claims/ has {listing(TEXT_CHECKS)}"
            )
    for id in TEXT_CHECKS:
        if id not in judged:
            raise UserError(f"{path}: no line {id!r} with the role `claim`; papers/adaptsr/claims/ needs it")


def _table_finding(counts: Counts, published: Published, check: TableCheck) -> Finding:
    reader = Reader(published)
    outcome = _judge(lambda: check.judge(counts, reader), check.source, published)
    return Finding(
        id=check.id,
        group=check.group,
        place=check.place,
        quote=check.quote,
        published=check.published,
        source=check.source,
        how=check.how,
        cells=tuple(reader.cells),
        **_judged(outcome),
    )


def _text_finding(counts: Counts, published: Published, claim: Claim) -> Finding:
    check, reader = TEXT_CHECKS[claim.id], Reader(published)
    outcome = _judge(lambda: check.judge(counts, reader, claim.id), claim_cell(claim.id), published)
    return Finding(
        id=claim.id,
        group=check.group,
        place=claim.place,
        quote=claim.quote,
        published=claim.value,
        source=claim_cell(claim.id),
        how=check.how,
        cells=tuple(reader.cells),
        **_judged(outcome),
    )


def _judge(judge: Callable[[], Outcome], source: Cell, published: Published) -> Outcome:
    try:
        return judge()
    except ZeroDivisionError:
        raise UserError(
            f"{published.folder / source.file}: {source}: cannot be judged: a number it is compared with is 0"
        ) from None


def _judged(outcome: Outcome) -> dict[str, Any]:
    sentence = outcome.sentence[:1].upper() + outcome.sentence[1:]
    return {
        "computed": outcome.computed,
        "verdict": outcome.verdict,
        "variant": outcome.variant,
        "sentence": sentence,
    }


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
            lines.append(f'  {finding.place}: "{finding.quote}", published {finding.published}')
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
            "place": finding.place,
            "quote": finding.quote,
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


@dataclass(frozen=True)
class PaperAudit:
    """The findings and the ways to show them, as `adaptsr audit` and the reports need."""

    findings: Sequence[Finding]

    def text(self) -> str:
        return format_text(self.findings)

    def to_json(self) -> list[dict[str, Any]]:
        return to_json(self.findings)

    def write_page(self, profile: str, profile_title: str, path: Path) -> None:
        from .audit_page import write_audit_page

        write_audit_page(profile, profile_title, self.findings, path)
