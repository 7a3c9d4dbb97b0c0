"""Read the published numbers that the audit judges: the tables, and the text's numbers in `claims.csv`.

`claims.csv` has one line per number of the text: `id`; `quote`, the paper's own words, with their `place` (a section, or the
caption of a table or figure) and `line`; `value` (as printed); `role`: a `claim` is judged, a `given` only helps to judge
others; and `also`, the ids of further quotations that the claim combines. Lines are those of the paper's text, one a
paragraph, not the numbers in its margin.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from adaptsr.errors import UserError, listing, suggestion

from .printed import Printed, parse, split_share

PUBLISHED = Path(__file__).parent / "published"
TABLES = ("table1", "table2", "table3", "table4")
Line = Mapping[str, str]


@dataclass(frozen=True)
class Quote:
    """The paper's own words and their place in its text."""

    words: str
    place: str
    line: int

    @property
    def source(self) -> str:
        return f"{self.place}, line {self.line}"


@dataclass(frozen=True)
class Claim:
    """A number or statement of the paper's text; `also` names the claims whose quotations it combines with its own."""

    id: str
    quote: Quote
    value: str
    judged: bool
    also: tuple[str, ...]


@dataclass(frozen=True)
class Published:
    """Every published number, as printed."""

    folder: Path
    tables: Mapping[str, Sequence[Line]]
    claims: Mapping[str, Claim]

    @staticmethod
    def read(folder: Path) -> Published:
        """Read the tables and claims of a folder. Raises `UserError` naming the file and the missing line or column."""
        tables = {name: _lines(folder / f"{name}.csv", ("label", "row", "backbone", "dataset")) for name in TABLES}
        path = folder / "claims.csv"
        claims: dict[str, Claim] = {}
        for line in _lines(path, ("id", "place", "line", "quote", "value", "role", "also")):
            if line["id"] in claims:
                raise UserError(f"{path}: {line['id']}: this id appears twice; give each claim its own")
            if line["role"] not in ("claim", "given"):
                raise UserError(f"{path}: {line['id']}: role: expected `claim` or `given`, found {line['role']!r}")
            if not line["line"].isdecimal():
                raise UserError(
                    f"{path}: {line['id']}: line: expected a line of the paper's text, found {line['line']!r}"
                )
            quote = Quote(line["quote"], line["place"], int(line["line"]))
            also = tuple(line["also"].split())
            claims[line["id"]] = Claim(line["id"], quote, line["value"], line["role"] == "claim", also)
        for claim in claims.values():
            for other in claim.also:
                if other not in claims:
                    raise UserError(f"{path}: {claim.id}: also: no line {other!r}{suggestion(other, claims)}")
        return Published(folder, tables, claims)

    def quotes(self, claim: Claim) -> tuple[Quote, ...]:
        """Return the quotations that a claim combines, its own first."""
        return (claim.quote, *(self.claims[other].quote for other in claim.also))


def _lines(path: Path, columns: Sequence[str]) -> list[Line]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            lines: list[Line] = list(reader)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot read these published numbers: {error}") from None
    missing = [column for column in columns if column not in (reader.fieldnames or [])]
    if missing:
        raise UserError(f"{path}: no column {missing[0]!r}; expected {', '.join(columns)}")
    for number, line in enumerate(lines, start=2):
        if None in line or None in line.values():
            raise UserError(f"{path}: line {number}: expected as many values as columns")
    return lines


@dataclass(frozen=True)
class Cell:
    """The location of a published number: file, line (a row's label or a claim's id), dataset and column."""

    file: str
    line: str
    dataset: str
    column: str

    def __str__(self) -> str:
        return f"{self.file}: {self.line}{f' ({self.dataset})' if self.dataset else ''}: {self.column}"


def cell_of(table: str, line: Line, column: str) -> Cell:
    return Cell(f"{table}.csv", line["label"], line["dataset"], column)


def claim_cell(id: str) -> Cell:
    return Cell("claims.csv", id, "", "value")


@dataclass
class Reader:
    """Reads published numbers for one finding and records those it used."""

    published: Published
    cells: list[Cell] = field(default_factory=list)

    def lines(self, table: str, **wanted: str) -> Iterator[Line]:
        """Yield the lines of a table whose columns have these values."""
        for line in self.published.tables[table]:
            if all(line.get(column) == value for column, value in wanted.items()):
                yield line

    def text(self, table: str, label: str, column: str, dataset: str | None = None) -> str:
        """Return a cell as printed. Raises `UserError` if the table has no such line or column."""
        found = [
            line
            for line in self.published.tables[table]
            if line["label"] == label and dataset in (None, line["dataset"])
        ]
        path = self.published.folder / f"{table}.csv"
        if not found:
            labels = list(dict.fromkeys(line["label"] for line in self.published.tables[table]))
            raise UserError(
                f"{path}: no line {label!r}{f' on {dataset}' if dataset else ''}{suggestion(label, labels)}; "
                f"there are {listing(labels)}"
            )
        if column not in found[0]:
            raise UserError(f"{path}: no column {column!r}; there are {listing(found[0])}")
        self._note(cell_of(table, found[0], column))
        return found[0][column]

    def number(self, table: str, label: str, column: str, dataset: str | None = None) -> Fraction:
        return self.printed(table, label, column, dataset).value

    def printed(self, table: str, label: str, column: str, dataset: str | None = None) -> Printed:
        text = self.text(table, label, column, dataset)
        count, _ = split_share(text)
        return parse(count, f"{self.published.folder / table}.csv: {label}: {column}")

    def share(self, table: str, label: str, column: str) -> Printed:
        """Return the percentage in parentheses after a count."""
        _, share = split_share(self.text(table, label, column))
        return parse(share, f"{self.published.folder / table}.csv: {label}: {column}")

    def claim(self, id: str) -> Printed:
        return parse(self.claim_text(id), self.where(id))

    def claim_text(self, id: str) -> str:
        if id not in self.published.claims:
            raise UserError(f"{self.published.folder / 'claims.csv'}: no line {id!r}; the audit needs it")
        self._note(claim_cell(id))
        return self.published.claims[id].value

    def where(self, id: str) -> str:
        return f"{self.published.folder / 'claims.csv'}: {id}: value"

    def _note(self, cell: Cell) -> None:
        if cell not in self.cells:
            self.cells.append(cell)
