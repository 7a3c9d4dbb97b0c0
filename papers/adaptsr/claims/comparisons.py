"""Check which method the paper calls better: cells of one table's column against each other."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from ..counting import Counts
from ..rules import Comparison, Outcome, Relation, ordered
from ..sources import Reader
from .common import ADAPTSR, DATASETS, DIFFUSION, GAN, METRICS, STATEMENTS, TITLES, Check, TextCheck

FINETUNED = ("EDSR", "SAFMN", "SwinIR", "DRCT")
UNIFORM_ROWS = ("r = 1", "r = 4", "r = 8", "r = 16", "r = 64")
SIMILAR = Fraction(5, 100)
"""Largest relative loss that counts as similar; the paper puts no number on "similar performance"."""


def show_share(share: Fraction) -> str:
    return f"{100 * float(share):.1f}%"


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
    """Judge that neither metric is worse than fine-tuning's by more than `SIMILAR`."""
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


def _lowest_lpips(counts: Counts, reader: Reader, id: str) -> Outcome:
    return ordered([_against(reader, "table3", ADAPTSR, "<", label, "lpips") for label in _table3_others(reader)])


CHECKS: Mapping[str, TextCheck] = {
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
    "lowest-lpips": TextCheck(STATEMENTS, "AdaptSR's LPIPS against all other rows of Table 3", _lowest_lpips),
}
