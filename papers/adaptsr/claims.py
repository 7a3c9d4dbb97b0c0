"""How each number and statement of the paper is checked: what is computed from what, and by which rule it is judged."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from adaptsr.adaptation.lora import cost_per_rank

from .counting import Counts
from .printed import Printed, parse_range, parse_set, parse_shape
from .rules import (
    Comparison,
    Outcome,
    Reading,
    Relation,
    bounded,
    equal,
    literal,
    named,
    ordered,
    origin,
    same,
    unnamed,
    within,
)
from .sources import Reader

SWINIR = "swinir"
ADAPTSR = "AdaptSR (Ours)"
ADAPTSR_GAN = "AdaptSR-GAN (Ours)"
OSEDIFF = "OSDiff"
GAN = ("RealESRGAN", "LDL", "DASR", "Real-SAFMN-L")
DIFFUSION = ("StableSR", "DiffBIR", "ResShift", "SeeSR", "PASD", "SinSR", OSEDIFF, "PiSA-SR")
FINETUNED = ("EDSR", "SAFMN", "SwinIR", "DRCT")
METRICS = ("psnr_y", "ssim_y", "lpips", "dists")
TITLES = {"psnr_y": "PSNR", "ssim_y": "SSIM", "lpips": "LPIPS", "dists": "DISTS"}
DATASETS = {"div2k": "DIV2K", "realsr": "RealSR", "drealsr": "DRealSR"}
HOURS_PER_DAY = 24
TIMED = {"swinir": "SwinIR", "safmn": "SAFMN"}
"""The backbones of Figure 6."""

UNIFORM = "lora/r8"
PERCENT_DENOMINATOR = Fraction(11_000_000)
"""What the shares of Table 2 are found to be of; no count of the backbone."""
SIMILAR = Fraction(5, 100)
"""The paper puts no number on "similar performance"; a metric worse by more than this share is not similar here."""

Check = Callable[[Counts, Reader, str], Outcome]


@dataclass(frozen=True)
class TextCheck:
    """The check of one line of `claims.csv`: where it is shown, what is computed, and the function that judges it."""

    group: str
    how: str
    judge: Check


def share(part: int | Fraction, whole: int | Fraction) -> Fraction:
    """Per cent."""
    return 100 * Fraction(part) / Fraction(whole)


def fewer(part: int | Fraction, whole: int | Fraction) -> Fraction:
    """By how many per cent `part` is less than `whole`."""
    return 100 - share(part, whole)


def show_hours(hours: Fraction) -> str:
    return f"{float(hours):g} h"


def show_share(share: Fraction) -> str:
    return f"{100 * float(share):.1f}%"


def show_count(count: Fraction) -> str:
    return f"{int(count):,}"


def show_db(value: Fraction) -> str:
    return f"{float(value):g} dB"


def show_score(value: Fraction) -> str:
    return f"{float(value):.4f}"


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
    """GPU hours of `adaptation` or `finetuning` on a backbone (Figure 6)."""
    return reader.claim(f"{what}-hours-{name}").value


def _training_cost(counts: Counts, reader: Reader, id: str) -> Outcome:
    """The most favourable of hours and iterations: the text says "up to"."""
    hours = {
        title: fewer(_hours(reader, "adaptation", name), _hours(reader, "finetuning", name))
        for name, title in TIMED.items()
    }
    iterations = fewer(reader.claim("adaptation-iterations").value, reader.claim("finetuning-iterations").value)
    saved = {"iterations": iterations, **{f"GPU hours on {title}": value for title, value in hours.items()}}
    best = max(saved, key=lambda name: saved[name])
    rest = [named(name, value) for name, value in saved.items() if name != best]
    return equal(reader.claim(id), [literal(best, saved[best]), *rest])


def _average_share(counts: Counts, reader: Reader, id: str) -> Outcome:
    backbones = list(counts.matrix.profile.backbones)
    shares = {name: share(counts.trainable(name, UNIFORM), counts.total(name)) for name in backbones}
    mean = sum(shares.values(), Fraction(0)) / len(shares)
    readings = [
        literal(f"mean of {UNIFORM} over {len(shares)} backbones", mean),
        *(origin(f"{UNIFORM} on {name}", value) for name, value in shares.items()),
        origin(f"{UNIFORM} on {SWINIR} over 11.0M", share(counts.trainable(SWINIR, UNIFORM), PERCENT_DENOMINATOR)),
    ]
    return equal(reader.claim(id), readings)


def _budget_share(counts: Counts, reader: Reader, id: str) -> Outcome:
    count = counts.trainable(SWINIR, UNIFORM)
    readings = [
        literal(f"{UNIFORM} of the true total", share(count, counts.total(SWINIR))),
        named("a denominator of 11.0M", share(count, PERCENT_DENOMINATOR)),
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


def _as_table(table: str, label: str, column: str = "parameters") -> Check:
    """A number of the text against the same number of a table, both as printed."""

    def judge(counts: Counts, reader: Reader, id: str) -> Outcome:
        name = f"Table {table[-1]}, {label}"
        return equal(reader.claim(id), [literal(name, reader.number(table, label, column))])

    return judge


def _counted(row: str) -> Check:
    def judge(counts: Counts, reader: Reader, id: str) -> Outcome:
        return equal(reader.claim(id), [named(row, counts.trainable(SWINIR, row))])

    return judge


def _as_the_text_says(row: str, baseline: str = UNIFORM) -> Check:
    """The count of the form that a sentence describes; that of the form behind the printed number explains it."""

    def judge(counts: Counts, reader: Reader, id: str) -> Outcome:
        readings = [
            literal(row, counts.trainable(SWINIR, row)),
            origin(baseline, counts.trainable(SWINIR, baseline)),
        ]
        return equal(reader.claim(id), readings)

    return judge


def _all_as_written(counts: Counts, reader: Reader, id: str) -> Outcome:
    """The three sentences above taken together."""
    written = {"factorization": "1x1-kxk", "qkv": "separate"}
    readings = [
        literal("lora/r8 with all three", counts.trainable(SWINIR, UNIFORM, {**written, "biases": False})),
        named("lora/r8 with these two and biases", counts.trainable(SWINIR, UNIFORM, written)),
        origin(UNIFORM, counts.trainable(SWINIR, UNIFORM)),
    ]
    return equal(reader.claim(id), readings)


TABLE4 = {"Convs, LoRA": "conv", "MLPs, LoRA": "mlp", "MSAs, LoRA": "attention"}


def _table4_rank(counts: Counts, reader: Reader, id: str) -> Outcome:
    """The ranks at which all three LoRA counts of Table 4 come out, with the biases trained or not."""
    sites = [site for site in counts.sites(SWINIR) if not site.upsampling and not site.grouped]
    printed = {kind: reader.printed("table4", label, "parameters") for label, kind in TABLE4.items()}
    costs = {kind: sum(cost_per_rank(site, "loralib") for site in sites if site.kind == kind) for kind in printed}
    biases = {kind: sum(site.out_features for site in sites if site.kind == kind and site.bias) for kind in printed}
    fitting = [
        rank
        for rank in range(1, 65)
        if any(
            all(
                number.matches(Fraction(rank * costs[kind] + trained * biases[kind]))
                for kind, number in printed.items()
            )
            for trained in (0, 1)
        )
    ]
    claimed = parse_set(reader.claim_text(id), reader.where(id))
    return same("ranks up to 64 that give all three counts", claimed, fitting, ", ")


def _mlp_shape(counts: Counts, reader: Reader, id: str) -> Outcome:
    first = next(site for site in counts.sites(SWINIR) if site.role == "fc1")
    sizes = {"d": first.in_features, "d_mlp": first.out_features}
    claimed = parse_shape(reader.claim_text(id), sizes, reader.where(id))
    return same(f"shape of {first.name} of {SWINIR}", claimed, first.shape, " x ")


def _attention_shape(counts: Counts, reader: Reader, id: str) -> Outcome:
    """Shape of the product B A from the shapes that the text gives its factors."""
    width = next(site for site in counts.sites(SWINIR) if site.role == "qkv").in_features
    heads = counts.matrix.profile.backbones[SWINIR].options["num_heads"][0]
    sizes = {"d": width, "d_k": width // heads, "r": 8}
    b = parse_shape(reader.claim_text("attention-b-shape"), sizes, reader.where("attention-b-shape"))
    a = parse_shape(reader.claim_text("attention-a-shape"), sizes, reader.where("attention-a-shape"))
    claimed = parse_shape(reader.claim_text(id), sizes, reader.where(id))
    return same(f"shape of B A for d = {width} and {heads} heads", claimed, (b[0], a[1]), " x ")


def _gain(reader: Reader, label: str, dataset: str, ours: str = ADAPTSR) -> Fraction:
    """By how many dB PSNR our row of Table 1 is above another."""
    return reader.number("table1", ours, "psnr_y", dataset) - reader.number("table1", label, "psnr_y", dataset)


def _lpips_gain(reader: Reader, label: str, ours: str = ADAPTSR, metric: str = "lpips") -> Fraction:
    """By how many per cent our LPIPS (or DISTS) on RealSR is below another's."""
    return fewer(reader.number("table1", ours, metric, "realsr"), reader.number("table1", label, metric, "realsr"))


