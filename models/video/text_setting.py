"""How a text encoder is kept: its precision, its place, and what it takes so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from math import ceil
from typing import Literal, NamedTuple

import torch

from longtake.models.memory import Alternative, Need
from longtake.streaming import StreamError

Precision = Literal["bf16", "int8", "nf4"]
Offload = Literal["text", "text-once"]
PRECISIONS: tuple[Precision, ...] = ("bf16", "int8", "nf4")
OFFLOADS: tuple[Offload, ...] = ("text", "text-once")

# Of bitsandbytes, for a weight: 8 bits; 4 bits, a scale of 8 bits for 64 of them and one of 32 bits
# for 256 of those.
QUANTIZED_BYTES = {"int8": 1.0, "nf4": 0.5 + 1 / 64 + 4 / (64 * 256)}


class TextCount(NamedTuple):
    """Weights of a text encoder.

    Attributes:
        linear: that can be quantised.
        other: all else.
    """

    linear: int
    other: int


@dataclass(frozen=True)
class TextSetting:
    """How a text encoder is kept.

    Attributes:
        precision: ``bf16``, or its linear layers in 8 or 4 bits by bitsandbytes (``int8``,
            ``nf4``); left out, that of the model.
        offload: ``text`` keeps it in the machine's memory and encodes there, from the first prompt
            on that is not known from before; ``text-once`` also lets go of it after each. Left
            out, it stays on the model's device.
    """

    precision: Precision | None = None
    offload: Offload | None = None

    def check(self) -> None:
        """Refuse what there is not.

        Raises:
            StreamError: ``bad_setting``.
        """
        for name, value, known in (
            ("text_encoder", self.precision, PRECISIONS),
            ("offload", self.offload, OFFLOADS),
        ):
            if value is not None and value not in known:
                hint = f"use {' or '.join(map(repr, known))}, or leave it out"
                raise StreamError("bad_setting", f"{name} is {value!r}", hint)

    def device(self, device: torch.device) -> torch.device:
        """Where it encodes, for a model on a device."""
        return torch.device("cpu") if self.offload else device

    def dtype(self, dtype: torch.dtype) -> torch.dtype:
        """Of what is not quantised, for a model in a dtype."""
        return torch.bfloat16 if self.precision == "bf16" else dtype

    def bytes(self, count: TextCount, dtype: torch.dtype) -> int:
        """What an encoder takes in memory, for a model in a dtype."""
        wide = self.dtype(dtype).itemsize
        narrow = QUANTIZED_BYTES.get(self.precision or "", wide)
        return count.other * wide + ceil(count.linear * narrow)


@dataclass(frozen=True)
class TextSizes:
    """Of a text encoder, see :class:`longtake.models.memory.Sizes`.

    Attributes:
        count: its weights.
        setting: how it is kept.
        dtype: of the model.
    """

    count: TextCount
    setting: TextSetting
    dtype: torch.dtype

    @property
    def need(self) -> Need:
        """Of its weights."""
        return Need({"text_encoder": self.setting.bytes(self.count, self.dtype)})

    def smaller(self) -> Iterator[tuple[str, TextSizes]]:
        """Other precisions that can be had here, each smaller than the one before, in words."""
        least = self.need.total
        for precision in PRECISIONS:
            less = replace(self, setting=replace(self.setting, precision=precision))
            served = precision not in QUANTIZED_BYTES or find_spec("bitsandbytes")
            if served and less.need.total < least:
                yield f"--text-encoder {precision}", less
                least = less.need.total

    def alternatives(self) -> Iterator[Alternative]:
        """The same, with what each takes."""
        for words, less in self.smaller():
            yield words, less.need
