"""Radial attention (Li et al. 2025, arXiv 2506.19852, section 4) over a cache of a film's frames.

The further a frame is back, the narrower the band of it that a token sees, around its own place;
where bands would be narrower than a block, frames are left out instead. So a memory of n frames
costs O(log n) blocks for each block of queries, and all of them O(n log n).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from longtake.kernels import BlockMap


@dataclass(frozen=True)
class RadialSettings:
    """How narrow the bands are, and what attends to all that is held instead.

    Attributes:
        block: tokens of a block, the least that is seen or not; 128 is what an H100 likes.
        decay: of the bands, which are the wider the larger it is; above 0.
        dense_layers: the first layers of the model, where attention is dense.
        dense_steps: the first denoising steps of a chunk, likewise.
    """

    # Read from streaming.json, where a misspelt name must not pass.
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    block: int = 128
    decay: float = 1.0
    dense_layers: int = 1
    dense_steps: int = 1

    def __post_init__(self) -> None:
        if self.block < 1:
            raise ValueError(f"block is {self.block}; at least 1 token is needed")
        if not 0 < self.decay < math.inf:
            raise ValueError(f"decay is {self.decay}; it has to be above 0 and finite")
        if self.dense_layers < 0 or self.dense_steps < 0:
            layers, steps = self.dense_layers, self.dense_steps
            raise ValueError(f"dense_layers {layers}, dense_steps {steps}: none can be negative")

    def reach(self, distance: int, frame_tokens: int) -> int | None:
        """How far apart in their frames two tokens may be to see each other.

        With s tokens a frame, d frames apart and b(n) the bits of n, the band is
        w = 2^b(s) / 2^b(d). Tokens k and l see each other if |k - l| <= max(block, decay * w); but
        if w is below a block, only at every (block / w)-th distance.

        Args:
            distance: between the frames, either way.
            frame_tokens: tokens of a frame.

        Returns:
            Tokens, or None where nothing is seen.
        """
        if distance <= 1:
            return frame_tokens - 1
        band = 2.0 ** (frame_tokens.bit_length() - distance.bit_length())
        if band < self.block and distance % math.ceil(self.block / band):
            return None
        return math.floor(max(self.block, self.decay * band))


def radial_map(
    queries: Sequence[int],
    slots: Sequence[int | None],
    sinks: Collection[int],
    chunk: int,
    frame_tokens: int,
    settings: RadialSettings,
) -> BlockMap:
    """Which blocks of a cache a forward's queries see; needed anew only when frames change.

    A block of keys is seen by a block of queries if any two of their tokens see each other. Sinks
    are seen by all, and the frames of a chunk by each other.

    Args:
        queries: the frames of the forward, by their numbers in the film.
        slots: the frame in each slot of the cache, the queries' own among them; None is not seen.
        sinks: frames that are always seen.
        chunk: frames made at a time; the first of a chunk is a multiple of it.
        frame_tokens: tokens of a frame.
        settings: of the bands.

    Returns:
        A map as wide as all slots, on the CPU: its shape does not depend on what is seen.
    """
    size = settings.block
    blocks = torch.arange(math.ceil(frame_tokens / size))

    def blocks_apart(query: int, key: int | None) -> int:
        """How far apart the numbers of two blocks may be, -1 where nothing is seen."""
        if key is None:
            return -1
        if key in sinks or key // chunk == query // chunk:
            return len(blocks)
        reach = settings.reach(abs(query - key), frame_tokens)
        # The nearest tokens of the blocks a and b are (|a - b| - 1) * size + 1 apart.
        return -1 if reach is None else math.ceil(reach / size)

    most = torch.tensor([[blocks_apart(query, key) for key in slots] for query in queries])
    apart = (blocks[:, None] - blocks).abs()
    seen = (apart[:, None] <= most[:, None, :, None]).flatten(2).flatten(0, 1)
    keys = seen.to(torch.int8).argsort(dim=1, descending=True, stable=True)
    return BlockMap(keys.to(torch.int32), seen.sum(1, dtype=torch.int32), size)
