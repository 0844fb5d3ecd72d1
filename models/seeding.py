"""Randomness that depends on nothing but its arguments, whatever the device."""

from __future__ import annotations

import hashlib

import torch


def generator(*parts: int) -> torch.Generator:
    """A CPU generator seeded by numbers, e.g. (seed, chunk, step)."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little", signed=True))
