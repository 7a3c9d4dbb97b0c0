"""EDSR (Lim et al., CVPRW 2017), as implemented in basicsr: defaults and checkpoint layouts."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from typing import Any, ClassVar

import torch
from torch import nn

from adaptsr.backbones.architectures.family import Family, StateDict

DEFAULTS: dict[str, Any] = {"num_feat": 64, "num_block": 16}
DIV2K_MEAN = (0.4488, 0.4371, 0.4040)
HIGHEST_LEVEL = 255.0
_ALL = 40.0
_MIDDLE = torch.tensor([[0.0, 0, 0], [0, 1, 0], [0, 0, 0]])
"""The 3x3 kernel that changes nothing."""


class EDSR(Family):
    architecture = "edsr"
    unseen: ClassVar = {
        "res_scale": (1, 0.1),
        "img_range": (HIGHEST_LEVEL, 1.0),
        "rgb_mean": (DIV2K_MEAN, (0.0, 0.0, 0.0)),
    }

    def small(self, scale: int, lr_size: int) -> dict[str, Any]:
        return {"num_feat": 8, "num_block": 2}

    def construct(self, options: Mapping[str, Any], scale: int) -> nn.Module:
        from adaptsr.basicsr_compat import basicsr_module

        edsr = basicsr_module("archs.edsr_arch").EDSR
        model: nn.Module = edsr(num_in_ch=3, num_out_ch=3, upscale=scale, **{**DEFAULTS, **options})
        return model

    def detect(self, state: StateDict) -> tuple[dict[str, Any], int] | None:
        """Read width, depth and scale off the shapes, and range and mean off the mean-shift layers of the authors' files."""
        names = self.class_names(state) or {key: key for key in state}
        if not {"conv_first.weight", "body.0.conv1.weight", "conv_last.weight"} <= names.keys():
            return None
        upsampling = [state[key] for name, key in names.items() if re.fullmatch(r"upsample\.\d+\.weight", name)]
        first = state[names["conv_first.weight"]]
        if any(weight.dim() != 4 or not weight.numel() for weight in (first, *upsampling)):
            return None
        width = len(first)
        blocks = sum(bool(re.fullmatch(r"body\.\d+\.conv1\.weight", key)) for key in names)
        scale = math.isqrt(math.prod(len(weight) // width for weight in upsampling))
        options: dict[str, Any] = {"num_feat": width, "num_block": blocks}
        if "sub_mean.bias" in state:
            shift = -state["sub_mean.bias"].flatten()
            level = HIGHEST_LEVEL if float(shift.abs().max()) > 1 else 1.0
            options |= {"img_range": level, "rgb_mean": tuple((shift / level).tolist())}
        return options, scale

    def class_names(self, keys: Collection[str]) -> dict[str, str] | None:
        """Map basicsr's key names to those of the authors' repository.

        Drops the authors' mean-shift layers (`sub_mean`, `add_mean`): basicsr keeps these constants outside the state dict.
        """
        if not {"head.0.weight", "body.0.body.0.weight"} <= set(keys):
            return None
        blocks = sum(bool(re.fullmatch(r"body\.\d+\.body\.0\.weight", key)) for key in keys)
        renamed = {}
        for key in keys:
            if key.startswith(("sub_mean.", "add_mean.")):
                continue
            new = re.sub(r"^head\.0\.", "conv_first.", key)
            new = re.sub(r"^body\.(\d+)\.body\.0\.", r"body.\1.conv1.", new)
            new = re.sub(r"^body\.(\d+)\.body\.2\.", r"body.\1.conv2.", new)
            new = re.sub(rf"^body\.{blocks}\.(weight|bias)$", r"conv_after_body.\1", new)
            new = re.sub(r"^tail\.0\.", "upsample.", new)
            new = re.sub(r"^tail\.1\.", "conv_last.", new)
            renamed[new] = key
        return renamed

    def for_spandrel(self, model: nn.Module) -> StateDict | None:
        """Return the weights of an RCAN of one group that restores as this EDSR does.

        Its channel attention is off: sigmoid of `_ALL` is exactly 1. Its two nested skips add the features twice, so the
        convolution in the group is doubled, the one behind it passes features on, and upsampling halves what enters it.
        """
        if type(model).__name__ != "EDSR":
            return None
        given: Any = model
        state = model.state_dict()
        width = len(state["conv_first.weight"])
        blocks = len(given.body)
        form = {
            "sub_mean.weight": torch.eye(3).view(3, 3, 1, 1) * given.img_range / HIGHEST_LEVEL,
            "sub_mean.bias": -given.mean.flatten() * given.img_range,
            "add_mean.weight": torch.eye(3).view(3, 3, 1, 1) * HIGHEST_LEVEL / given.img_range,
            "add_mean.bias": given.mean.flatten() * HIGHEST_LEVEL,
            "body.1.weight": torch.eye(width).view(width, width, 1, 1) * _MIDDLE,
            "body.1.bias": torch.zeros(width),
        }
        for index, block in enumerate(given.body):
            place = f"body.0.body.{index}.body"
            off = {"0.weight": (1, width, 1, 1), "0.bias": (1,), "2.weight": (width, 1, 1, 1), "2.bias": (width,)}
            form |= {f"{place}.3.conv_du.{name}": torch.zeros(shape) for name, shape in off.items()}
            form[f"{place}.3.conv_du.2.bias"] += _ALL
            for name in ("weight", "bias"):
                form[f"{place}.0.{name}"] = state[f"body.{index}.conv1.{name}"]
                form[f"{place}.2.{name}"] = state[f"body.{index}.conv2.{name}"] * block.res_scale
        for name in ("weight", "bias"):
            form[f"head.0.{name}"] = state[f"conv_first.{name}"]
            form[f"body.0.body.{blocks}.{name}"] = 2 * state[f"conv_after_body.{name}"]
            form[f"tail.1.{name}"] = state[f"conv_last.{name}"]
        form |= {
            key.replace("upsample.", "tail.0."): value for key, value in state.items() if key.startswith("upsample.")
        }
        form["tail.0.0.weight"] = form["tail.0.0.weight"] / 2
        return {key: value.detach().cpu().contiguous() for key, value in form.items()}
