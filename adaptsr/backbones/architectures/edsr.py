"""EDSR (Lim et al., CVPRW 2017), as implemented in basicsr: defaults and checkpoint layouts."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from torch import nn

from adaptsr.backbones.architectures.family import Family, StateDict

DEFAULTS: dict[str, Any] = {"num_feat": 64, "num_block": 16}


class EDSR(Family):
    architecture = "edsr"

    def small(self, scale: int, lr_size: int) -> dict[str, Any]:
        return {"num_feat": 8, "num_block": 2}

    def construct(self, options: Mapping[str, Any], scale: int) -> nn.Module:
        from adaptsr.basicsr_compat import basicsr_module

        edsr = basicsr_module("archs.edsr_arch").EDSR
        model: nn.Module = edsr(num_in_ch=3, num_out_ch=3, upscale=scale, **{**DEFAULTS, **options})
        return model

    def detect(self, state: StateDict) -> tuple[dict[str, Any], int] | None:
        if not {"conv_first.weight", "body.0.conv1.weight", "conv_last.weight"} <= state.keys():
            return None
        width = len(state["conv_first.weight"])
        blocks = sum(bool(re.fullmatch(r"body\.\d+\.conv1\.weight", key)) for key in state)
        upsampling = [len(value) for key, value in state.items() if re.fullmatch(r"upsample\.\d+\.weight", key)]
        scale = math.isqrt(math.prod(channels // width for channels in upsampling))
        return {"num_feat": width, "num_block": blocks}, scale

    def translated(self, state: StateDict) -> StateDict:
        """Rename the keys of the authors' repository to basicsr's.

        Drops the authors' mean-shift layers (`sub_mean`, `add_mean`): basicsr keeps these constants outside the state dict.
        """
        if not {"head.0.weight", "body.0.body.0.weight"} <= state.keys():
            return state
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
