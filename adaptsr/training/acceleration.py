"""The same training step with less arithmetic and less memory.

A step through a low-rank delta as autograd sees it forms the whole gradient of the merged weight, only to project it onto
the factors. Here the forward uses the merged weight, as ever, and the backward forms the gradients of A and B alone. Modules
of known architectures may have a faster forward of their own. Both compute what the plain modules compute, up to
rounding; nothing here is needed for a right result.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional
from torch.nn.grad import conv2d_input, conv2d_weight
from torch.nn.utils import parametrize

from adaptsr.adaptation.lora import LowRankDelta
from adaptsr.backbones.architectures.known import fast_forward, gelu_mlp

WORTHWHILE = 0.6
"""Form factor gradients where they cost less than this share of the full weight gradient; slim products run slower."""


def accelerate(model: nn.Module) -> None:
    """Let every layer and attention of an attached model that has a faster form use it in training.

    To be called once, when what trains is settled: after attaching.
    """
    for module in list(model.modules()):
        mlp = gelu_mlp(module)
        if mlp is not None and (delta := _worthwhile_delta(mlp[1])) is not None:
            module.forward = _mlp_forward(module.forward, *mlp, delta)
        elif (delta := _worthwhile_delta(module)) is not None:
            module.forward = _low_rank_forward(module, delta)
        elif (forward := fast_forward(module)) is not None:
            module.forward = forward


class Factors(NamedTuple):
    """B (o, s, r) and A (r, i / s, k, k): the delta's input channels in s slices that share A and have a B each.

    A Linear and PEFT's convolution have one slice. The product that microsoft/LoRA views as a k x k kernel has k: row
    o k + j of B belongs to the j-th k-th of the input channels.
    """

    b: torch.Tensor
    a: torch.Tensor


def _factors(delta: LowRankDelta, layer: nn.Module) -> Factors:
    a, b = delta.a, delta.b
    if isinstance(layer, nn.Linear):
        return Factors(b[:, None], a)
    out, inner, height, width = delta.shape
    if a.dim() == 4:
        return Factors(b[:, None], a)
    return Factors(b.view(out, height, -1), a.view(len(a), inner // height, height, width))


def _worthwhile_delta(module: nn.Module) -> LowRankDelta | None:
    """The low-rank delta of a layer, if it is all that is attached and its own gradients are the cheaper ones."""
    if not isinstance(module, nn.Linear | nn.Conv2d) or not parametrize.is_parametrized(module):
        return None
    attached = module.parametrizations
    assert isinstance(attached, nn.ModuleDict)
    chain = [one for name in attached for one in attached[name].children()]
    if len(chain) > 1 or not isinstance(chain[0], LowRankDelta):
        return None
    return chain[0] if _worthwhile(module, chain[0]) else None


def _worthwhile(layer: nn.Module, delta: LowRankDelta) -> bool:
    """Whether the factors' gradients are formed by fewer products than the weight's."""
    if delta.splits > 1:
        return False
    if isinstance(layer, nn.Conv2d):
        plain = layer.groups == 1 and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
        sliced = delta.a.dim() == 2
        if not plain or delta.b.dim() != 2 or (sliced and delta.shape[1] % delta.shape[2]):
            return False
    b, a = _factors(delta, layer)
    slices = b.shape[1]
    return 2 * (slices * a.numel() + b.numel()) < WORTHWHILE * math.prod(delta.shape)


def _low_rank_forward(layer: nn.Module, delta: LowRankDelta) -> Callable[[torch.Tensor], torch.Tensor]:
    plain = layer.forward

    def forward(x: torch.Tensor) -> torch.Tensor:
        if not torch.is_grad_enabled():
            return plain(x)  # type: ignore[no-any-return]
        return _through_delta(layer, delta, x)

    return forward


def _through_delta(layer: Any, delta: LowRankDelta, x: torch.Tensor, after_gelu: bool = False) -> torch.Tensor:
    with torch.no_grad():
        weight = layer.weight
    b, a = _factors(delta, layer)
    y: torch.Tensor
    if isinstance(layer, nn.Linear):
        y = _LowRankLinear.apply(x, weight, layer.bias, a, b, delta.scale, after_gelu)  # type: ignore[no-untyped-call]
    else:
        geometry = (layer.stride, layer.padding, layer.dilation)
        y = _LowRankConvolution.apply(x, weight, layer.bias, a, b, delta.scale, geometry)  # type: ignore[no-untyped-call]
    return y


class _LowRankLinear(torch.autograd.Function):
    """y = W' x, or W' gelu(x): the activation is then computed again in the backward rather than kept."""

    @staticmethod
    def forward(ctx: Any, x: Any, weight: Any, bias: Any, a: Any, b: Any, scale: float, after_gelu: bool) -> Any:
        x, weight, a, b = _in_one_precision(x, weight, a, b)
        ctx.save_for_backward(x, weight, a, b)
        ctx.scale, ctx.after_gelu = scale, after_gelu
        x = functional.gelu(x) if after_gelu else x
        return functional.linear(x, weight, None if bias is None else bias.to(x.dtype))

    @staticmethod
    def backward(ctx: Any, dy: Any) -> Any:
        before, weight, a, b = ctx.saved_tensors
        dy = dy.flatten(0, -2)
        x = (functional.gelu(before) if ctx.after_gelu else before).flatten(0, -2)
        # Products with few rows rather than few columns run faster; the row of ones sums dy, which is the bias's gradient.
        z = torch.cat([a @ x.T, x.new_ones(1, len(x))]) @ dy
        d_a = ctx.scale * ((b[:, 0].T @ dy.T) @ x)
        d_b = ctx.scale * z[:-1].T[:, None]
        del x
        dx = (dy @ weight).view_as(before) if ctx.needs_input_grad[0] else None
        if dx is not None and ctx.after_gelu:
            dx = torch.ops.aten.gelu_backward(dx, before)
        return dx, None, z[-1] if ctx.needs_input_grad[2] else None, d_a, d_b, None, None


class _LowRankConvolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Any, weight: Any, bias: Any, a: Any, b: Any, scale: float, geometry: Any) -> Any:
        x, weight, a, b = _in_one_precision(x, weight, a, b)
        ctx.save_for_backward(x, weight, a, b)
        ctx.scale, ctx.geometry = scale, geometry
        return functional.conv2d(x, weight, None if bias is None else bias.to(x.dtype), *geometry)

    @staticmethod
    def backward(ctx: Any, dy: Any) -> Any:
        x, weight, a, b = ctx.saved_tensors
        stride, padding, dilation = ctx.geometry
        out, slices, rank = b.shape
        dx = None
        if ctx.needs_input_grad[0]:
            dx = conv2d_input(x.shape, weight, dy, stride, padding, dilation)  # type: ignore[no-untyped-call]
        sliced = x.reshape(len(x) * slices, -1, *x.shape[2:])
        z = functional.conv2d(sliced, a, None, stride, padding, dilation)
        d_b = (dy.flatten(2) @ z.reshape(len(x), slices * rank, -1).transpose(1, 2)).sum(0)
        g = functional.conv2d(dy, b.view(out, slices * rank).T[:, :, None, None])
        g = g.reshape(len(x) * slices, rank, *dy.shape[2:])
        d_a = conv2d_weight(sliced, a.shape, g, stride, padding, dilation)  # type: ignore[no-untyped-call]
        d_bias = dy.sum((0, 2, 3)) if ctx.needs_input_grad[2] else None
        return dx, None, d_bias, ctx.scale * d_a, ctx.scale * d_b.view_as(b), None, None


def _in_one_precision(x: torch.Tensor, *others: torch.Tensor) -> list[torch.Tensor]:
    """Under autocast all in its precision, as `functional.linear` would have them."""
    device = x.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
    return [tensor.to(dtype) for tensor in (x, *others)]


def _mlp_forward(
    plain: Callable[[torch.Tensor], torch.Tensor], fc1: nn.Module, fc2: nn.Module, delta: LowRankDelta
) -> Callable[[torch.Tensor], torch.Tensor]:
    """fc1, GELU, fc2, of which the GELU's output is not kept for the backward."""

    def forward(x: torch.Tensor) -> torch.Tensor:
        if not torch.is_grad_enabled():
            return plain(x)
        return _through_delta(fc2, delta, fc1(x), after_gelu=True)

    return forward