def _gain_over_gan(counts: Counts, reader: Reader, id: str) -> Outcome:
    gains = {label: _gain(reader, label, "realsr") for label in GAN}
    best = max(gains, key=lambda label: gains[label])
    rest = [origin(f"the gain over {label}", value) for label, value in gains.items() if label != best]
    return equal(reader.claim(id), [literal(f"the largest gain, over {best}", gains[best]), *rest])


def _lpips_over_gan(counts: Counts, reader: Reader, id: str) -> Outcome:
    printed = reader.claim(id)
    points = 100 * (
        reader.number("table1", "LDL", "lpips", "realsr") - reader.number("table1", ADAPTSR_GAN, "lpips", "realsr")
    )
    readings = [
        *(literal(f"AdaptSR below {label}", _lpips_gain(reader, label)) for label in GAN),
        origin("AdaptSR-GAN below LDL in hundredths of LPIPS", points),
    ]
    return equal(printed, readings)


def _gain_over_osediff(dataset: str, *explanations: tuple[str, str]) -> Check:
    def judge(counts: Counts, reader: Reader, id: str) -> Outcome:
        readings = [literal("Table 1's difference", _gain(reader, OSEDIFF, dataset))]
        readings += [
            origin(f"the gain over {label} on {DATASETS[other]}", _gain(reader, label, other))
            for label, other in explanations
        ]
        return equal(reader.claim(id), readings)

    return judge


