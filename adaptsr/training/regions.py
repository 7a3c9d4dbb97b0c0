"""Compile the blocks that a model repeats: each kind once, however often it occurs and whatever is attached to it.

A region is a plain copy of a block whose tensors are arguments. The weights that adapters form are made outside, so that
every method, and every block of a kind, runs the same compiled code. It computes what the plain block computes, up to
rounding; only stochastic depth draws from other generators.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import torch
from torch import nn
from torch.func import functional_call
from torch.nn.utils import parametrize

from adaptsr.errors import UserError
from adaptsr.training.merges import Merges, constants

FEWEST = 2
"""A block is worth compiling if it occurs at least this often among the children of one module."""
INDUCTOR = "inductor"
OPTIONS: dict[str, Any] = {"force_shape_pad": True}
"""Pad the factors of products: 180 channels are no multiple of 8, which a GPU's fast kernels take."""
KINDS = 64
"""How many regions Dynamo may compile; they share one function, of which it would compile 8 forms."""


class StochasticDepth(nn.Module):
    """Drop the residual branch of a sample with a probability that is a tensor: blocks with other rates are then of one kind.

    Huang et al., "Deep Networks with Stochastic Depth", ECCV 2016.
    """

    keep: torch.Tensor

    def __init__(self, drop_prob: float) -> None:
        super().__init__()
        self.register_buffer("keep", torch.tensor(1 - drop_prob))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        draws = torch.rand((len(x),) + (1,) * (x.dim() - 1), device=x.device)
        return x * ((draws < self.keep) / self.keep).to(x.dtype)


def compile_regions(model: nn.Module, backend: str = INDUCTOR) -> int:
    """Let the repeated blocks of an attached model run compiled where gradients are needed; return the number of kinds.

    To be called once, when what trains is settled: after attaching. backend: of `torch.compile`.
    """
    torch._dynamo.config.recompile_limit = max(KINDS, torch._dynamo.config.recompile_limit)
    options = OPTIONS if backend == INDUCTOR else None
    merges = Merges(model)
    kinds: dict[Hashable, list[nn.Module]] = {}
    for block in list(repeated_blocks(model)):
        _replace_stochastic_depth(block)
        kinds.setdefault(_kind(block), []).append(block)
    for blocks in kinds.values():
        region = torch.compile(_region(blocks[0]), fullgraph=True, dynamic=False, backend=backend, options=options)
        for block in blocks:
            block.forward = _forward(block, region, merges)
    return len(kinds)


def repeated_blocks(model: nn.Module) -> Iterator[nn.Module]:
    """Yield the modules with parts of their own that occur repeatedly in one list; the innermost where lists nest."""
    for child in model.children():
        inner = list(repeated_blocks(child))
        if inner:
            yield from inner
            continue
        alike = sum(type(sibling) is type(child) for sibling in model.children())
        if isinstance(model, nn.ModuleList | nn.Sequential) and any(child.children()) and alike >= FEWEST:
            yield child


def _forward(block: nn.Module, region: Callable[..., Any], merges: Merges) -> Callable[..., Any]:
    from torch._dynamo.exc import TorchDynamoException  # the compiler takes a second to import

    plain = block.forward
    places = list(_places(block))

    def forward(*inputs: Any) -> Any:
        if not torch.is_grad_enabled():
            return plain(*inputs)
        tensors = {name: merges.tensor(module, key) for name, module, key in places}
        try:
            return region(tensors, *inputs)
        except TorchDynamoException as error:
            reason = str(error).strip().partition("\n")[0]
            raise UserError(
                f"training.compile: {type(block).__name__} cannot be compiled ({reason}); set `none`"
            ) from error

    return forward


def _region(block: nn.Module) -> Callable[..., Any]:
    """Return the block as a function of its tensors, by name, and its inputs."""
    plain = copy.deepcopy(block)
    for module in list(plain.modules()):
        if parametrize.is_parametrized(module):
            _strip(module)

    def region(tensors: dict[str, torch.Tensor], *inputs: Any) -> Any:
        return functional_call(plain, tensors, inputs)

    return region


def _strip(module: Any) -> None:
    """Make a copied layer a plain one. Torch's own way would change its class, which the original shares."""
    values = {key: getattr(module, key).detach() for key in module.parametrizations}
    module.__class__ = parametrize.type_before_parametrizations(module)
    del module.parametrizations
    for key, value in values.items():
        setattr(module, key, nn.Parameter(value))


def _places(block: nn.Module) -> Iterator[tuple[str, nn.Module, str]]:
    """Yield the tensors that a block reads: their names without anything attached, their modules and attributes."""
    for path, module in block.named_modules():
        if "parametrizations" in path.split("."):
            continue
        attached = module.parametrizations if parametrize.is_parametrized(module) else ()
        own = [key for key, tensor in (*module._parameters.items(), *module._buffers.items()) if tensor is not None]
        for key in (*own, *attached):
            yield f"{path}.{key}" if path else key, module, key


def _kind(block: nn.Module) -> Hashable:
    """Return what compiled code depends on: the classes of a block's modules, their constants, and its tensors' forms."""
    tensors = [(name, getattr(module, key)) for name, module, key in _places(block)]
    return constants(block), tuple((name, t.shape, t.stride(), t.dtype, t.requires_grad) for name, t in tensors)


def _replace_stochastic_depth(block: nn.Module) -> None:
    for module in list(block.modules()):
        for name, child in list(module.named_children()):
            if type(child).__name__ == "DropPath":
                own = StochasticDepth(child.drop_prob)  # type: ignore[arg-type]
                setattr(module, name, own.to(next(block.parameters()).device))
