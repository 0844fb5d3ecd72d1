"""The memory that a film takes: arithmetic on the sizes, before anything is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from longtake.kernels import FP8, AttentionShape
from longtake.models.memory import Alternative, Need
from longtake.models.video.codec import VideoCodec
from longtake.models.video.kv_cache import CacheSettings
from longtake.models.video.settings import MAX_FRAMES, StreamingConfig
from longtake.models.video.text_setting import TextCount, TextSetting, TextSizes
from longtake.models.video.transformer import TransformerConfig
from longtake.streaming import StreamError

# Activations as wide as the model that a block holds beside its feed-forward part.
_STREAMS = 4
OFFLOAD, QUANTIZE, NARROW = "--offload text", "--quantize int8", "--kv-cache fp8"
_FLOAT32 = torch.float32.itemsize


@dataclass(frozen=True)
class FilmSizes:
    """All that decides how much memory a film takes.

    Attributes:
        transformer: its config.
        codec: only asked for its sizes, so it may be on the meta device.
        config: the picture's size, the window and the sink.
        dtype: of the loaded weights.
        weights: bytes of each part but the text encoder, all of it in ``dtype``.
        text: weights of the text encoder; None counts none.
        setting: how it is kept.
        on_gpu: whether the device has memory of its own, so that what is offloaded is not in it.
        int8: whether the transformer's blocks are in int8.
        int8_decoder: whether the decoder is, which takes no less.
        quantizable: whether they could be, and faster so.
        fp8_cache: whether keys and values are kept in 8-bit floating point.
        narrowable: whether they could be.
    """

    transformer: TransformerConfig
    codec: VideoCodec
    config: StreamingConfig
    dtype: torch.dtype
    weights: Mapping[str, int] = field(default_factory=dict)
    text: TextCount | None = None
    setting: TextSetting = field(default_factory=TextSetting)
    on_gpu: bool = False
    int8: bool = False
    int8_decoder: bool = False
    quantizable: bool = False
    fp8_cache: bool = False
    narrowable: bool = False

    @property
    def any_int8(self) -> bool:
        """Whether any of it is in int8."""
        return self.int8 or self.int8_decoder

    @property
    def need(self) -> Need:
        """Of the weights and one film."""
        text = self._text.need.parts if self._text and not self.beside else {}
        weights = dict(self.weights)
        if self.int8 and "transformer" in weights:
            linear = self.transformer.linear
            less = linear.weights * (self.dtype.itemsize - torch.int8.itemsize)
            weights["transformer"] -= less - linear.outputs * _FLOAT32
        return Need({**text, **weights, **self.session_need.parts})

    @property
    def beside(self) -> TextSizes | None:
        """The text encoder, where it is offloaded: it takes the machine's memory instead."""
        return self._text if self.on_gpu and self.setting.offload else None

    @property
    def session_need(self) -> Need:
        """Of a film alone.

        ``cache`` is self-attention's, ``prompt`` the text's keys and values, ``work`` what the
        largest forward or decode holds while it runs.
        """
        config, codec = self.config, self.codec
        size = (config.height, config.width)
        decode = codec.decode_bytes(*size, self.dtype, self.decoded_together)
        return Need(
            {
                "cache": self._cache(),
                "prompt": self._prompt(),
                "work": max(self._forward(), decode),
            }
        )

    @property
    def decoded_together(self) -> int:
        """Latent frames: a chunk's where a larger kernel is faster, or one, which is seen sooner.

        On a GPU frames are waited for when all of a chunk is started, so none would be.
        """
        return self.config.chunk if self.on_gpu else 1

    def changed(self, changes: Mapping[str, int]) -> FilmSizes:
        """With some of ``width``, ``height``, ``chunk``, ``window`` and ``sink`` changed.

        Raises:
            StreamError: ``bad_setting``: they do not fit each other, or the model.
        """
        for name in changes.keys() & {"window", "sink"}:
            if changes[name] > MAX_FRAMES:
                problem = f"{name} is {changes[name]}"
                raise StreamError("bad_setting", problem, f"use at most {MAX_FRAMES} latent frames")
        try:
            fields: dict[str, Any] = dict(changes)
            config = replace(self.config, **fields)
        except ValueError as error:
            raise StreamError("bad_setting", str(error), "choose another value") from None
        rows, columns = self.token
        if config.width % columns or config.height % rows:
            size = f"{config.width}x{config.height}"
            problem = f"{size} pixels are no whole number of tokens of {columns}x{rows}"
            near = f"{_multiple(config.width, columns)}x{_multiple(config.height, rows)}"
            raise StreamError("bad_setting", problem, f"{near} are, for example")
        return replace(self, config=config)

    def alternatives(self) -> Iterator[Alternative]:
        """Settings that take less, the least change first.

        The text encoder elsewhere, which costs no frames a second, or in fewer bits where there is
        no elsewhere; then the transformer in int8; then keys and values in fp8; then smaller
        windows, then no sink; then a smaller picture.
        """
        base, also = self, ""
        for words, setting in self._smaller_text():
            base, also = replace(self, setting=setting), f"{words} "
            yield words, base.need
        if self.quantizable and not self.int8:
            base, also = replace(base, int8=True), f"{also}{QUANTIZE} "
            yield also.rstrip(), base.need
        if self.narrowable and not self.fp8_cache:
            base, also = replace(base, fp8_cache=True), f"{also}{NARROW} "
            yield also.rstrip(), base.need
        config = self.config
        for sink in dict.fromkeys((config.sink, 0)):
            for window in range(config.window - 1, config.chunk - 1, -1):
                less = replace(base, config=replace(config, window=window, sink=sink))
                yield f"{also}--window {window} --sink {sink}", less.need
        rows, columns = self.token
        for quarters in (3, 2):
            width = max(columns, config.width * quarters // 4 // columns * columns)
            height = max(rows, config.height * quarters // 4 // rows * rows)
            less = replace(base, config=replace(config, width=width, height=height))
            yield f"{also}--size {width}x{height}", less.need

    @property
    def token(self) -> tuple[int, int]:
        """Rows and columns of pixels in a token."""
        _, high, wide = self.transformer.patch_size
        return self.codec.spatial * high, self.codec.spatial * wide

    @property
    def _text(self) -> TextSizes | None:
        return self.text and TextSizes(self.text, self.setting, self.dtype)

    def _smaller_text(self) -> Iterator[tuple[str, TextSetting]]:
        """Other ways to keep the text encoder, each smaller than the one before, in words."""
        if self._text is None or self.beside:
            return
        if self.on_gpu:
            yield OFFLOAD, replace(self.setting, offload="text")
            return
        for words, less in self._text.smaller():
            yield words, less.setting

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
    def token_grid(self) -> tuple[int, int]:
        """Rows and columns of tokens in a latent frame."""
        rows, columns = self.token
        return self.config.height // rows, self.config.width // columns

    @property
    def _frame_tokens(self) -> int:
        rows, columns = self.token_grid
        return rows * columns

    def _cache(self) -> int:
        """Keys and values of each slot, and raw keys of the sinks: see :class:`.KVCache`."""
        settings = CacheSettings(self.config.sink, self.config.window, self.config.chunk)
        kept = FP8 if self.fp8_cache else self.dtype
        width = 2 * settings.slots * kept.itemsize + settings.sink * self.dtype.itemsize
        return self.transformer.num_layers * width * self._frame_tokens * self.transformer.dim

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


def _multiple(size: int, part: int) -> int:
    """The nearest whole number of parts, at least one."""
    return max(1, round(size / part)) * part