def _gains_psnr(counts: Counts, reader: Reader, id: str) -> Outcome:
    low, high = parse_range(reader.claim_text(id), reader.where(id))
    return within(low, high, {label: _gain(reader, label, "realsr") for label in (*GAN, *DIFFUSION)})


def _gains_perceptual(counts: Counts, reader: Reader, id: str) -> Outcome:
    readings: list[Reading] = []
    for metric in ("lpips", "dists"):
        gains = [_lpips_gain(reader, label, metric=metric) for label in (*GAN, *DIFFUSION)]
        readings.append(named(f"mean {TITLES[metric]} gain on RealSR", sum(gains, Fraction(0)) / len(gains)))
        names = (f"{TITLES[metric]} against {label}" for label in (*GAN, *DIFFUSION))
        readings += [named(name, gain) for name, gain in zip(names, gains, strict=True)]
    return unnamed(reader.claim(id), readings)


def _psnr_against_peft(counts: Counts, reader: Reader, id: str) -> Outcome:
    readings = [
        literal("Table 3, AdaptSR", reader.number("table3", ADAPTSR, "psnr_y")),
        origin("uniform r = 8 in Table 2", reader.number("table2", "r = 8", "psnr_y")),
    ]
    return equal(reader.claim(id), readings)


def _rank_aware_gain(counts: Counts, reader: Reader, id: str) -> Outcome:
    gain = reader.number("table2", "Rank-Aware", "psnr_y") - reader.number("table2", "r = 8", "psnr_y")
    return equal(reader.claim(id), [literal("Table 2, Rank-Aware minus r = 8", gain)])


