"""Check the cells of the paper's tables: parameters, shares, parameters at inference, and tables against each other."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from itertools import product

from adaptsr.config.schema import UNADAPTED

from .claims.common import DATASETS, METRICS, SWINIR, TITLES, UNIFORM, share
from .counting import Counts
from .printed import NOTHING, Printed, round_to, split_share
from .rules import REPEATED, Limit, Outcome, Reading, equal, literal, named
from .shares import common_denominators, implied_share, printed_shares
from .sources import TABLES, Cell, Line, Reader, cell_of

PARAMETERS = "Parameter counts"
SHARES = "Shares of Table 2"
INFERENCE = "Parameters at inference"
CROSS = "The tables against each other"

FULL = "full_finetuning/all"
RANDOM = "rank_aware/random"
COUNTED_AS = dict.fromkeys(("rank_aware/gradient", "rank_aware/gan"), RANDOM)
"""Gradient scores need data; random scores fill the same budget."""
RASA_GRID = tuple(product(("stage", "shape"), (1, 2, 4, 8, 16)))
SHIRA_STEP = Fraction(1, 1000)
"""Fractions of the weights that SHiRA may train, as far as the search for the printed count goes."""
CIRCULAR = Limit(
    "by construction", "This suite sets the budget to the count of lora/r8, so that agreement says nothing."
)
PLACED = {"arc": " in the placement of the authors' ViT code"}
KINDS = ("conv", "mlp", "attention")


@dataclass(frozen=True)
class TableCheck:
    """The check of one printed cell, `source`; `published` is its text, or the judged part of it."""

    id: str
    group: str
    place: str
    subject: str
    published: str
    source: Cell
    how: str
    judge: Callable[[Counts, Reader], Outcome]
    limit: Limit | None = None


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
    counted: set[tuple[str, ...]] = set()
    for table in TABLES:
        for line in _ours(reader, table):
            if line["parameters"] == NOTHING:
                continue
            id = _id(table, line, "parameters")
            if id in seen:
                id += f"-{line['dataset']}"
            seen.add(id)
            backbone, printed = line["backbone"], split_share(line["parameters"])[0]
            whole = line["row"] == UNADAPTED or (table == "table1" and line["row"] == FULL)
            # Full fine-tuning trains the whole backbone by definition.
            count = (backbone, UNADAPTED if line["row"] == FULL else line["row"], printed.removeprefix("+"))
            limit = REPEATED if count in counted else None
            counted.add(count)
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
                printed,
                cell_of(table, line, "parameters"),
                how,
                partial(_judge_count, table=table, line=line, whole=whole),
                CIRCULAR if line["row"] in COUNTED_AS else limit,
            )


def _judge_count(counts: Counts, reader: Reader, table: str, line: Line, whole: bool) -> Outcome:
    printed = reader.printed(table, line["label"], "parameters", line["dataset"])
    if whole:
        return equal(printed, [literal(f"the {line['backbone']} backbone", counts.total(line["backbone"]))])
    return equal(printed, _count_readings(counts, line["backbone"], _rows(line), printed))


def _count_readings(counts: Counts, backbone: str, rows: Sequence[str], printed: Printed) -> list[Reading]:
    """Return the rows that the published line names, then other readings that the paper may have counted."""
    readings = [named(row, counts.trainable(backbone, row)) for row in rows]
    for row in rows:
        readings += _alternatives(counts, backbone, row, printed)
    return readings


def _alternatives(counts: Counts, backbone: str, row: str, printed: Printed) -> list[Reading]:
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
        weights = counts.sites(backbone)
        return [
            *_shira_fraction(printed, "all weights but upsampling", [s.weights for s in weights if not s.upsampling]),
            *_shira_fraction(printed, "all weights", [s.weights for s in weights]),
        ]
    return []


def _shira_fraction(printed: Printed, what: str, weights: Sequence[int]) -> list[Reading]:
    """Return the reading that a round fraction of these layers' weights trains, if one gives the printed count."""
    fraction = round_to(printed.value / sum(weights), SHIRA_STEP)
    count = fraction * sum(weights)
    return [named(f"{float(100 * fraction):.1f}% of {what}", count)] if printed.matches(count) else []


