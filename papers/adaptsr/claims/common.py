"""Shared by all themes: names of the paper's rows, columns and groups, and arithmetic on shares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from ..counting import Counts
from ..rules import Limit, Outcome
from ..sources import Reader

SWINIR = "swinir"
ADAPTSR = "AdaptSR (Ours)"
OSEDIFF = "OSDiff"
GAN = ("RealESRGAN", "LDL", "DASR", "Real-SAFMN-L")
DIFFUSION = ("StableSR", "DiffBIR", "ResShift", "SeeSR", "PASD", "SinSR", OSEDIFF, "PiSA-SR")
METRICS = ("psnr_y", "ssim_y", "lpips", "dists")
PERCEPTUAL = ("lpips", "dists")
TITLES = {"psnr_y": "PSNR", "ssim_y": "SSIM", "lpips": "LPIPS", "dists": "DISTS"}
DATASETS = {"div2k": "DIV2K", "realsr": "RealSR", "drealsr": "DRealSR"}
UNIFORM = "lora/r8"

RATIOS = "Percentages and ratios"
FORMS = "What the text describes against what was counted"
NUMBERS = "The text's numbers against the tables"
STATEMENTS = "The text's statements against the tables"

Check = Callable[[Counts, Reader, str], Outcome]


@dataclass(frozen=True)
class TextCheck:
    """The check of one line of `claims.csv`: its group, what is computed, the function that judges it, and its limit."""

    group: str
    how: str
    judge: Check
    limit: Limit | None = None


def share(part: int | Fraction, whole: int | Fraction) -> Fraction:
    """Return `part` of `whole` in per cent."""
    return 100 * Fraction(part) / Fraction(whole)


def fewer(part: int | Fraction, whole: int | Fraction) -> Fraction:
    """Return by how many per cent `part` is less than `whole`."""
    return 100 - share(part, whole)


def show_count(count: Fraction) -> str:
    return f"{int(count):,}"
