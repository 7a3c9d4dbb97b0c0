"""List the sites of a backbone: the layers that a baseline can adapt, each with its kind."""

from __future__ import annotations

import fnmatch
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import nn

from adaptsr.backbones.probing import dead_parameters
from adaptsr.errors import UserError, suggestion

Kind = Literal["conv", "attention", "mlp"]


Correction = Literal["conv", "attention", "mlp", "skip"]


ATTENTION = re.compile(r"(^|[._])(attn|attention|self_attn|msa|w?qkv|to_qkv|to_q|to_k|to_v|to_out)([._0-9]|$)")


@dataclass(frozen=True)
class Site:
    """A layer that can be adapted.

    `shape` is the weight's: (out, in) of a Linear, (out, in / groups, height, width) of a Conv2d.
    `upsampling` marks a layer whose output feeds a pixel shuffle: the paper does not adapt those.
    """

    name: str
    kind: Kind
    shape: tuple[int, ...]
    groups: int
    bias: bool
    upsampling: bool

    @property
    def is_linear(self) -> bool:
        return len(self.shape) == 2

    @property
    def in_features(self) -> int:
        """Input width: features of a Linear, channels of a Conv2d."""
        return self.shape[1] * self.groups

    @property
    def out_features(self) -> int:
        return self.shape[0]

    @property
    def grouped(self) -> bool:
        return self.groups > 1

    @property
    def weights(self) -> int:
        """Number of weights, without biases."""
        return torch.Size(self.shape).numel()

    @property
    def role(self) -> str:
        """Last part of the name that is not a number: `qkv`, `fc1`, `conv_first`."""
        return next((part for part in reversed(self.name.split(".")) if not part.isdigit()), self.name)

    @property
    def stage(self) -> str:
        """Name up to and including its first number (`layers.3`), or its first part."""
        match = re.match(r"(.*?\.\d+)(\.|$)", self.name)
        return match.group(1) if match else self.name.split(".")[0]


def find_sites(model: nn.Module, corrections: Mapping[str, Correction] | None = None) -> list[Site]:
    """List every Linear and Conv2d that training reaches, in module order, with the kind that its type and name suggest.

    `corrections` maps a site's name or a pattern to its kind; `skip` removes it. Raises `UserError` if a pattern
    matches no site.
    """
    shuffled = _feeding_pixel_shuffle(model)
    dead = set(dead_sites(model))
    sites = [
        Site(
            name=name,
            kind=_kind(name, module),
            shape=tuple(module.weight.shape),
            groups=getattr(module, "groups", 1),
            bias=module.bias is not None,
            upsampling=name in shuffled or name.split(".")[0] == "upsample",
        )
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d) and name not in dead
    ]
    return _corrected(sites, corrections or {})


def dead_sites(model: nn.Module) -> list[str]:
    """Return the names of the Linear and Conv2d layers whose weight training never reaches, such as heads of another task."""
    dead = dead_parameters(model)
    layers = [name for name, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    return [name for name in layers if f"{name}.weight" in dead]


def _kind(name: str, module: nn.Module) -> Kind:
    if isinstance(module, nn.Conv2d):
        return "conv"
    return "attention" if ATTENTION.search(name) else "mlp"


def _feeding_pixel_shuffle(model: nn.Module) -> set[str]:
    names = set()
    for parent_name, parent in model.named_modules():
        if isinstance(parent, nn.Sequential):
            children = list(parent.named_children())
            for (name, child), (_, following) in itertools.pairwise(children):
                if isinstance(child, nn.Conv2d) and isinstance(following, nn.PixelShuffle):
                    names.add(f"{parent_name}.{name}" if parent_name else name)
    return names


def _corrected(sites: Sequence[Site], corrections: Mapping[str, Correction]) -> list[Site]:
    kinds: dict[str, Correction] = {}
    for pattern, kind in corrections.items():
        matched = fnmatch.filter([site.name for site in sites], pattern)
        if not matched:
            raise UserError(
                f"kinds: no site {pattern!r} in this backbone{suggestion(pattern, [s.name for s in sites])}; `adaptsr sites` lists them"
            )
        kinds.update(dict.fromkeys(matched, kind))
    kept = []
    for site in sites:
        kind = kinds.get(site.name, site.kind)
        if kind != "skip":
            kept.append(replace(site, kind=kind))
    return kept


def select(
    sites: Iterable[Site],
    kinds: Iterable[str] = ("conv", "attention", "mlp"),
    upsampling: bool = False,
    grouped: bool = False,
) -> list[Site]:
    """Return the sites of these kinds; layers that feed a pixel shuffle and grouped convolutions only on request.

    Raises `UserError` for an unknown kind.
    """
    wanted = set(kinds)
    unknown = wanted - {"conv", "attention", "mlp"}
    if unknown:
        raise UserError(f"kinds: unknown kind of site {sorted(unknown)[0]!r}; there are attention, conv, mlp")
    return [s for s in sites if s.kind in wanted and (upsampling or not s.upsampling) and (grouped or not s.grouped)]
