"""SwinIR (Liang et al., ICCVW 2021) and DRCT (Hsu et al., CVPRW 2024), as implemented in spandrel: shifted-window attention."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from types import MethodType, SimpleNamespace
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from adaptsr.backbones.architectures.family import Family
from adaptsr.backbones.sizes import Sizes


class _Swin(Family):
    rebuilt = frozenset({"attn_mask", "relative_position_index"})

    def small(self, scale: int, lr_size: int) -> dict[str, Any]:
        return {"upscale": scale, "img_size": lr_size, "embed_dim": 12, "window_size": lr_size // 2, "mlp_ratio": 2}

    def gelu_mlp(self, module: Any) -> tuple[nn.Module, nn.Module] | None:
        if not self._defines(module, "Mlp"):
            return None
        plain = type(module.act) is nn.GELU and module.act.approximate == "none" and module.drop.p == 0
        return (module.fc1, module.fc2) if plain else None

    def fast_forward(self, module: Any) -> Callable[..., torch.Tensor] | None:
        """Return fused attention if the position bias is frozen and dropout is off: the fused operator draws dropout differently."""
        if not self._defines(module, "WindowAttention"):
            return None
        if module.attn_drop.p != 0 or module.relative_position_bias_table.requires_grad:
            return None
        return _attention_forward(module)

    def share_constants(self, module: Any) -> None:
        if self._defines(module, "SwinTransformerBlock"):
            module.calculate_mask = MethodType(_shared_mask, module)

    def _defines(self, module: nn.Module, name: str) -> bool:
        defined = type(module)
        return defined.__name__ == name and defined.__module__.startswith(
            f"spandrel.architectures.{self.architecture}."
        )


class SwinIR(_Swin):
    architecture = "SwinIR"

    def small(self, scale: int, lr_size: int) -> dict[str, Any]:
        return {
            **super().small(scale, lr_size),
            "depths": [2, 2],
            "num_heads": [2, 2],
            "upsampler": "pixelshuffledirect",
        }

    def sizes(self, model: Any) -> Sizes:
        return Sizes(16, model.start_unshuffle**2)


class DRCT(_Swin):
    architecture = "DRCT"

    def small(self, scale: int, lr_size: int) -> dict[str, Any]:
        return {**super().small(scale, lr_size), "depths": [6], "num_heads": [2], "gc": 4, "upsampler": "pixelshuffle"}

    def sizes(self, model: nn.Module) -> Sizes:
        return Sizes(multiple_of=16)


def _shared_mask(block: Any, x_size: tuple[int, int]) -> torch.Tensor:
    """Return the shift mask for a size of images, made once for all blocks rather than by each."""
    device = block.attn.relative_position_bias_table.device
    return _mask(type(block).calculate_mask, block.window_size, block.shift_size, x_size, device)


@lru_cache(maxsize=2)
def _mask(
    made_by: Callable[..., torch.Tensor], window_size: int, shift_size: int, size: tuple[int, int], device: torch.device
) -> torch.Tensor:
    with torch.inference_mode(False):
        return made_by(SimpleNamespace(window_size=window_size, shift_size=shift_size), size).to(device)


def _attention_forward(attention: Any) -> Callable[..., torch.Tensor]:
    """Return softmax attention as one operator, with position bias and shift mask folded into one constant tensor."""
    plain = attention.forward
    folded: list[tuple[torch.Tensor | None, torch.Tensor]] = []

    def forward(x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        if not torch.is_grad_enabled():
            return plain(x, mask)  # type: ignore[no-any-return]
        # The training size has one lasting mask; every call with another size makes a new one.
        if not folded or folded[0][0] is not mask:
            folded[:] = [(mask, _folded_bias(attention, mask))]
        windows, tokens, channels = x.shape
        qkv = _Heads.apply(attention.qkv(x), attention.num_heads)  # type: ignore[no-untyped-call]
        bias = folded[0][1].to(qkv[0].dtype)
        # One call per image: masks repeat after an image's windows, which strides cannot express.
        size = windows if mask is None else len(bias)
        images = zip(*(part.split(size) for part in qkv), strict=True) if size < windows else [qkv]
        every_window = bias.expand(size, -1, -1, -1)
        y = [
            functional.scaled_dot_product_attention(q, k, v, every_window, scale=attention.scale).transpose(1, 2)
            for q, k, v in images
        ]
        joined = torch.cat(y) if len(y) > 1 else y[0]
        return attention.proj_drop(attention.proj(joined.reshape(windows, tokens, channels)))  # type: ignore[no-any-return]

    return forward


class _Heads(torch.autograd.Function):
    """Queries, keys and values (windows, heads, tokens, channels) as views of the fused layer's output.

    `backward` writes each gradient straight into place; autograd would stack them and copy the stack into order.
    """

    @staticmethod
    def forward(ctx: Any, fused: Any, heads: int) -> Any:
        windows, tokens, channels = fused.shape
        ctx.heads = heads
        return fused.view(windows, tokens, 3, heads, channels // 3 // heads).permute(2, 0, 3, 1, 4).unbind()

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        windows, heads, tokens, channels = gradients[0].shape
        fused = gradients[0].new_empty(windows, tokens, 3, heads, channels)
        for part, gradient in zip(fused.unbind(2), gradients, strict=True):
            part.copy_(gradient.transpose(1, 2))
        return fused.view(windows, tokens, -1), None


@torch.no_grad()
def _folded_bias(attention: Any, mask: torch.Tensor | None) -> torch.Tensor:
    """Return position bias plus shift mask, (1 or windows of an image, heads, tokens, tokens)."""
    tokens = attention.relative_position_index.shape[0]
    table = attention.relative_position_bias_table[attention.relative_position_index.view(-1)]
    bias = table.view(tokens, tokens, -1).permute(2, 0, 1)[None]
    folded: torch.Tensor = bias if mask is None else bias + mask[:, None]
    return folded.contiguous()
