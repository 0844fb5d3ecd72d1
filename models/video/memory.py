"""The memory that a film takes: arithmetic on the sizes, before anything is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch

from longtake.kernels import AttentionShape
from longtake.models.memory import Alternative, Need
from longtake.models.video.codec import VideoCodec
from longtake.models.video.kv_cache import CacheSettings
from longtake.models.video.settings import StreamingConfig
from longtake.models.video.transformer import TransformerConfig

# Activations as wide as the model that a block holds beside its feed-forward part.
_STREAMS = 4
_FLOAT32 = torch.float32.itemsize


@dataclass(frozen=True)
class FilmSizes:
    """All that decides how much memory a film takes.

    Attributes:
        transformer: its config.
        codec: only asked for its sizes, so it may be on the meta device.
        config: the picture's size, the window and the sink.
        dtype: of the loaded weights.
        weights: bytes of each loaded part.
    """

    transformer: TransformerConfig
    codec: VideoCodec
    config: StreamingConfig
    dtype: torch.dtype
    weights: Mapping[str, int] = field(default_factory=dict)

    @property
    def need(self) -> Need:
        """Of the weights and one film."""
        return Need({**self.weights, **self.session_need.parts})

    @property
    def session_need(self) -> Need:
        """Of a film alone.

        ``cache`` is self-attention's, ``prompt`` the text's keys and values, ``work`` what the
        largest forward or decode holds while it runs.
        """
        config, codec = self.config, self.codec
        decode = codec.decode_bytes(config.height, config.width, self.dtype)
        return Need(
            {
                "cache": self._cache(),
                "prompt": self._prompt(),
                "work": max(self._forward(), decode),
            }
        )

    def alternatives(self) -> Iterator[Alternative]:
        """Settings that take less, the least change first: smaller windows, then no sink."""
        config = self.config
        for sink in dict.fromkeys((config.sink, 0)):
            for window in range(config.window - 1, config.chunk - 1, -1):
                less = replace(self, config=replace(config, window=window, sink=sink))
                yield f"a window of {window} and a sink of {sink} (streaming.json)", less.need

    @property
    def token(self) -> tuple[int, int]:
        """Rows and columns of pixels in a token."""
        _, high, wide = self.transformer.patch_size
        return self.codec.spatial * high, self.codec.spatial * wide

    @property
    def attention_shape(self) -> AttentionShape:
        """Of self-attention over a full cache."""
        config, sizes = self.config, self.transformer
        return AttentionShape(
            config.chunk * self._frame_tokens,
            (config.sink + config.window) * self._frame_tokens,
            sizes.num_attention_heads,
            sizes.attention_head_dim,
        )

    @property
    def _frame_tokens(self) -> int:
        rows, columns = self.token
        return (self.config.height // rows) * (self.config.width // columns)

    def _cache(self) -> int:
        """Keys and values of each slot, and raw keys of the sinks: see :class:`.KVCache`."""
        settings = CacheSettings(self.config.sink, self.config.window, self.config.chunk)
        tokens = (2 * settings.slots + settings.sink) * self._frame_tokens
        return self.transformer.num_layers * tokens * self.transformer.dim * self.dtype.itemsize

    def _prompt(self) -> int:
        keys = self.config.text_length * self.transformer.dim
        return self.transformer.num_layers * 2 * keys * self.dtype.itemsize

    def _forward(self) -> int:
        """A block's feed-forward part, the widest moment, with the reference's kernels."""
        config, itemsize = self.config, self.dtype.itemsize
        # A recache runs all that is remembered in one forward, or a chunk at a time.
        frames = config.sink + config.window if config.recache == "full" else config.chunk
        # They compute in float32: what comes in, beside it if it is narrower, and what comes out.
        narrow = itemsize if itemsize < _FLOAT32 else 0
        widths = self.transformer.ffn_dim * (2 * _FLOAT32 + narrow)
        widths += _STREAMS * self.transformer.dim * itemsize
        return frames * self._frame_tokens * widths