def _significance(counts: Counts, reader: Reader, id: str) -> Outcome:
    """Two-sided paired t-test from the mean, standard deviation and number of seeds that the text gives."""
    from scipy.stats import t

    mean, sd = reader.claim("rank-aware-gain").value, reader.claim("rank-aware-sd").value
    seeds = int(reader.claim("rank-aware-seeds").value)
    statistic = float(mean / sd) * math.sqrt(seeds)
    p = Fraction(2 * float(t.sf(abs(statistic), seeds - 1)))
    return bounded(reader.claim(id), "<", {f"two-sided p at t = {statistic:.1f}, {seeds - 1} degrees of freedom": p})


def _rank1_recovers(counts: Counts, reader: Reader, id: str) -> Outcome:
    base, full, rank1 = (reader.number("table2", label, "psnr_y") for label in ("Baseline", "+ FineTuning", "r = 1"))
    readings = [
        literal("r = 1 over full fine-tuning, dB over dB", share(rank1, full)),
        named("the gain of r = 1 over the gain of full fine-tuning", share(rank1 - base, full - base)),
    ]
    return equal(reader.claim(id), readings)


def _faster(counts: Counts, reader: Reader, id: str) -> Outcome:
    low, high = parse_range(reader.claim_text(id), reader.where(id))
    iterations = reader.claim("finetuning-iterations").value / reader.claim("adaptation-iterations").value
    hours = {
        f"GPU hours on {title}": _hours(reader, "finetuning", name) / _hours(reader, "adaptation", name)
        for name, title in TIMED.items()
    }
    return within(low, high, {"iterations": iterations, **hours})


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


def _gpu_hours(counts: Counts, reader: Reader, id: str) -> Outcome:
    low, high = parse_range(reader.claim_text(id), reader.where(id))
    return within(low, high, {title: _hours(reader, "adaptation", name) for name, title in TIMED.items()})


def _ranks(counts: Counts, reader: Reader, id: str) -> Outcome:
    labels = [line["label"] for line in reader.lines("table2") if line["label"].startswith("r = ")]
    claimed = parse_set(reader.claim_text(id), reader.where(id))
    return same("ranks with a row in Table 2", claimed, [int(label.removeprefix("r = ")) for label in labels], ", ")


def _against(
    reader: Reader,
    table: str,
    ours: str,
    relation: Relation,
    theirs: str,
    metric: str,
    dataset: str | None = None,
) -> Comparison:
    """Two cells of one table's column."""
    return Comparison(
        f"{ours} {TITLES[metric]}{f' on {DATASETS[dataset]}' if dataset else ''}",
        reader.number(table, ours, metric, dataset),
        relation,
        theirs,
        reader.number(table, theirs, metric, dataset),
        show_db if metric == "psnr_y" else show_score,
    )


def _module(ours: str, relation: Relation, theirs: str, metric: str) -> Check:
    """Two cells of Table 4."""

    def judge(counts: Counts, reader: Reader, id: str) -> Outcome:
        return ordered([_against(reader, "table4", ours, relation, theirs, metric)])

    return judge


