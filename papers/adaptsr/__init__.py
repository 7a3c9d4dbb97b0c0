"""AdaptSR (https://openreview.net/forum?id=Ml2bDkzNeq), the paper that this suite reproduces.

`published/` holds its tables and claims as printed, `timings` its speeds; `audit` checks its numbers by arithmetic.
This module does not import torch, because `adaptsr estimate` needs only the timings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .timings import TIMINGS

if TYPE_CHECKING:
    from adaptsr.papers import Audit

__all__ = ["ADAPTED_SHARE", "DATASET_TITLES", "GPU", "TIMINGS", "TITLE", "audit"]

TITLE = "AdaptSR"
GPU = "RTX 4090"
DATASET_TITLES = {"realsr": "RealSR", "drealsr": "DRealSR", "div2k": "DIV2K"}
ADAPTED_SHARE = 0.08


def audit() -> Audit:
    """Check the paper's numbers and claims by arithmetic. Builds its full-size backbones: about half a minute."""
    from .audit import PaperAudit, audit_claims
    from .counting import paper_counts
    from .sources import PUBLISHED

    return PaperAudit(audit_claims(paper_counts(), PUBLISHED))
