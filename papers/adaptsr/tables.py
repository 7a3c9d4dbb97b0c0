"""Check the cells of the paper's tables: parameters, shares, parameters at inference, and tables against each other."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import product

from adaptsr.config.schema import UNADAPTED

from .claims.common import DATASETS, METRICS, PERCENT_DENOMINATOR, SWINIR, TITLES, UNIFORM, share
from .counting import Counts
from .printed import NOTHING, Printed, split_share
from .rules import Outcome, Reading, equal, literal, named
from .sources import TABLES, Cell, Line, Reader, cell_of

PARAMETERS = "Parameter counts"
SHARES = "Shares of Table 2"
INFERENCE = "Parameters at inference"
CROSS = "The tables against each other"

FULL = "full_finetuning/all"
RANDOM = "rank_aware/random"
COUNTED_AS = {"rank_aware/gradient": RANDOM}
"""Gradient scores need data; random scores fill the same budget."""
RASA_GRID = tuple(product(("stage", "shape"), (1, 2, 4, 8, 16)))
SHIRA_FRACTIONS = (
    ("8.1% of all weights but upsampling", Fraction(81, 1000), False),
    ("7.9% of all weights", Fraction(79, 1000), True),
)
KINDS = ("conv", "mlp", "attention")


@dataclass(frozen=True)
class TableCheck:
    """The check of one printed cell, `source`; `published` is its text, or the judged part of it."""

    id: str
    group: str
    place: str
    quote: str
    published: str
    source: Cell
    how: str
    judge: Callable[[Counts, Reader], Outcome]


def table_checks(reader: Reader) -> Iterator[TableCheck]:
    """Yield a check of every cell that can be counted or appears in two tables, in table order."""
    yield from _parameter_checks(reader)
    yield from _share_checks(reader)
    yield from _inference_checks(reader)
    yield from _cross_checks(reader)


def _ours(reader: Reader, table: str) -> list[Line]:
    """Return the rows of a table that this suite can build, each label once per printed count."""
    lines: dict[tuple[str, str], Line] = {}
    for line in reader.lines(table):
        if line["row"] and line["backbone"]:
            lines.setdefault((line["label"], line["parameters"]), line)
    return list(lines.values())


def _id(table: str, line: Line, column: str) -> str:
    words = re.sub(r"[^a-z0-9]+", "-", line["label"].lower()).strip("-")
    return f"{table}/{words}/{column}"


def _title(table: str) -> str:
    return f"Table {table.removeprefix('table')}"


def _rows(line: Line) -> list[str]:
    return [COUNTED_AS.get(row, row) for row in line["row"].split("|")]


def _parameter_checks(reader: Reader) -> Iterator[TableCheck]:
    seen: set[str] = set()
    for table in TABLES:
        for line in _ours(reader, table):
            if line["parameters"] == NOTHING:
                continue
            id = _id(table, line, "parameters")
            if id in seen:
                id += f"-{line['dataset']}"
            seen.add(id)
            backbone = line["backbone"]
            whole = line["row"] == UNADAPTED or (table == "table1" and line["row"] == FULL)
            how = (
                "parameters of the built backbone"
                if whole
                else f"trainable parameters of {' or '.join(_rows(line))} on {backbone}"
            )
            yield TableCheck(
                id,
                PARAMETERS,
                _title(table),
                f"{line['label']}, parameters",
                split_share(line["parameters"])[0],
                cell_of(table, line, "parameters"),
                how,
                partial(_judge_count, table=table, line=line, whole=whole),
            )


def _judge_count(counts: Counts, reader: Reader, table: str, line: Line, whole: bool) -> Outcome:
    printed = reader.printed(table, line["label"], "parameters", line["dataset"])
    if whole:
        return equal(printed, [literal(f"the {line['backbone']} backbone", counts.total(line["backbone"]))])
    return equal(printed, _count_readings(counts, line["backbone"], _rows(line)))


def _count_readings(counts: Counts, backbone: str, rows: Sequence[str]) -> list[Reading]:
    """Return the rows that the published line names, then other readings that the paper may have counted."""
    readings = [named(row, counts.trainable(backbone, row)) for row in rows]
    for row in rows:
        readings += _alternatives(counts, backbone, row)
    return readings


def _alternatives(counts: Counts, backbone: str, row: str) -> list[Reading]:
    baseline, _, variant = row.partition("/")
    if row == RANDOM:
        ranks = counts.trainable(backbone, row, {"budget": _uniform_ranks(counts, backbone)})
        return [named("the same with the sum of ranks as the budget", ranks)]
    if baseline == "full_finetuning" and variant in KINDS:
        return [named(f"{row}-nobias", counts.trainable(backbone, f"{row}-nobias"))]
    if baseline == "lora" and variant.removeprefix("table4-") in KINDS:
        kind = variant.removeprefix("table4-")
        return [named(f"{UNIFORM} on {kind} alone", counts.trainable(backbone, UNIFORM, {"kinds": [kind]}))]
    if row == "rasa/paper":
        grid = [(grouping, k, {"grouping": grouping, "shared": k}) for grouping, k in RASA_GRID]
        own = counts.trainable(backbone, row)
        readings = [
            named(f"r = 64, k = {k}, pooled by {grouping}", counts.trainable(backbone, row, changes))
            for grouping, k, changes in grid
        ]
        return [reading for reading in readings if reading.value != own]
    if row == "shira/paper":
        return [
            named(
                name,
                sum(round(fraction * s.weights) for s in counts.sites(backbone) if upsampling or not s.upsampling),
            )
            for name, fraction, upsampling in SHIRA_FRACTIONS
        ]
    return []


def _uniform_ranks(counts: Counts, backbone: str) -> dict[str, int]:
    """Return the budget of Algorithm 1 taken literally: the sum of the ranks of lora/r8."""
    sites = [site for site in counts.sites(backbone) if not site.upsampling and not site.grouped]
    return {"ranks": counts.matrix.variant(UNIFORM).options["rank"] * len(sites)}


def _share_checks(reader: Reader) -> Iterator[TableCheck]:
    for line in reader.lines("table2"):
        _, printed = split_share(line["parameters"])
        if printed:
            yield TableCheck(
                _id("table2", line, "share"),
                SHARES,
                "Table 2",
                f"{line['label']}, share of the parameters",
                printed,
                cell_of("table2", line, "parameters"),
                "trainable over total parameters; the printed count over 11.0M",
                partial(_judge_share, line=line),
            )
    for line in reader.lines("table2", row=UNADAPTED):
        yield TableCheck(
            "table2/denominator",
            SHARES,
            "Table 2",
            "the shares are of the baseline's parameters",
            line["parameters"],
            cell_of("table2", line, "parameters"),
            "the denominators that round every count to its share",
            partial(_judge_denominator, line=line),
        )


def _judge_share(counts: Counts, reader: Reader, line: Line) -> Outcome:
    count = counts.trainable(line["backbone"], _rows(line)[0])
    total = counts.total(line["backbone"])
    readings = [
        literal(f"{_rows(line)[0]} of the true total", share(count, total)),
        named(
            "a denominator of 11.0M",
            share(reader.number("table2", line["label"], "parameters"), PERCENT_DENOMINATOR),
        ),
    ]
    return equal(reader.share("table2", line["label"], "parameters"), readings)


def _judge_denominator(counts: Counts, reader: Reader, line: Line) -> Outcome:
    """Judge whether the model's printed size is a denominator that gives every share of Table 2."""
    printed = reader.printed("table2", line["label"], "parameters")
    labels = [line["label"] for line in reader.lines("table2") if "(" in line["parameters"]]
    cells = [
        (reader.number("table2", label, "parameters"), reader.share("table2", label, "parameters")) for label in labels
    ]
    exact = [
        (Fraction(counts.trainable(SWINIR, line["row"])), reader.share("table2", line["label"], "parameters"))
        for line in reader.lines("table2")
        if line["row"].startswith("lora/")
    ]
    low, high = _common_denominators(cells)
    computed = (
        ("denominators that fit the printed counts", _millions(low, high)),
        ("denominators that fit the exact counts", _millions(*_common_denominators(exact))),
        ("parameters of the backbone", f"{counts.total(SWINIR):,}"),
    )
    half = printed.step / 2
    if low <= high and low < printed.value + half and high >= printed.value - half:
        return Outcome("reproduced", "", computed, f"The shares of Table 2 fit a model of {printed.text} parameters.")
    if low > high:
        return Outcome("contradicted", "", computed, "No single denominator gives all shares of Table 2.")
    sentence = f"The shares are of {_millions(low, high)}, not of {printed.text} ({counts.total(SWINIR):,} parameters)."
    return Outcome("contradicted", "", computed, sentence)


