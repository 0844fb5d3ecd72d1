"""What a film is while it is made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from longtake.models.video.kv_cache import KVCache
from longtake.models.video.recorded import RecordedForwards
from longtake.models.video.settings import Settings
from longtake.models.video.transformer import TextKV
from longtake.models.video.transition import Transition
from longtake.streaming import Step


@dataclass
class FilmState:
    """All that changes while a film is made.

    Attributes:
        seed: of its noise.
        settings: in force.
        prompts: that are read together, oldest first; the last is in force, or taking over.
        embeddings: in force: the prompts', or on the way to them, [1, text_tokens, text_dim].
        text: their keys and values.
        cache: self-attention's.
        decoder: the codec's state.
        forwards: what runs the transformer.
        chunk: index of the next chunk.
        frame: number of the next latent frame.
        origin: number of the first latent frame since the start or the last flush.
        history: clean latents by frame number, [1, channels, 1, h, w] each: the first ``sink``
            and the last ``sink + window`` since the origin.
        transition: to the newest prompt, until a chunk has begun under it alone.
        pending: what to do to the cache before the next chunk.
        noise: of the next chunk's first step, where it was drawn ahead.
        work: the chunk being made, suspended between two forwards.
    """

    seed: int
    settings: Settings
    prompts: tuple[str, ...]
    embeddings: Tensor
    text: TextKV
    cache: KVCache
    decoder: Any
    forwards: RecordedForwards
    chunk: int = 0
    frame: int = 0
    origin: int = 0
    history: dict[int, Tensor] = field(default_factory=dict)
    transition: Transition | None = None
    pending: Literal["recache", "resize", "flush"] | None = None
    noise: Tensor | None = None
    work: Iterator[Step] | None = None
