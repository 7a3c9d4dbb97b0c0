"""Check which method the paper calls better: cells of one table's column against each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

from ..counting import Counts
from ..rules import Comparison, Limit, Outcome, Relation, listed, ordered
from ..sources import Reader
from .common import (
    ADAPTSR,
    DATASETS,
    DIFFUSION,
    GAN,
    METRICS,
    PERCEPTUAL,
    STATEMENTS,
    TITLES,
    Check,
    TextCheck,
    show_count,
)

SAME_BACKBONE = "SwinIR"
"""The fine-tuned row of Table 1 on AdaptSR's own backbone."""
ONE_BASELINE = Limit(
    "consistent", "The figure shows several baselines; the tables print adapted numbers for this one alone."
)
ONE_RUN = Limit("consistent", "Table 2 prints one number a row and no spread.")


def show_db(value: Fraction) -> str:
    return f"{float(value):g} dB"


def show_score(value: Fraction) -> str:
    return f"{float(value):.4f}"


def _against(
    reader: Reader,
    table: str,
    ours: str,
    relation: Relation,
    theirs: str,
    metric: str,
    dataset: str | None = None,
) -> Comparison:
    """Compare two cells of one table's column."""
    return Comparison(
        f"{ours} {TITLES[metric]}{f' on {DATASETS[dataset]}' if dataset else ''}",
        reader.number(table, ours, metric, dataset),
        relation,
        theirs,
        reader.number(table, theirs, metric, dataset),
        show_db if metric == "psnr_y" else show_score,
    )


def _module(ours: str, relation: Relation, theirs: str, metric: str) -> Check:
    """Compare two cells of Table 4."""

    def judge(counts: Counts, reader: Reader, id: str) -> Outcome:
        return ordered([_against(reader, "table4", ours, relation, theirs, metric)])

    return judge


def _msas_similar(counts: Counts, reader: Reader, id: str) -> Outcome:
    """Judge "similar" by what the same paragraph calls a difference: neither loss exceeds the MLPs' change."""

    def change(module: str, metric: str) -> Fraction:
        ours, theirs = (reader.number("table4", f"{module}, {how}", metric) for how in ("LoRA", "FT"))
        return theirs - ours if metric == "psnr_y" else ours - theirs

    return ordered(
        [
            Comparison(f"loss of {TITLES[metric]}", change("MSAs", metric), "<=", "the MLPs' change", limit, show)
            for metric, show in (("psnr_y", show_db), ("lpips", show_score))
            for limit in [abs(change("MLPs", metric))]
        ]
    )


def _matches_finetuning(dataset: str) -> Check:
    def judge(counts: Counts, reader: Reader, id: str) -> Outcome:
        return ordered([_against(reader, "table1", ADAPTSR, _at_least(m), SAME_BACKBONE, m, dataset) for m in METRICS])

    return judge


def _figure1(counts: Counts, reader: Reader, id: str) -> Outcome:
    """Judge the caption's three columns on the baseline whose adapted numbers the paper prints."""
    sizes = [reader.number("table1", label, "parameters", "realsr") for label in (ADAPTSR, SAME_BACKBONE)]
    better = [_against(reader, "table1", ADAPTSR, _better(m), SAME_BACKBONE, m, "realsr") for m in ("psnr_y", "lpips")]
    return ordered([*better, Comparison(f"{ADAPTSR} parameters", sizes[0], "<", SAME_BACKBONE, sizes[1], show_count)])


def _perceptual(dataset: str) -> Check:
    """Judge that AdaptSR is as good as most rivals, over LPIPS and DISTS together."""

    def judge(counts: Counts, reader: Reader, id: str) -> Outcome:
        rivals = (*GAN, *DIFFUSION)
        found = {m: [_against(reader, "table1", ADAPTSR, "<=", r, m, dataset) for r in rivals] for m in PERCEPTUAL}
        outcome = ordered([one for comparisons in found.values() for one in comparisons], "most")
        behind = [f"{sum(not c.holds for c in cs)} have a better {TITLES[m]}" for m, cs in found.items()]
        return replace(outcome, sentence=f"Of {len(rivals)} rivals, {listed(behind)}: {outcome.sentence}")

    return judge


def _optimal_rank(counts: Counts, reader: Reader, id: str) -> Outcome:
    """Judge that every metric is best at the claimed rank or at its neighbours in the sweep."""
    ranks = {int(label.removeprefix("r = ")): label for label in _uniform(reader)}
    claimed = int(reader.claim(id).value)
    best: dict[str, int] = {}
    for metric in METRICS:
        sign = 1 if _better(metric) == ">" else -1
        best[TITLES[metric]] = max(ranks, key=lambda rank: sign * reader.number("table2", ranks[rank], metric))
    order = sorted({*ranks, claimed})
    far = [name for name, rank in best.items() if abs(order.index(rank) - order.index(claimed)) > 1]
    sentence = f"The best uniform rank is {listed([f'{rank} in {name}' for name, rank in best.items()])}."
    computed = tuple((f"best rank in {name}", str(rank)) for name, rank in best.items())
    return Outcome("contradicted" if far else "reproduced", "", computed, sentence)


