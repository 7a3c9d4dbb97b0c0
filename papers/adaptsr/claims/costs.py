"""Check the paper's sizes, shares and times: counts of the model, and hours and iterations of training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

from ..counting import Counts
from ..printed import parse_range
from ..rules import REPEATED, Comparison, Outcome, bounded, equal, literal, named, ordered, origin, unnamed, within
from ..shares import implied_share
from ..sources import Reader
from .common import (
    ADAPTSR,
    NUMBERS,
    OSEDIFF,
    RATIOS,
    STATEMENTS,
    SWINIR,
    UNIFORM,
    Check,
    TextCheck,
    fewer,
    share,
    show_count,
)

HOURS_PER_DAY = 24
TIMED = {"swinir": "SwinIR", "safmn": "SAFMN"}
"""The backbones of Figure 6."""
FORMS_AVERAGED = (UNIFORM, f"{UNIFORM}-1x1-kxk")
"""Our form, whose counts the paper prints for SwinIR, and that of the paper's Eq. (2)."""


def _reduction(counts: Counts, reader: Reader, id: str) -> Outcome:
    reductions = {
        name: fewer(counts.trainable(name, UNIFORM), counts.total(name)) for name in counts.matrix.profile.backbones
    }
    printed_share = reader.share("table2", "Rank-Aware", "parameters")
    others = [origin(f"{UNIFORM} on {name}", value) for name, value in reductions.items() if name != SWINIR]
    readings = [
        literal(f"{UNIFORM} on {SWINIR}, of its true total", reductions[SWINIR]),
        named(f"100% minus Table 2's {printed_share.text}", 100 - printed_share.value),
        *others,
    ]
    return equal(reader.claim(id), readings)


def _hours(reader: Reader, what: str, name: str) -> Fraction:
    """Return the GPU hours of `adaptation` or `finetuning` on a backbone (Figure 6)."""
    return reader.claim(f"{what}-hours-{name}").value


def _training_cost(counts: Counts, reader: Reader, id: str) -> Outcome:
    """Judge the largest saving of hours and iterations: the text says "up to"."""
    hours = {
        title: fewer(_hours(reader, "adaptation", name), _hours(reader, "finetuning", name))
        for name, title in TIMED.items()
    }
    iterations = fewer(reader.claim("adaptation-iterations").value, reader.claim("finetuning-iterations").value)
    saved = {"iterations": iterations, **{f"GPU hours on {title}": value for title, value in hours.items()}}
    best = max(saved, key=lambda name: saved[name])
    rest = [named(name, value) for name, value in saved.items() if name != best]
    printed_share = reader.share("table2", "Rank-Aware", "parameters")
    parameters = origin(f"100% minus Table 2's {printed_share.text} of the parameters", 100 - printed_share.value)
    return equal(reader.claim(id), [literal(best, saved[best]), *rest, parameters])


def _average_share(counts: Counts, reader: Reader, id: str) -> Outcome:
    """Judge a mean that hangs on the form of the adapters: the paper prints trainable counts for SwinIR alone."""
    backbones = list(counts.matrix.profile.backbones)
    readings = [
        named(f"{r.name} on {SWINIR}", r.value) for r in implied_share(reader, counts.trainable(SWINIR, UNIFORM))
    ]
    for row in FORMS_AVERAGED:
        shares = [share(counts.trainable(name, row), counts.total(name)) for name in backbones]
        readings.append(named(f"mean of {row} over {len(shares)} backbones", sum(shares, Fraction(0)) / len(shares)))
        readings += [named(f"{row} on {name}", value) for name, value in zip(backbones, shares, strict=True)]
    return unnamed(reader.claim(id), readings)


def _budget_share(counts: Counts, reader: Reader, id: str) -> Outcome:
    count = counts.trainable(SWINIR, UNIFORM)
    readings = [
        literal(f"{UNIFORM} of the true total", share(count, counts.total(SWINIR))),
        *implied_share(reader, count),
    ]
    return equal(reader.claim(id), readings)


def _times_ours(label: str) -> Check:
    def judge(counts: Counts, reader: Reader, id: str) -> Outcome:
        theirs = reader.number("table1", label, "parameters")
        ratio = theirs / counts.trainable(SWINIR, UNIFORM)
        return equal(reader.claim(id), [literal(f"{label} over {UNIFORM}", ratio)])

    return judge


def _over_600m(counts: Counts, reader: Reader, id: str) -> Outcome:
    values = {label: reader.number("table1", label, "parameters") for label in ("SeeSR", "PASD")}
    return bounded(reader.claim(id), ">", values)


def _faster(counts: Counts, reader: Reader, id: str) -> Outcome:
    low, high = parse_range(reader.claim_text(id), reader.where(id))
    iterations = reader.claim("finetuning-iterations").value / reader.claim("adaptation-iterations").value
    hours = {
        f"GPU hours on {title}": _hours(reader, "finetuning", name) / _hours(reader, "adaptation", name)
        for name, title in TIMED.items()
    }
    return within(low, high, {"iterations": iterations, **hours})


def show_hours(hours: Fraction) -> str:
    return f"{float(hours):g} h"


def _days_to_hours(counts: Counts, reader: Reader, id: str) -> Outcome:
    reader.claim_text(id)
    return ordered(
        [
            Comparison(
                f"fine-tuning {title}",
                _hours(reader, "finetuning", name),
                ">=",
                "one day",
                Fraction(HOURS_PER_DAY),
                show_hours,
            )
            for name, title in TIMED.items()
        ]
    )


