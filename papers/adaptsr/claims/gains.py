"""Check the gains that the paper states: differences between metrics of its tables, and a test of one of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from itertools import pairwise, product

from ..counting import Counts
from ..printed import parse_range
from ..rules import Limit, Outcome, Reading, bounded, equal, literal, named, origin, unnamed, within
from ..sources import Reader
from .common import ADAPTSR, DATASETS, DIFFUSION, GAN, NUMBERS, OSEDIFF, TITLES, Check, TextCheck, fewer, share

ADAPTSR_GAN = "AdaptSR-GAN (Ours)"
REAL = ("realsr", "drealsr")
"""The datasets that Section 1 names for the gains; the tables have no numbers for the third, DSLR."""
SEEDS_UNSEEN = Limit(
    "consistent",
    "The five seeds are in Table 12, which the text at hand does not show; Table 2 prints one number a row.",
)
CLOSE = 2
"""A fall between neighbours of up to this many standard deviations counts as noise."""


def _gain(reader: Reader, label: str, dataset: str) -> Fraction:
    """Return by how many dB PSNR our row of Table 1 exceeds another."""
    return reader.number("table1", ADAPTSR, "psnr_y", dataset) - reader.number("table1", label, "psnr_y", dataset)


def _lpips_gain(reader: Reader, label: str, metric: str = "lpips", dataset: str = "realsr") -> Fraction:
    """Return by how many per cent our LPIPS (or DISTS) is below another's."""
    return fewer(reader.number("table1", ADAPTSR, metric, dataset), reader.number("table1", label, metric, dataset))


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
    gains = {
        f"{rival} on {DATASETS[name]}": _gain(reader, rival, name) for name in REAL for rival in (*GAN, *DIFFUSION)
    }
    return within(low, high, gains)


def _gains_perceptual(counts: Counts, reader: Reader, id: str) -> Outcome:
    readings: list[Reading] = []
    for dataset, metric in product(REAL, ("lpips", "dists")):
        gains = {label: _lpips_gain(reader, label, metric, dataset) for label in (*GAN, *DIFFUSION)}
        what = f"{TITLES[metric]} on {DATASETS[dataset]}"
        readings.append(named(f"mean {what}", sum(gains.values(), Fraction(0)) / len(gains)))
        readings += [named(f"{what} against {label}", gain) for label, gain in gains.items()]
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
    """Judge two-sided t-tests of the mean, deviation and seeds of the text: of the paired differences, or of each variant."""
    from scipy.stats import t

    mean, sd = reader.claim("rank-aware-gain").value, reader.claim("rank-aware-sd").value
    seeds = int(reader.claim("rank-aware-seeds").value)
    statistic, freedom = float(mean / sd) * math.sqrt(seeds), seeds - 1
    tests = {"paired": (statistic, freedom), "unpaired": (statistic / math.sqrt(2), 2 * freedom)}
    p = {
        f"{name}, t = {value:.1f}, {free} degrees of freedom": Fraction(2 * float(t.sf(abs(value), free)))
        for name, (value, free) in tests.items()
    }
    return bounded(reader.claim(id), "<", p)


def _noise(table: str, rows: str) -> Check:
    """Compare the largest fall of PSNR from a row to the next larger one with the deviation that the text gives.

    A fall beyond noise can be an effect of size, so that it contradicts nothing; it leaves the deviation open.
    """

    def judge(counts: Counts, reader: Reader, id: str) -> Outcome:
        sd = reader.claim(id)
        labels = [line["label"] for line in reader.lines(table) if line["row"].startswith(rows)]
        psnr = {label: reader.number(table, label, "psnr_y") for label in labels}
        falls = {(small, large): psnr[small] - psnr[large] for small, large in pairwise(labels)}
        small, large = max(falls, key=lambda pair: falls[pair])
        fall = falls[small, large]
        # The deviation of a difference of two runs, if the text's is that of one; if it is that of a difference, less.
        deviations = float(fall / sd.value) / math.sqrt(2)
        computed = (
            (f"fall from {small} to {large}", sd.show(fall)),
            ("in standard deviations of a difference", f"{deviations:.1f}"),
        )
        sentence = f"from {small} to {large}, PSNR falls by {sd.show(fall)}: {deviations:.1f} deviations of a difference of two runs"
        if deviations <= CLOSE:
            return Outcome("consistent", "", computed, sentence + ", which is within the noise.")
        rest = "of one number a row, an effect of size and a noise larger than stated cannot be told apart."
        return Outcome("not determinable", "", computed, f"{sentence}; {rest}")

    return judge


def _rank1_recovers(counts: Counts, reader: Reader, id: str) -> Outcome:
    base, full, rank1 = (reader.number("table2", label, "psnr_y") for label in ("Baseline", "+ FineTuning", "r = 1"))
    readings = [
        literal("r = 1 over full fine-tuning, dB over dB", share(rank1, full)),
        named("the gain of r = 1 over the gain of full fine-tuning", share(rank1 - base, full - base)),
    ]
    return equal(reader.claim(id), readings)


CHECKS: Mapping[str, TextCheck] = {
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
        NUMBERS, "AdaptSR's PSNR minus that of each GAN or diffusion method, Table 1, RealSR and DRealSR", _gains_psnr
    ),
    "gains-perceptual": TextCheck(
        NUMBERS,
        "AdaptSR's LPIPS and DISTS, per cent below those of each GAN or diffusion method, Table 1, RealSR and DRealSR",
        _gains_perceptual,
    ),
    "psnr-against-peft": TextCheck(NUMBERS, "AdaptSR's PSNR in Table 3", _psnr_against_peft),
    "rank-aware-gain": TextCheck(NUMBERS, "difference of PSNR in Table 2", _rank_aware_gain, SEEDS_UNSEEN),
    "rank-aware-significance": TextCheck(
        NUMBERS, "two-sided t-tests from the printed mean, deviation and seeds", _significance, SEEDS_UNSEEN
    ),
    "noise-ranks": TextCheck(
        NUMBERS, "the largest fall of PSNR from a uniform rank to the next, Table 2", _noise("table2", "lora/")
    ),
    "noise-arc": TextCheck(
        NUMBERS, "the largest fall of PSNR from an ARC row to the next, Table 3", _noise("table3", "arc/")
    ),
    "rank1-recovers": TextCheck(NUMBERS, "PSNR of r = 1 over that of full fine-tuning, Table 2", _rank1_recovers),
}
