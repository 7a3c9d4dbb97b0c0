"""Try a model on pairs: find options that its file does not show, and compare a start with bicubic enlargement."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from adaptsr.backbones.gate import facts
from adaptsr.backbones.inference import restore
from adaptsr.data.degradation import bicubic, bicubic_enlarged
from adaptsr.data.images import to_float, to_uint8
from adaptsr.data.store import PairSet
from adaptsr.errors import UserError

CLEARLY_DB = 0.1
"""How much higher than the default an unusual value must restore the test picture to be taken."""
USELESS_DB = 6.0
"""A model that restores the test picture this much worse than bicubic enlargement tells nothing about its options."""
PICTURE_SIDE = 96
DISCS = 250
MOST_PAIRS = 8
LARGEST_LR = 64
"""Pairs and side in LR pixels of their centres that a start is judged by: enough to tell, in seconds."""

Options = dict[str, Any]


class AgainstBicubic(NamedTuple):
    """PSNR over RGB in dB, of the squared errors of all pairs: the model, with red and blue exchanged, bicubic enlargement."""

    pairs: int
    restored: float
    exchanged: float
    bicubic: float


def compared_with_bicubic(model: nn.Module, lr: Sequence[torch.Tensor], hr: Sequence[torch.Tensor]) -> AgainstBicubic:
    """Restore uint8 LR images (3, h, w) and compare them with their HR images."""
    scale = facts(model).scale
    errors = torch.zeros(3, dtype=torch.float64)
    for small, large in zip(lr, hr, strict=True):
        restored = restore(model, small[None])
        enlarged = to_uint8(bicubic_enlarged(to_float(small[None]), scale))
        # One mean over all pairs: of smooth images, bicubic enlargement is all but perfect.
        errors += torch.stack([_squared_error(image, large[None]) for image in (restored, restored.flip(1), enlarged)])
    return AgainstBicubic(len(lr), *(10 * torch.log10(255.0**2 * len(lr) / errors)).tolist())


def check_start(model: nn.Module, validation: PairSet, where: str, margin: float) -> AgainstBicubic:
    """Compare a trained backbone with bicubic enlargement on the centres of some validation pairs.

    Raises `UserError` if it restores them more than `margin` dB worse.
    """
    some = sorted({index * len(validation) // MOST_PAIRS for index in range(MOST_PAIRS)})
    pairs = [_centre(validation.lr[index], validation.hr[index], validation.scale) for index in some]
    found = compared_with_bicubic(model, [lr for lr, _ in pairs], [hr for _, hr in pairs])
    if not found.restored >= found.bicubic - margin:
        exchanged = found.exchanged > found.restored + 1
        cause = (
            "it gives blue for red, so its channel order is BGR"
            if exchanged
            else "its options (res_scale, img_range, ...), value range or weights (raw beside averaged ones) are probably wrong"
        )
        raise UserError(
            f"{where}: restores {found.pairs} validation pairs at {found.restored:.2f} dB (PSNR over RGB), bicubic enlargement "
            f"at {found.bicubic:.2f} dB: {cause}; correct them, or allow more than {margin:g} dB with "
            "backbones.<name>.below_bicubic"
        )
    return found


def tried(make: Callable[[Options], nn.Module], unseen: Mapping[str, Sequence[Any]]) -> tuple[Options, str]:
    """Return the values of unseen options with which a model restores a test picture best, and a note on the choice.

    make: builds the loaded model, past the gate. unseen: the usual values of each option, the default first, which is kept
    unless others restore clearly better.
    """
    first, *others = (dict(zip(unseen, values, strict=True)) for values in itertools.product(*unseen.values()))
    with torch.random.fork_rng(devices=[]):
        default = make(first)
        hr = to_uint8(discs(0))
        lr = to_uint8(bicubic(to_float(hr), facts(default).scale))
        before = compared_with_bicubic(default, [lr[0]], [hr[0]])
        chosen, best = first, before
        for options in others:
            found = compared_with_bicubic(make(options), [lr[0]], [hr[0]])
            if found.restored > max(best.restored, before.restored + CLEARLY_DB):
                chosen, best = options, found
    names = ", ".join(unseen)
    if best.restored < best.bicubic - USELESS_DB:
        return first, (
            f"does not show {names}, and no usual value restores a test picture ({best.restored:.1f} dB; bicubic "
            f"{best.bicubic:.1f} dB); takes the defaults; if the weights are trained, state these options in the profile"
        )
    values = ", ".join(f"{name} {value}" for name, value in chosen.items())
    compared = f"{best.restored:.1f} dB" + (f"; the defaults {before.restored:.1f} dB" if chosen is not first else "")
    return chosen, (
        f"does not show {names}; takes {values}, which restores a test picture best ({compared}; bicubic "
        f"{best.bicubic:.1f} dB); `options` in the profile overrides this"
    )


def _squared_error(image: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    return (image.double() - reference.double()).square().mean()


def _centre(lr: torch.Tensor, hr: torch.Tensor, scale: int) -> tuple[torch.Tensor, torch.Tensor]:
    height, width = (min(side, LARGEST_LR) for side in lr.shape[1:])
    top, left = (lr.shape[1] - height) // 2, (lr.shape[2] - width) // 2
    return (
        lr[:, top : top + height, left : left + width],
        hr[:, scale * top : scale * (top + height), scale * left : scale * (left + width)],
    )


def discs(seed: int) -> torch.Tensor:
    """Return a picture of overlapping discs of pale colors, (1, 3, side, side): it has edges of every size, as photographs do."""
    draw = torch.Generator().manual_seed(seed)
    picture = torch.full((3, PICTURE_SIDE, PICTURE_SIDE), 0.5)
    places = torch.arange(PICTURE_SIDE)
    for _ in range(DISCS):
        radius = 2 + PICTURE_SIDE / 3 * torch.rand((), generator=draw) ** 3
        y, x = PICTURE_SIDE * torch.rand(2, generator=draw)
        color = torch.rand(3, generator=draw)
        inside = (places[:, None] - y) ** 2 + (places - x) ** 2 < radius**2
        picture[:, inside] = (0.35 * color + 0.65 * color.mean())[:, None]
    return picture[None]