def _table2_iterations(counts: Counts, reader: Reader, id: str) -> Outcome:
    """Judge the caption's iterations, which it gives for all rows, by those that Section 4.1 gives."""
    given = {
        "LoRA in Section 4.1": reader.claim("adaptation-iterations").value,
        "full fine-tuning in Section 4.1": reader.claim("finetuning-iterations").value,
    }
    printed = reader.claim(id)
    return within(printed, printed, given)


def _gpu_hours(counts: Counts, reader: Reader, id: str) -> Outcome:
    low, high = parse_range(reader.claim_text(id), reader.where(id))
    return within(low, high, {title: _hours(reader, "adaptation", name) for name, title in TIMED.items()})


def _fewer_than_arc(counts: Counts, reader: Reader, id: str) -> Outcome:
    ours, full = (
        reader.number("table3", ADAPTSR, "parameters"),
        reader.number("table3", "Fine-Tuning", "parameters"),
    )
    others = {"ARC (svd500)": reader.number("table3", "ARC (svd500)", "parameters"), "Fine-Tuning": full}
    return ordered([Comparison(ADAPTSR, ours, "<", label, count, show_count) for label, count in others.items()])


def _arc_overhead(counts: Counts, reader: Reader, id: str) -> Outcome:
    """Judge that ARC adds parameters at inference; merged, it adds none in the placement that can merge."""
    reader.claim_text(id)
    lines = [line for line in reader.lines("table3") if line["row"].startswith("arc/")]
    printed = {line["label"]: reader.number("table3", line["label"], "inference_parameters") for line in lines}
    outcome = ordered(
        [Comparison(label, count, ">", "none", Fraction(0), show_count) for label, count in printed.items()]
    )
    row = lines[0]["row"]
    merged, beside = counts.added_at_inference(SWINIR, row), counts.beside(SWINIR, row)
    computed = (*outcome.computed, (f"{row} merged", str(merged)), (f"{row} left unmerged", f"{beside:,}"))
    if outcome.verdict == "contradicted" or merged:
        return replace(outcome, computed=computed)
    sentence = (
        f"{outcome.sentence} Merged in the placement of the authors' ViT code, {row} adds nothing: this overhead is "
        "avoidable. In that of their Swin code, in front of a normalisation on the residual stream, it cannot merge."
    )
    return Outcome("reproduced with", "adapters left unmerged", computed, sentence)


def _as_table(table: str, label: str, column: str = "parameters") -> Check:
    """Compare a number of the text with the same number of a table, both as printed."""

    def judge(counts: Counts, reader: Reader, id: str) -> Outcome:
        name = f"Table {table[-1]}, {label}"
        return equal(reader.claim(id), [literal(name, reader.number(table, label, column))])

    return judge


CHECKS: Mapping[str, TextCheck] = {
    "reduction": TextCheck(RATIOS, "100% minus the trainable share of lora/r8", _reduction),
    "training-cost": TextCheck(
        RATIOS, "100% minus adaptation's share of fine-tuning's iterations or hours", _training_cost
    ),
    "average-share": TextCheck(
        RATIOS,
        "trainable shares on the four backbones and their mean; the paper prints counts for SwinIR alone",
        _average_share,
    ),
    "budget-share": TextCheck(RATIOS, "trainable share of lora/r8 on SwinIR", _budget_share),
    "fewer-than-realesrgan": TextCheck(RATIOS, "Table 1's parameters over those of lora/r8", _times_ours("RealESRGAN")),
    "fewer-than-ldl": TextCheck(RATIOS, "Table 1's parameters over those of lora/r8", _times_ours("LDL")),
    "osediff-larger": TextCheck(RATIOS, "Table 1's parameters over those of lora/r8", _times_ours(OSEDIFF)),
    "table2-iterations": TextCheck(NUMBERS, "the iterations of Section 4.1", _table2_iterations),
    "text-parameters": TextCheck(NUMBERS, "Table 2's parameters", _as_table("table2", "Rank-Aware"), REPEATED),
    "over-600m": TextCheck(NUMBERS, "Table 1's parameters of SeeSR and PASD", _over_600m),
    "seesr-parameters": TextCheck(NUMBERS, "Table 1's parameters", _as_table("table1", "SeeSR"), REPEATED),
    "osediff-parameters": TextCheck(NUMBERS, "Table 1's parameters", _as_table("table1", OSEDIFF), REPEATED),
    "pasd-parameters": TextCheck(NUMBERS, "Table 1's parameters", _as_table("table1", "PASD"), REPEATED),
    "faster": TextCheck(RATIOS, "fine-tuning's iterations and hours over adaptation's", _faster),
    "days-to-hours": TextCheck(STATEMENTS, "fine-tuning's hours in Figure 6 against one day", _days_to_hours),
    "gpu-hours": TextCheck(NUMBERS, "adaptation's hours in Figure 6", _gpu_hours, REPEATED),
    "convs-lora-parameters": TextCheck(NUMBERS, "Table 4's parameters", _as_table("table4", "Convs, LoRA"), REPEATED),
    "convs-ft-parameters": TextCheck(NUMBERS, "Table 4's parameters", _as_table("table4", "Convs, FT"), REPEATED),
    "mlps-lora-parameters": TextCheck(NUMBERS, "Table 4's parameters", _as_table("table4", "MLPs, LoRA"), REPEATED),
    "mlps-ft-parameters": TextCheck(NUMBERS, "Table 4's parameters", _as_table("table4", "MLPs, FT"), REPEATED),
    "arc-overhead": TextCheck(
        STATEMENTS, "ARC's parameters at inference in Table 3, merged and left unmerged", _arc_overhead
    ),
    "fewer-than-arc": TextCheck(STATEMENTS, "updated parameters in Table 3", _fewer_than_arc),
}
