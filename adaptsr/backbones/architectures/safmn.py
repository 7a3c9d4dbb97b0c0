"""SAFMN (Sun et al., ICCV 2023), as implemented in spandrel."""

from __future__ import annotations

from typing import Any

from torch import nn

from adaptsr.backbones.architectures.family import Family
from adaptsr.backbones.sizes import Sizes


class SAFMN(Family):
    architecture = "SAFMN"

    def small(self, scale: int, lr_size: int) -> dict[str, Any]:
        return {"dim": 8, "n_blocks": 2, "upscaling_factor": scale}

    def sizes(self, model: nn.Module) -> Sizes:
        return Sizes(multiple_of=8)
