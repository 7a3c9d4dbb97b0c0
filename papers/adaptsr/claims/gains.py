"""Check the gains that the paper states: differences between metrics of its tables, and a test of one of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction

from ..counting import Counts
from ..printed import parse_range
from ..rules import Outcome, Reading, bounded, equal, literal, named, origin, unnamed, within
from ..sources import Reader
from .common import ADAPTSR, DATASETS, DIFFUSION, GAN, NUMBERS, OSEDIFF, TITLES, Check, TextCheck, fewer, share

ADAPTSR_GAN = "AdaptSR-GAN (Ours)"


def _gain(reader: Reader, label: str, dataset: str, ours: str = ADAPTSR) -> Fraction:
    """Return by how many dB PSNR our row of Table 1 exceeds another."""
    return reader.number("table1", ours, "psnr_y", dataset) - reader.number("table1", label, "psnr_y", dataset)


def _lpips_gain(reader: Reader, label: str, ours: str = ADAPTSR, metric: str = "lpips") -> Fraction:
    """Return by how many per cent our LPIPS (or DISTS) on RealSR is below another's."""
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
    """Judge a two-sided paired t-test of the mean, standard deviation and number of seeds that the text gives."""
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
}
