"""Published speeds of the full-size backbones, with estimates where none are published.

Training times are the AdaptSR paper's, Section 4.6 and Figure 6 (batch 8, HR crop 256: SwinIR 4 h for 100k iterations of
LoRA and 23 h for 500k of full fine-tuning, SAFMN 1 h and 9 h). Restoring times are traiNNer-redux's benchmark at x4
(LR 640x480, half precision).
"""

from __future__ import annotations

from collections.abc import Mapping

from adaptsr.papers import Timing

SINGLE_PRECISION = 2
"""Factor of restoring time over half precision, the precision of the published times."""
SWINIR = Timing(0.144, 0.166, SINGLE_PRECISION * 1.41 / 0.3072, 11_900_199, "published")
SAFMN = Timing(0.036, 0.065, SINGLE_PRECISION * 0.023 / 0.3072, 239_520, "published")
TIMINGS: Mapping[str, Timing] = {
    "swinir-m-x4": SWINIR,
    "safmn-x4": SAFMN,
    "edsr-baseline-x4": Timing(
        SAFMN.adapted,
        SAFMN.full,
        0.09 * SWINIR.restoring,
        1_517_571,
        "estimate: not published; training as SAFMN (both wait for the host), restoring 0.09 of SwinIR (ratio of their step times on a CPU)",
    ),
    "drct-x4": Timing(
        1.9 * SWINIR.adapted,
        2.1 * SWINIR.full,
        SINGLE_PRECISION * 5.36 / 0.3072,
        14_139_579,
        "estimate: training not published; 1.9 (adapted) and 2.1 (full) times SwinIR (ratio of their step times on a CPU); restoring is published",
    ),
}
