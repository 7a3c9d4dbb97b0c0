"""Make randomness a function of a key, not a state.

Everything random in iteration i of a run is drawn from a generator keyed by (seed, purpose, i). So resuming needs no
generator state, the order of jobs does not matter, and two variants with the same seed see the same data.
"""

from __future__ import annotations

import hashlib
import random
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

Key = int | str


def key_to_seed(*key: Key) -> int:
    """Return a 63-bit seed for a key, the same on every machine (SHA-256 of the key's text)."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in key)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(*key: Key) -> torch.Generator:
    """Return a torch CPU generator for a key."""
    import torch

    return torch.Generator().manual_seed(key_to_seed(*key))


def numpy_generator(*key: Key) -> np.random.Generator:
    """Return a numpy generator for a key."""
    return np.random.default_rng(key_to_seed(*key))


def seed_globals(*key: Key) -> None:
    """Seed the global generators of python, numpy and torch, which library code draws from (DropPath, basicsr)."""
    import torch

    seed = key_to_seed(*key)
    random.seed(seed)
    np.random.seed(seed % 2**32)
    used = torch.cuda.is_initialized() or torch.backends.mps.is_available()  # type: ignore[no-untyped-call]
    if used:
        torch.manual_seed(seed)
    else:  # it would note a traceback for each kind of device that is not in use, which takes 0.13 ms
        torch.default_generator.manual_seed(seed)
