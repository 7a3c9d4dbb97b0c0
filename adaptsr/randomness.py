"""Randomness as a function of a key, never a state.

Everything random in iteration i of a run is drawn from a generator keyed by (seed, purpose, i): resuming needs no
generator state, the order of jobs cannot matter, and two variants of the same seed see the same data.
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
    """A 63-bit seed from a key, the same on every machine (SHA-256 of the key's text)."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in key)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(*key: Key) -> torch.Generator:
    """A CPU generator for this key."""
    import torch

    return torch.Generator().manual_seed(key_to_seed(*key))


def numpy_generator(*key: Key) -> np.random.Generator:
    return np.random.default_rng(key_to_seed(*key))


def seed_globals(*key: Key) -> None:
    """Seed python, numpy and torch, for library code that draws from the global generators (DropPath, basicsr)."""
    import torch

    seed = key_to_seed(*key)
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
