"""A film while it is made: all that changes, and how it is saved."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from torch import Tensor

from longtake.models.video.codec import VideoCodec
from longtake.models.video.kv_cache import KVCache
from longtake.models.video.recorded import RecordedForwards
from longtake.models.video.settings import Settings
from longtake.models.video.transformer import TextKV
from longtake.models.video.transition import Transition
from longtake.streaming import Step, Tensors


@dataclass
class FilmState:
    """All that changes while a film is made.

    Attributes:
        seed: of its noise.
        draws: the seed by which is drawn what no prompt tells of; None where its first frames show
            that, and in films that were saved before anything was drawn.
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
        start: clean latents that the film begins with and that no chunk has taken yet, whole
            chunks of them, [1, channels, frames, h, w]; None once there are no more.
        transition: to the newest prompt, until a chunk has begun under it alone.
        pending: what to do to the cache before the next chunk.
        noise: of the next chunk's first step, where it was drawn ahead.
        work: the chunk being made, suspended between two forwards.
    """

    seed: int
    draws: int | None
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
    start: Tensor | None = None
    transition: Transition | None = None
    pending: Literal["recache", "resize", "flush"] | None = None
    noise: Tensor | None = None
    work: Iterator[Step] | None = None

    def save(self, codec: VideoCodec) -> tuple[Tensors, dict[str, Any]]:
        """Copies of the tensors on the CPU, and the rest as JSON-like values; at a boundary only.

        Args:
            codec: whose state ``decoder`` is.
        """
        cache, numbers = self.cache.save()
        decoder, decoder_values = codec.save(self.decoder)
        groups = {
            "cache": cache,
            "decoder": decoder,
            "history": {str(frame): latent for frame, latent in self.history.items()},
        }
        transition = self.transition
        if transition:
            groups["transition"] = {"start": transition.start}
        if self.start is not None:
            groups["start"] = {"latents": self.start}
        tensors = {
            f"{group}/{name}": tensor.to("cpu", copy=True).contiguous()
            for group, members in groups.items()
            for name, tensor in members.items()
        }
        values = {
            "seed": self.seed,
            "draws": self.draws,
            "settings": asdict(self.settings),
            "prompts": list(self.prompts),
            "cache": numbers,
            # Not those of the settings while a resize is pending.
            "cache_sizes": {
                "sink": self.cache.settings.sink,
                "window": self.cache.settings.window,
            },
            "decoder": decoder_values,
            "chunk": self.chunk,
            "frame": self.frame,
            "origin": self.origin,
            "transition": transition and {"began": transition.began, "chunks": transition.chunks},
            "pending": self.pending,
        }
        return tensors, values
