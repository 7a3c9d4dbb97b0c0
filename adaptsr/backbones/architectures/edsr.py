"""EDSR (Lim et al., CVPRW 2017), the class of basicsr: its defaults, its checkpoint layouts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch

EDSR_DEFAULTS: dict[str, Any] = {"num_feat": 64, "num_block": 16}


def edsr_from_authors(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """EDSR's keys as its authors' repository writes them, to basicsr's.

    Their mean-shift layers (`sub_mean`, `add_mean`) are constants that basicsr keeps outside the state dict.
    """
    blocks = sum(bool(re.fullmatch(r"body\.\d+\.body\.0\.weight", key)) for key in state)
    renamed = {}
    for key, value in state.items():
        if key.startswith(("sub_mean.", "add_mean.")):
            continue
        new = re.sub(r"^head\.0\.", "conv_first.", key)
        new = re.sub(r"^body\.(\d+)\.body\.0\.", r"body.\1.conv1.", new)
        new = re.sub(r"^body\.(\d+)\.body\.2\.", r"body.\1.conv2.", new)
        new = re.sub(rf"^body\.{blocks}\.(weight|bias)$", r"conv_after_body.\1", new)
        new = re.sub(r"^tail\.0\.", "upsample.", new)
        new = re.sub(r"^tail\.1\.", "conv_last.", new)
        renamed[new] = value
    return renamed
