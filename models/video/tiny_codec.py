"""A tiny 2-D video codec of the TAEHV kind: convolutions that also see the previous frame.

Time is compressed and grown by 1x1 convolutions that fold frames into channels and back; memory
is one feature map a block. So a stream can be coded frame by frame with constant memory, and the
result is that of coding the whole clip at once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from longtake.kernels import Steps, multiplies_bytes
from longtake.models.video.byte_decoder import Extents, in_bytes, squares
from longtake.models.video.tiny_layers import (
    Clamp,
    Grow,
    Layer,
    MemoryBlock,
    Pool,
    conv,
    fold,
    run,
)
from longtake.models.video.transfer import Constant


@dataclass(frozen=True)
class TinyCodecConfig:
    """Sizes; the stages of the encoder are listed from pixels to latents, the decoder's back.

    A decoder alone has none of the encoder's: its three lists are empty.

    Attributes:
        latent_channels: channels of a latent frame.
        patch_size: pixels folded into channels before the first convolution.
        blocks: memory blocks in each stage.
        encoder_channels: width of the stem and of each stage.
        encoder_pool: frames folded into one at the start of each stage.
        encoder_stride: spatial stride of each stage.
        decoder_channels: width of each stage and of the head.
        decoder_scale: spatial upsampling at the end of each stage.
        decoder_grow: frames grown from one at the end of each stage.
        frames_to_trim: frames dropped at the start of a stream (3 where the latents come from a
            codec whose first latent holds a single frame, as Wan's does).
        latents_mean: per channel, of the raw latents; empty means 0.
        latents_std: per channel, of the raw latents; empty means 1.
    """

    latent_channels: int = 16
    patch_size: int = 1
    blocks: int = 3
    encoder_channels: tuple[int, ...] = (64, 64, 64, 64)
    encoder_pool: tuple[int, ...] = (2, 2, 1)
    encoder_stride: tuple[int, ...] = (2, 2, 2)
    decoder_channels: tuple[int, ...] = (256, 128, 64, 64)
    decoder_scale: tuple[int, ...] = (2, 2, 2)
    decoder_grow: tuple[int, ...] = (1, 2, 2)
    frames_to_trim: int = 0
    latents_mean: tuple[float, ...] = field(default=())
    latents_std: tuple[float, ...] = field(default=())

    def __post_init__(self) -> None:
        stages = {
            "encoder": (self.encoder_channels, self.encoder_pool, self.encoder_stride),
            "decoder": (self.decoder_channels, self.decoder_scale, self.decoder_grow),
        }
        for part, (channels, space, time) in stages.items():
            if part == "encoder" and not (channels or space or time):
                continue
            if not len(channels) == len(space) + 1 == len(time) + 1:
                raise ValueError(f"the {part}'s lists do not agree on the number of stages")
        if self.encodes and math.prod(self.encoder_pool) != self.temporal:
            raise ValueError("encoder_pool and decoder_grow differ in frames a latent")
        if self.encodes and self.patch_size * math.prod(self.encoder_stride) != self.spatial:
            raise ValueError("encoder_stride and decoder_scale differ in pixels a latent")
        for name in ("latents_mean", "latents_std"):
            if len(getattr(self, name)) not in {0, self.latent_channels}:
                raise ValueError(f"{name} needs {self.latent_channels} numbers, or none")

    @property
    def encodes(self) -> bool:
        """Whether there is an encoder."""
        return bool(self.encoder_channels)

    @property
    def temporal(self) -> int:
        """Pixel frames a latent frame."""
        return math.prod(self.decoder_grow)

    @property
    def spatial(self) -> int:
        """Pixels a latent, along each side."""
        return self.patch_size * math.prod(self.decoder_scale)


@dataclass
class DecoderState:
    """What a stream's decoding carries from one call to the next.

    Attributes:
        memory: the last input of each memory block, [batch, channels, height, width]; empty
            before the first call.
        trim: frames still to be dropped.
    """

    memory: list[Tensor]
    trim: int


def _encoder(config: TinyCodecConfig) -> nn.Sequential:
    if not config.encodes:
        return nn.Sequential()
    widths = config.encoder_channels
    layers: list[nn.Module] = [conv(3 * config.patch_size**2, widths[0]), nn.ReLU()]
    stages = zip(widths, widths[1:], config.encoder_pool, config.encoder_stride, strict=False)
    for before, after, pool, stride in stages:
        layers += [Pool(before, pool), conv(before, after, stride, bias=False)]
        layers += [MemoryBlock(after) for _ in range(config.blocks)]
    return nn.Sequential(*layers, conv(widths[-1], config.latent_channels))


def _decoder(config: TinyCodecConfig) -> nn.Sequential:
    widths = config.decoder_channels
    layers: list[nn.Module] = [Clamp(), conv(config.latent_channels, widths[0]), nn.ReLU()]
    stages = zip(widths, widths[1:], config.decoder_scale, config.decoder_grow, strict=False)
    for before, after, scale, grow in stages:
        layers += [MemoryBlock(before) for _ in range(config.blocks)]
        layers += [nn.Upsample(scale_factor=scale), Grow(before, grow)]
        layers += [conv(before, after, bias=False)]
    return nn.Sequential(*layers, nn.ReLU(), conv(widths[-1], 3 * config.patch_size**2))


class TinyCodec(nn.Module):
    """Encodes pixel frames to latent frames and back, as a clip or as a stream."""

    def __init__(self, config: TinyCodecConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = _encoder(config)
        self.decoder = _decoder(config)
        channels = config.latent_channels
        mean = config.latents_mean or (0.0,) * channels
        std = config.latents_std or (1.0,) * channels
        # No buffers: they belong to the config, not to the state dict.
        self._mean, self._std = Constant(mean), Constant(std)
        # No module of its own: the parameters are the decoder's.
        self._decoding: list[Layer] = list(self.decoder)
        # Of what each memory block remembers, where that is bytes.
        self._steps: list[Steps] = []

    def settle(self, device: torch.device, *, int8: bool = False) -> TinyCodec:
        """Move to where it is to decode, for good, and be laid out as is fastest there.

        On a CPU some operations of the decoder are folded into one, with what the weights are now:
        frames are the same but for rounding, in 0.82 of the time. On a GPU that has not been
        measured, and decoding is a small part of a chunk.

        Args:
            device: where that is.
            int8: whether to decode with bytes, where :meth:`serves_int8` says so.
        """
        # Convolutions over few channels are faster with channels last, on CPU and GPU alike.
        self.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if device.type == "cpu":
            self._decoding, self._steps = list(fold(self.decoder)), []
        if int8 and self.serves_int8(device):
            extents = Extents(self.decoder)
            with extents, torch.no_grad():
                self.decode(self.encode(squares(self).to(next(self.parameters()))))
            self._decoding = list(in_bytes(self._decoding, extents.steps))
            self._steps = [given for given, *_ in extents.steps[:-1]]
        return self

    def serves_int8(self, device: torch.device) -> bool:
        """Whether it can decode with bytes: on CPUs that multiply them.

        How far its numbers reach is seen when it decodes what it has encoded itself.
        """
        doubling = set(self.config.decoder_scale) == {2}
        known = self.encodes and doubling and self.config.blocks > 0
        return device.type == "cpu" and known and multiplies_bytes()

    @property
    def int8(self) -> bool:
        """See :class:`.VideoCodec`: it decodes with bytes."""
        return bool(self._steps)

    @property
    def temporal(self) -> int:
        """Pixel frames a latent frame."""
        return self.config.temporal

    @property
    def spatial(self) -> int:
        """Pixels a latent, along each side."""
        return self.config.spatial

    @property
    def channels(self) -> int:
        """Channels of a latent frame."""
        return self.config.latent_channels

    @property
    def encodes(self) -> bool:
        """Whether there is an encoder."""
        return self.config.encodes

    def frames_of(self, latents: int) -> int:
        """What is trimmed counts not; see :class:`.VideoCodec`."""
        return latents * self.temporal - self.config.frames_to_trim

    def encode_clip(self, frames: Tensor) -> Tensor:
        """See :class:`.VideoCodec`; what is no whole latent at the end is held, as TAEHV does."""
        whole = -(-frames.shape[1] // self.temporal) * self.temporal
        held = frames[:, -1:].expand(-1, whole - frames.shape[1], -1, -1, -1)
        memory: list[Tensor] = []
        pieces = torch.cat((frames, held), 1).split(self.temporal, 1)
        return torch.cat([self.encode(piece, memory) for piece in pieces], 2)

    def encode(self, frames: Tensor, memory: list[Tensor] | None = None) -> Tensor:
        """Encode a whole clip, or the next frames of one where a memory is given.

        Args:
            frames: [batch, time, 3, height, width] in [0, 1]; time is a multiple of
                ``config.temporal``, height and width of ``config.spatial``.
            memory: of the frames before, empty at first; it is replaced in place.

        Returns:
            Normalised latents, [batch, channels, time / temporal, height / spatial, ...].
        """
        batch, memory = frames.shape[0], [] if memory is None else memory
        x = F.pixel_unshuffle(frames.flatten(0, 1), self.config.patch_size)
        latents = run(self.encoder, x, batch, memory).unflatten(0, (batch, -1)).transpose(1, 2)
        normalised: Tensor = (latents - self._mean.like(latents)) / self._std.like(latents)
        return normalised

    def decode_bytes(self, height: int, width: int, dtype: torch.dtype, latents: int) -> int:
        """Derived from the sizes; see :class:`.VideoCodec`."""
        config = self.config
        rows, columns = height // self.spatial, width // self.spatial
        carried, peak, frames = 0, 0, latents
        stages = zip(
            config.decoder_channels, config.decoder_scale, config.decoder_grow, strict=False
        )
        for channels, scale, grow in stages:
            size = channels * rows * columns
            # A block beside the frame before it: two inputs, both joined, and two outputs.
            peak = max(peak, 6 * frames * size, (1 + 2 * grow) * frames * size * scale**2)
            # Until a latent is decoded, what was carried before it is there too.
            carried += 2 * config.blocks * size
            rows, columns, frames = rows * scale, columns * scale, frames * grow
        return (carried + peak) * dtype.itemsize

    def start(self) -> DecoderState:
        """The state before a stream's first latent."""
        return DecoderState(memory=[], trim=self.config.frames_to_trim)

    def decode(
        self, latents: Tensor, state: DecoderState | None = None
    ) -> tuple[Tensor, DecoderState]:
        """Decode the next latents of a stream, or a whole clip where no state is given.

        Args:
            latents: normalised, [batch, channels, frames, height, width].
            state: from :meth:`start` or from the call before; it is not changed.

        Returns:
            Frames in [0, 1], [batch, frames * temporal (less what is trimmed), 3, H, W], and the
            state for the next call.
        """
        state = state or self.start()
        batch = latents.shape[0]
        raw = latents * self._std.like(latents) + self._mean.like(latents)
        memory = list(state.memory)
        x = run(self._decoding, raw.transpose(1, 2).flatten(0, 1), batch, memory)
        frames = F.pixel_shuffle(x, self.config.patch_size).clamp(0, 1)
        frames = frames.unflatten(0, (batch, -1))
        trimmed = min(state.trim, frames.shape[1])
        return frames[:, trimmed:], DecoderState(memory, state.trim - trimmed)

    def save(self, state: DecoderState) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """A state as named tensors and JSON-like values; bytes as what they stand for."""
        memory = state.memory
        if self._steps:
            memory = [each.values(frame) for each, frame in zip(self._steps, memory, strict=False)]
        return {f"memory.{index}": each for index, each in enumerate(memory)}, {"trim": state.trim}

    def load(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> DecoderState:
        """The state that :meth:`save` gave."""
        memory = [tensors[f"memory.{index}"] for index in range(len(tensors))]
        if self._steps:
            memory = [each.bytes(frame) for each, frame in zip(self._steps, memory, strict=False)]
        return DecoderState(memory, values["trim"])