def _msas_similar(counts: Counts, reader: Reader, id: str) -> Outcome:
    """Neither metric worse than fine-tuning's by more than `SIMILAR`."""
    ours, theirs = "MSAs, LoRA", "MSAs, FT"
    losses = {
        "PSNR": 1 - reader.number("table4", ours, "psnr_y") / reader.number("table4", theirs, "psnr_y"),
        "LPIPS": reader.number("table4", ours, "lpips") / reader.number("table4", theirs, "lpips") - 1,
    }
    return ordered(
        [Comparison(f"loss of {name}", loss, "<=", "the limit", SIMILAR, show_share) for name, loss in losses.items()]
    )


def _matches_finetuning(dataset: str) -> Check:
    def judge(counts: Counts, reader: Reader, id: str) -> Outcome:
        return ordered([_against(reader, "table1", ADAPTSR, ">=", label, "psnr_y", dataset) for label in FINETUNED])

    return judge


def _outperforms(metric: str) -> Check:
    def judge(counts: Counts, reader: Reader, id: str) -> Outcome:
        return ordered(
            [
                _against(reader, "table1", ADAPTSR, ">", label, metric, dataset)
                for dataset in DATASETS
                for label in (*GAN, *DIFFUSION)
            ]
        )

    return judge


def _better(metric: str) -> Relation:
    return ">" if metric in ("psnr_y", "ssim_y") else "<"


def _rank_aware_against(*labels: str) -> Check:
    def judge(counts: Counts, reader: Reader, id: str) -> Outcome:
        return ordered(
            [
                _against(reader, "table2", "Rank-Aware", _better(metric), label, metric)
                for label in labels
                for metric in METRICS
            ]
        )

    return judge


def _table3_others(reader: Reader, start: str = "") -> list[str]:
    labels = [line["label"] for line in reader.lines("table3")]
    return [label for label in labels if label.startswith(start) and label != ADAPTSR]


def _most_arc(counts: Counts, reader: Reader, id: str) -> Outcome:
    variants = _table3_others(reader, "ARC")
    return ordered([_against(reader, "table3", ADAPTSR, ">", label, "psnr_y") for label in variants], "most")


def _beats_difffit(counts: Counts, reader: Reader, id: str) -> Outcome:
    return ordered([_against(reader, "table3", ADAPTSR, ">", "DiffFit", metric) for metric in ("psnr_y",)])


def _fewer_than_arc(counts: Counts, reader: Reader, id: str) -> Outcome:
    ours, full = (
        reader.number("table3", ADAPTSR, "parameters"),
        reader.number("table3", "Fine-Tuning", "parameters"),
    )
    others = {"ARC (svd500)": reader.number("table3", "ARC (svd500)", "parameters"), "Fine-Tuning": full}
    return ordered([Comparison(ADAPTSR, ours, "<", label, count, show_count) for label, count in others.items()])


def _lowest_lpips(counts: Counts, reader: Reader, id: str) -> Outcome:
    return ordered([_against(reader, "table3", ADAPTSR, "<", label, "lpips") for label in _table3_others(reader)])


RATIOS = "Percentages and ratios"
FORMS = "What the text describes against what was counted"
NUMBERS = "The text's numbers against the tables"
STATEMENTS = "The text's statements against the tables"

UNIFORM_ROWS = ("r = 1", "r = 4", "r = 8", "r = 16", "r = 64")