def _uniform_ranks(counts: Counts, backbone: str) -> dict[str, int]:
    """Return the budget of Algorithm 1 taken literally: the sum of the ranks of lora/r8."""
    sites = [site for site in counts.sites(backbone) if not site.upsampling and not site.grouped]
    return {"ranks": counts.matrix.variant(UNIFORM).options["rank"] * len(sites)}


def _share_checks(reader: Reader) -> Iterator[TableCheck]:
    seen: set[str] = set()
    for line in reader.lines("table2"):
        _, printed = split_share(line["parameters"])
        if printed:
            limit = REPEATED if line["parameters"] in seen else None
            seen.add(line["parameters"])
            yield TableCheck(
                _id("table2", line, "share"),
                SHARES,
                "Table 2",
                f"{line['label']}, share of the parameters",
                printed,
                cell_of("table2", line, "parameters"),
                "trainable over total parameters; the printed count over the denominator of the other rows' shares",
                partial(_judge_share, line=line),
                limit,
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
        *implied_share(reader, reader.number("table2", line["label"], "parameters"), but=line["parameters"]),
    ]
    return equal(reader.share("table2", line["label"], "parameters"), readings)


def _judge_denominator(counts: Counts, reader: Reader, line: Line) -> Outcome:
    """Judge whether the model's printed size is a denominator that gives every share of Table 2."""
    printed = reader.printed("table2", line["label"], "parameters")
    exact = [
        (Fraction(counts.trainable(SWINIR, line["row"])), reader.share("table2", line["label"], "parameters"))
        for line in reader.lines("table2")
        if line["row"].startswith("lora/")
    ]
    low, high = common_denominators(printed_shares(reader))
    computed = (
        ("denominators that fit the printed counts", _millions(low, high)),
        ("denominators that fit the exact counts", _millions(*common_denominators(exact))),
        ("parameters of the backbone", f"{counts.total(SWINIR):,}"),
    )
    half = printed.step / 2
    if low <= high and low < printed.value + half and high >= printed.value - half:
        return Outcome("reproduced", "", computed, f"The shares of Table 2 fit a model of {printed.text} parameters.")
    if low > high:
        return Outcome("contradicted", "", computed, "No single denominator gives all shares of Table 2.")
    sentence = f"The shares are of {_millions(low, high)}, not of {printed.text} ({counts.total(SWINIR):,} parameters)."
    return Outcome("contradicted", "", computed, sentence)


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
                "parameters beyond the backbone's, merged into its weights and left unmerged",
                partial(_judge_inference, line=line),
                REPEATED if line["row"] == UNADAPTED else None,
            )


def _judge_inference(counts: Counts, reader: Reader, line: Line) -> Outcome:
    printed = reader.printed("table3", line["label"], "inference_parameters")
    backbone, row = line["backbone"], _rows(line)[0]
    total = counts.total(backbone)
    if row == UNADAPTED:
        return equal(printed, [literal(f"the {backbone} backbone", total)])
    added, beside = counts.added_at_inference(backbone, row), counts.beside(backbone, row)
    readings = [literal(f"{row} merged", added)]
    if row == FULL:
        return equal(printed, [*readings, named("the model in all", total + added)])
    # Where our count is not the printed number of updated parameters, the latter is what stays beside the model.
    updated = reader.printed("table3", line["label"], "parameters")
    counted = updated.matches(Fraction(beside))
    readings.append(
        named("adapters left unmerged", beside)
        if counted
        else named("the printed updated parameters left unmerged", updated.value)
    )
    outcome = equal(printed, readings)
    if added or outcome.verdict != "reproduced with":
        return outcome
    placed = PLACED.get(row.partition("/")[0], "")
    return replace(outcome, sentence=f"{outcome.sentence} Merged{placed}, {row} adds nothing: this cost is avoidable.")


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
        REPEATED,
    )