def _common_denominators(cells: list[tuple[Fraction, Printed]]) -> tuple[Fraction, Fraction]:
    """Return the smallest and largest denominator that round every count to its share; if none does, smallest > largest."""
    lows = [100 * count / (printed.value + printed.step / 2) for count, printed in cells]
    highs = [100 * count / max(printed.value - printed.step / 2, printed.step / 1000) for count, printed in cells]
    return max(lows), min(highs)


def _millions(low: Fraction, high: Fraction) -> str:
    return f"{float(low) / 1e6:.3f}M to {float(high) / 1e6:.3f}M" if low <= high else "none"


def _inference_checks(reader: Reader) -> Iterator[TableCheck]:
    for line in reader.lines("table3"):
        if line.get("row"):
            yield TableCheck(
                _id("table3", line, "inference-parameters"),
                INFERENCE,
                "Table 3",
                f"{line['label']}, parameters at inference",
                line["inference_parameters"],
                cell_of("table3", line, "inference_parameters"),
                "parameters that the merged model has beyond the backbone's",
                partial(_judge_inference, line=line),
            )


def _judge_inference(counts: Counts, reader: Reader, line: Line) -> Outcome:
    printed = reader.printed("table3", line["label"], "inference_parameters")
    backbone, row = line["backbone"], _rows(line)[0]
    total = counts.total(backbone)
    if row == UNADAPTED:
        return equal(printed, [literal(f"the {backbone} backbone", total)])
    added = counts.added_at_inference(backbone, row)
    readings = [
        literal(f"added by {row} once merged", added),
        named("the merged model in all", total + added),
    ]
    return equal(printed, readings)


def _cross_checks(reader: Reader) -> Iterator[TableCheck]:
    """Yield checks of rows, backbones and datasets that two tables share; Table 2 prints the most digits."""
    for table in ("table1", "table3"):
        for line in reader.lines(table):
            for other in reader.lines("table2"):
                if line["row"] and all(line[key] == other[key] for key in ("row", "backbone", "dataset")):
                    yield from (_cross_check(table, line, other, metric) for metric in METRICS if line.get(metric))


def _cross_check(table: str, line: Line, other: Line, metric: str) -> TableCheck:
    def judge(counts: Counts, reader: Reader) -> Outcome:
        value = reader.number("table2", other["label"], metric, other["dataset"])
        printed = reader.printed(table, line["label"], metric, line["dataset"])
        return equal(printed, [literal(f"Table 2, {other['label']}", value)])

    return TableCheck(
        _id(table, line, metric),
        CROSS,
        f"{_title(table)} and Table 2",
        f"{line['label']}, {TITLES[metric]} on {DATASETS[line['dataset']]}",
        line[metric],
        cell_of(table, line, metric),
        "the same row of Table 2",
        judge,
    )