TEXT_CHECKS: Mapping[str, TextCheck] = {
    "reduction": TextCheck(RATIOS, "100% minus the trainable share of lora/r8", _reduction),
    "training-cost": TextCheck(
        RATIOS, "100% minus adaptation's share of fine-tuning's iterations or hours", _training_cost
    ),
    "average-share": TextCheck(RATIOS, "trainable share of lora/r8, mean over the backbones", _average_share),
    "budget-share": TextCheck(RATIOS, "trainable share of lora/r8 on SwinIR", _budget_share),
    "fewer-than-realesrgan": TextCheck(RATIOS, "Table 1's parameters over those of lora/r8", _times_ours("RealESRGAN")),
    "fewer-than-ldl": TextCheck(RATIOS, "Table 1's parameters over those of lora/r8", _times_ours("LDL")),
    "osediff-larger": TextCheck(RATIOS, "Table 1's parameters over those of lora/r8", _times_ours(OSEDIFF)),
    "over-600m": TextCheck(NUMBERS, "Table 1's parameters of SeeSR and PASD", _over_600m),
    "seesr-parameters": TextCheck(NUMBERS, "Table 1's parameters", _as_table("table1", "SeeSR")),
    "osediff-parameters": TextCheck(NUMBERS, "Table 1's parameters", _as_table("table1", OSEDIFF)),
    "pasd-parameters": TextCheck(NUMBERS, "Table 1's parameters", _as_table("table1", "PASD")),
    "text-parameters": TextCheck(FORMS, "trainable parameters of lora/r8 on SwinIR", _counted(UNIFORM)),
    "eq2-factorization": TextCheck(
        FORMS, "trainable parameters with the factorization of Eq. (2)", _as_the_text_says("lora/r8-1x1-kxk")
    ),
    "only-a-and-b": TextCheck(FORMS, "trainable parameters without biases", _as_the_text_says("lora/r8-nobias")),
    "separate-qkv": TextCheck(
        FORMS,
        "trainable parameters with factors of their own for q, k and v",
        _as_the_text_says("lora/r8-separate-qkv"),
    ),
    "all-as-written": TextCheck(
        FORMS,
        "trainable parameters with Eq. (2)'s factorization, factors of their own for q, k and v, no biases",
        _all_as_written,
    ),
    "table4-rank": TextCheck(
        FORMS, "the ranks, with or without biases, that give Table 4's three LoRA counts", _table4_rank
    ),
    "mlp-shape": TextCheck(FORMS, "shape of the MLP's first layer", _mlp_shape),
    "attention-shape": TextCheck(FORMS, "shape of B A from the shapes the text gives B and A", _attention_shape),
    "gain-gan": TextCheck(
        NUMBERS, "AdaptSR's PSNR minus that of each GAN-based method, Table 1, RealSR", _gain_over_gan
    ),
    "lpips-gan": TextCheck(
        NUMBERS,
        "AdaptSR's LPIPS, per cent below that of each GAN-based method, Table 1, RealSR",
        _lpips_over_gan,
    ),
    "gain-osediff-div2k": TextCheck(NUMBERS, "difference of PSNR in Table 1", _gain_over_osediff("div2k")),
    "gain-osediff-realsr": TextCheck(
        NUMBERS, "difference of PSNR in Table 1", _gain_over_osediff("realsr", ("LDL", "realsr"))
    ),
    "gain-osediff-drealsr": TextCheck(
        NUMBERS, "difference of PSNR in Table 1", _gain_over_osediff("drealsr", ("RealESRGAN", "realsr"))
    ),
    "gains-psnr": TextCheck(
        NUMBERS, "AdaptSR's PSNR minus that of each GAN or diffusion method, Table 1, RealSR", _gains_psnr
    ),
    "gains-perceptual": TextCheck(
        NUMBERS,
        "AdaptSR's LPIPS and DISTS, per cent below those of each GAN or diffusion method, Table 1, RealSR",
        _gains_perceptual,
    ),
    "psnr-against-peft": TextCheck(NUMBERS, "AdaptSR's PSNR in Table 3", _psnr_against_peft),
    "rank-aware-gain": TextCheck(NUMBERS, "difference of PSNR in Table 2", _rank_aware_gain),
    "rank-aware-significance": TextCheck(
        NUMBERS, "two-sided paired t-test from the printed mean, deviation and seeds", _significance
    ),
    "rank1-recovers": TextCheck(NUMBERS, "PSNR of r = 1 over that of full fine-tuning, Table 2", _rank1_recovers),
    "faster": TextCheck(RATIOS, "fine-tuning's iterations and hours over adaptation's", _faster),
    "days-to-hours": TextCheck(STATEMENTS, "fine-tuning's hours in Figure 6 against one day", _days_to_hours),
    "gpu-hours": TextCheck(NUMBERS, "adaptation's hours in Figure 6", _gpu_hours),
    "ranks-swept": TextCheck(NUMBERS, "the uniform ranks that Table 2 has", _ranks),
    "ranks-caption": TextCheck(NUMBERS, "the uniform ranks that Table 2 has", _ranks),
    "convs-lora-parameters": TextCheck(NUMBERS, "Table 4's parameters", _as_table("table4", "Convs, LoRA")),
    "convs-ft-parameters": TextCheck(NUMBERS, "Table 4's parameters", _as_table("table4", "Convs, FT")),
    "mlps-lora-parameters": TextCheck(NUMBERS, "Table 4's parameters", _as_table("table4", "MLPs, LoRA")),
    "mlps-ft-parameters": TextCheck(NUMBERS, "Table 4's parameters", _as_table("table4", "MLPs, FT")),
    "convs-psnr": TextCheck(STATEMENTS, "PSNR in Table 4", _module("Convs, LoRA", ">", "Convs, FT", "psnr_y")),
    "mlps-psnr": TextCheck(STATEMENTS, "PSNR in Table 4", _module("MLPs, LoRA", ">", "MLPs, FT", "psnr_y")),
    "mlps-perceptual": TextCheck(
        STATEMENTS, "LPIPS in Table 4, where higher is worse", _module("MLPs, LoRA", ">", "MLPs, FT", "lpips")
    ),
    "msas-similar": TextCheck(
        STATEMENTS, "PSNR and LPIPS in Table 4; similar: none worse by more than 5%", _msas_similar
    ),
    **{
        f"matches-finetuning-{dataset}": TextCheck(
            STATEMENTS,
            "AdaptSR's PSNR against four fine-tuned backbones, Table 1",
            _matches_finetuning(dataset),
        )
        for dataset in DATASETS
    },
    "outperforms-psnr": TextCheck(
        STATEMENTS,
        "AdaptSR against twelve GAN and diffusion methods on three datasets, Table 1",
        _outperforms("psnr_y"),
    ),
    "outperforms-ssim": TextCheck(
        STATEMENTS,
        "AdaptSR against twelve GAN and diffusion methods on three datasets, Table 1",
        _outperforms("ssim_y"),
    ),
    "rank-aware-better": TextCheck(STATEMENTS, "four metrics in Table 2", _rank_aware_against("r = 8")),
    "rank-aware-consistent": TextCheck(
        STATEMENTS, "four metrics against five uniform ranks, Table 2", _rank_aware_against(*UNIFORM_ROWS)
    ),
    "most-arc": TextCheck(
        STATEMENTS, "AdaptSR's PSNR against the six ARC rows of Table 3; most: more than half", _most_arc
    ),
    "beats-difffit": TextCheck(STATEMENTS, "AdaptSR's PSNR against DiffFit's, Table 3", _beats_difffit),
    "fewer-than-arc": TextCheck(STATEMENTS, "updated parameters in Table 3", _fewer_than_arc),
    "lowest-lpips": TextCheck(STATEMENTS, "AdaptSR's LPIPS against all other rows of Table 3", _lowest_lpips),
}


def denominator(counts: Counts, reader: Reader, printed: Printed) -> Outcome:
    """Which denominators give every share of Table 2, and whether the printed size of the model is one of them."""
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
    """The smallest and largest denominator that round every count to its share; the first above the second: none does."""
    lows = [100 * count / (printed.value + printed.step / 2) for count, printed in cells]
    highs = [100 * count / max(printed.value - printed.step / 2, printed.step / 1000) for count, printed in cells]
    return max(lows), min(highs)


def _millions(low: Fraction, high: Fraction) -> str:
    return f"{float(low) / 1e6:.3f}M to {float(high) / 1e6:.3f}M" if low <= high else "none"
