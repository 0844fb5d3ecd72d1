"""The memory that watching takes: arithmetic on the sizes, before anything is loaded."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any, Literal

import torch

from longtake.models.folder import read_headers
from longtake.models.memory import Alternative, Need
from longtake.models.vlm.frames import FrameProcessor
from longtake.models.vlm.settings import Settings
from longtake.models.vlm.turns import Grid, Template

Quantization = Literal["8bit", "4bit"]
# Devices that bitsandbytes computes on.
QUANTIZING = ("cuda", "cpu")

# Tokens by which a turn may be longer than the one at hand: its times get more digits.
LONGER_TIMES = 16
# Of bitsandbytes: NF4's 4 bits, and a float32 scale for 64 of them.
_QUANTIZED_BYTES: dict[Quantization, float] = {"8bit": 1.0, "4bit": 0.5 + 4 / 64}
# What it leaves as it is though it is a matrix.
_UNQUANTIZED = ("embed_tokens", "lm_head")
_BUFFERS = 3
_FLOAT32 = torch.float32.itemsize


@dataclass(frozen=True)
class ChatSizes:
    """Tokens of the chat, those of pictures and of what people say left aside.

    Attributes:
        fixed: of the system message and of the old words' beginning and end.
        turn: of a round, up to where the assistant speaks.
        tail: that end a round.
    """

    fixed: int
    turn: int
    tail: int

    @staticmethod
    def of(template: Template) -> ChatSizes:
        """As a folder's own tokenizer makes them."""
        fixed = len(template.prompt("")) + len(template.closing)
        turn = len(template.turn(0.0, 1.0, Grid(0, 0, 0)).head)
        return ChatSizes(fixed, turn, len(template.tail))


@dataclass(frozen=True)
class Parameters:
    """How many numbers the weights are.

    Attributes:
        linear: of the matrices that quantization shrinks.
        other: all else.
    """

    linear: int
    other: int

    @staticmethod
    def of(folder: Path) -> Parameters:
        """From the headers of a folder's files.

        Raises:
            StreamError: ``bad_model``: there is no file, or one that cannot be read.
        """
        counts = [0, 0]
        for name, header in read_headers(folder):
            kept = len(header.shape) != 2 or any(part in name for part in _UNQUANTIZED)
            counts[kept] += math.prod(header.shape)
        return Parameters(*counts)


def steady_tokens(settings: Settings, fixed: int, turn: int, rest: int) -> int:
    """The most tokens that are remembered of a video whose frames are of one size.

    Args:
        settings: in force.
        fixed: see :class:`ChatSizes`; with the standing instruction.
        turn: tokens of a round up to where the assistant speaks, pictures included.
        rest: the most tokens that follow there.
    """
    # The window's, the one that may begin before it, and the one that is being watched.
    turns = ceil(settings.vision_seconds / settings.round_seconds) + 2
    words = settings.text_sink + settings.text_window
    return fixed + words + turns * (turn + LONGER_TIMES + rest)


@dataclass(frozen=True)
class WatchSizes:
    """All that decides how much memory a captioner takes, frames being as large as they may.

    Attributes:
        config: transformers' ``Qwen2_5_VLConfig``.
        settings: what to watch with.
        processor: the sizes of frames.
        chat: tokens of the chat.
        dtype: of the loaded weights, and of what quantised ones compute in.
        parameters: of the weights.
        quantization: of the loaded weights.
        quantizable: whether they could be quantised.
    """

    config: Any
    settings: Settings
    processor: FrameProcessor
    chat: ChatSizes
    dtype: torch.dtype
    parameters: Parameters = Parameters(0, 0)
    quantization: Quantization | None = None
    quantizable: bool = False

    @property
    def need(self) -> Need:
        """Of the weights and one watch."""
        return Need({"weights": self._weights(), **self.session_need.parts})

    @property
    def session_need(self) -> Need:
        """Of a watch alone: the ``cache``, and the ``work`` of the largest forward."""
        return Need({"cache": self._cache(), "work": max(self._seeing(), self._reading())})

    def alternatives(self) -> Iterator[Alternative]:
        """Settings that take less, the least change first."""
        names = tuple(_QUANTIZED_BYTES)
        smaller = names[names.index(self.quantization) + 1 :] if self.quantization else names
        seconds = self.settings.vision_seconds
        while seconds >= self.settings.round_seconds:
            settings = replace(self.settings, vision_seconds=seconds)
            for kind in (self.quantization, *(smaller if self.quantizable else ())):
                words = [f"{kind} quantization"] * (kind != self.quantization)
                words += [f"{seconds:g} s of memory"] * (seconds != self.settings.vision_seconds)
                if words:
                    less = replace(self, settings=settings, quantization=kind)
                    yield " with ".join(words), less.need
            seconds /= 2

    @property
    def _vision_tokens(self) -> int:
        """Of a round."""
        processor = self.processor
        _, most = processor.within(self.settings.min_pixels, self.settings.max_pixels)
        side = processor.patch_size * processor.merge_size
        groups = ceil(self.settings.round_frames / processor.temporal_patch_size)
        return groups * (most // side**2)

    @property
    def _tokens(self) -> int:
        settings, chat = self.settings, self.chat
        rest = max(settings.round_tokens, settings.answer_tokens) + chat.tail
        return steady_tokens(settings, chat.fixed, chat.turn + self._vision_tokens, rest)

    def _weights(self) -> int:
        linear = _QUANTIZED_BYTES[self.quantization] if self.quantization else self.dtype.itemsize
        other = self.parameters.other * self.dtype.itemsize
        return other + ceil(self.parameters.linear * linear)

    def _cache(self) -> int:
        """Keys, keys as they were written, and values: see :class:`.StreamingCache`."""
        text = self.config.get_text_config()
        width: int = text.num_key_value_heads * text.hidden_size // text.num_attention_heads
        layers: int = text.num_hidden_layers
        return layers * _BUFFERS * self._tokens * width * self.dtype.itemsize

    def _seeing(self) -> int:
        """A block of the vision encoder, beside the patches as they came."""
        vision, processor = self.config.vision_config, self.processor
        patches = self._vision_tokens * processor.merge_size**2
        pixels = 3 * processor.temporal_patch_size * processor.patch_size**2
        block: int = 6 * vision.hidden_size + 3 * vision.intermediate_size
        return patches * (pixels * _FLOAT32 + block * self.dtype.itemsize)

    def _reading(self) -> int:
        """A block of the language model over a round, and the keys and values of all heads."""
        text = self.config.get_text_config()
        hidden: int = text.hidden_size
        block = 6 * hidden + 3 * int(text.intermediate_size)
        fresh = self.chat.fixed + self.chat.turn + self._vision_tokens
        return (fresh * block + 2 * self._tokens * hidden) * self.dtype.itemsize
