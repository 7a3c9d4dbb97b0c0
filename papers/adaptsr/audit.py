"""Judge the paper's claims that arithmetic can check, each by a rule.

Published numbers come from `published/` (the tables, and `claims.csv` for the text); counts come from building the
backbones and attaching the variants. No verdict is fixed in advance: a changed digit in a published number changes it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adaptsr.errors import UserError, listing, suggestion

from .audit_page import write_audit_page
from .claims import TEXT_CHECKS
from .counting import Counts
from .findings import Finding, format_text, to_json
from .rules import Limit, Outcome
from .sources import Cell, Claim, Published, Reader, claim_cell
from .tables import TableCheck, table_checks


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
    outcome = _judge(lambda: check.judge(counts, reader), check.limit, check.source, published)
    return Finding(
        id=check.id,
        group=check.group,
        subject=f"{check.place}: {check.subject}",
        quotes=(),
        published=check.published,
        source=check.source,
        how=check.how,
        cells=tuple(reader.cells),
        **_judged(outcome),
    )


def _text_finding(counts: Counts, published: Published, claim: Claim) -> Finding:
    check, reader = TEXT_CHECKS[claim.id], Reader(published)
    outcome = _judge(lambda: check.judge(counts, reader, claim.id), check.limit, claim_cell(claim.id), published)
    return Finding(
        id=claim.id,
        group=check.group,
        subject="",
        quotes=published.quotes(claim),
        published=claim.value,
        source=claim_cell(claim.id),
        how=check.how,
        cells=tuple(reader.cells),
        **_judged(outcome),
    )


def _judge(judge: Callable[[], Outcome], limit: Limit | None, source: Cell, published: Published) -> Outcome:
    try:
        return limit.apply(judge()) if limit else judge()
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


@dataclass(frozen=True)
class PaperAudit:
    """The findings and the ways to show them, as `adaptsr audit` and the reports need."""

    findings: Sequence[Finding]

    def text(self) -> str:
        return format_text(self.findings)

    def to_json(self) -> list[dict[str, Any]]:
        return to_json(self.findings)

    def write_page(self, profile: str, profile_title: str, path: Path) -> None:
        write_audit_page(profile, profile_title, self.findings, path)