def _uniform(reader: Reader) -> list[str]:
    return [line["label"] for line in reader.lines("table2") if line["row"].startswith("lora/")]


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
    return "<" if metric in PERCEPTUAL else ">"


def _at_least(metric: str) -> Relation:
    return "<=" if metric in PERCEPTUAL else ">="


def _rank_aware_against(*labels: str) -> Check:
    """Compare all metrics of Table 2 with these rows, or with every uniform rank."""

    def judge(counts: Counts, reader: Reader, id: str) -> Outcome:
        return ordered(
            [
                _against(reader, "table2", "Rank-Aware", _better(metric), label, metric)
                for label in labels or _uniform(reader)
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
    return ordered([_against(reader, "table3", ADAPTSR, ">", "DiffFit", "psnr_y")])


def _surpasses_peft(counts: Counts, reader: Reader, id: str) -> Outcome:
    others = [*_table3_others(reader, "ARC"), "DiffFit"]
    metrics = [metric for metric in METRICS if metric in next(reader.lines("table3"))]
    return ordered([_against(reader, "table3", ADAPTSR, _better(m), label, m) for label in others for m in metrics])


def _lowest_lpips(counts: Counts, reader: Reader, id: str) -> Outcome:
    return ordered([_against(reader, "table3", ADAPTSR, "<", label, "lpips") for label in _table3_others(reader)])


CHECKS: Mapping[str, TextCheck] = {
    "convs-psnr": TextCheck(STATEMENTS, "PSNR in Table 4", _module("Convs, LoRA", ">", "Convs, FT", "psnr_y")),
    "mlps-psnr": TextCheck(STATEMENTS, "PSNR in Table 4", _module("MLPs, LoRA", ">", "MLPs, FT", "psnr_y")),
    "mlps-perceptual": TextCheck(
        STATEMENTS, "LPIPS in Table 4, where higher is worse", _module("MLPs, LoRA", ">", "MLPs, FT", "lpips")
    ),
    "msas-similar": TextCheck(
        STATEMENTS,
        "PSNR and LPIPS in Table 4; similar: no loss above the MLPs' change, which the same paragraph calls a difference",
        _msas_similar,
    ),
    **{
        f"matches-finetuning-{dataset}": TextCheck(
            STATEMENTS,
            f"four metrics against the fine-tuned SwinIR, AdaptSR's own backbone, Table 1, {title}",
            _matches_finetuning(dataset),
        )
        for dataset, title in DATASETS.items()
    },
    "figure1-caption": TextCheck(
        STATEMENTS, "PSNR, LPIPS and parameters against the fine-tuned SwinIR, Table 1, RealSR", _figure1, ONE_BASELINE
    ),
    **{
        f"perceptual-{dataset}": TextCheck(
            STATEMENTS,
            f"LPIPS and DISTS against every GAN and diffusion method, Table 1, {DATASETS[dataset]}; more than half hold",
            _perceptual(dataset),
        )
        for dataset in ("realsr", "drealsr")
    },
    "optimal-rank": TextCheck(
        STATEMENTS, "the best uniform rank of each metric in Table 2; around: it or a neighbour", _optimal_rank, ONE_RUN
    ),
    "outperforms-psnr": TextCheck(
        STATEMENTS,
        "AdaptSR against every GAN and diffusion method on every dataset of Table 1",
        _outperforms("psnr_y"),
    ),
    "outperforms-ssim": TextCheck(
        STATEMENTS,
        "AdaptSR against every GAN and diffusion method on every dataset of Table 1",
        _outperforms("ssim_y"),
    ),
    "rank-aware-better": TextCheck(STATEMENTS, "four metrics in Table 2", _rank_aware_against("r = 8")),
    "rank-aware-consistent": TextCheck(
        STATEMENTS, "four metrics against every uniform rank, Table 2", _rank_aware_against()
    ),
    "most-arc": TextCheck(
        STATEMENTS, "AdaptSR's PSNR against the ARC rows of Table 3; most: more than half", _most_arc
    ),
    "beats-difffit": TextCheck(STATEMENTS, "AdaptSR's PSNR against DiffFit's, Table 3", _beats_difffit),
    "surpasses-peft": TextCheck(
        STATEMENTS, "AdaptSR's metrics against the ARC rows and DiffFit, Table 3", _surpasses_peft
    ),
    "lowest-lpips": TextCheck(STATEMENTS, "AdaptSR's LPIPS against all other rows of Table 3", _lowest_lpips),
}
