"""Wan's own video autoencoder, streamed: diffusers' weights, and its encoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from longtake.kernels.reference import TAPS, norm_silu_write
from longtake.models.video.transfer import Constant
from longtake.models.video.wan_decoder import NormSiluWrite, WanDecoder


@dataclass
class WanDecoderState:
    """What the convolutions over time remember.

    Attributes:
        carried: the two frames before each of them, [batch, 2, height, width, channels]; nothing
            before a stream's first latent.
    """

    carried: list[Tensor]


class WanCodec:
    """An ``AutoencoderKLWan``, any number of latents at a time.

    Args:
        vae: from diffusers, without spatial patches, its weights loaded: those of the decoder are
            laid out anew in memory, which shows nowhere else.
        norm_silu: the kernel of that name.

    Raises:
        ValueError: the vae folds pixels into patches, or has shortcuts around its levels (Wan
            2.2's does both).
    """

    def __init__(
        self,
        vae: Any,  # noqa: ANN401 (diffusers carries no types)
        norm_silu: NormSiluWrite = norm_silu_write,
    ) -> None:
        config = vae.config
        if config.patch_size is not None:
            raise ValueError(f"patch_size {config.patch_size}: only Wan 2.1's codec is served")
        if config.is_residual:
            raise ValueError("is_residual is true: only Wan 2.1's codec is served")
        self.vae = vae
        self.decoder = WanDecoder(vae.decoder, norm_silu)
        self.temporal: int = 2 ** sum(config.temperal_downsample)
        self.spatial: int = 2 ** (len(config.dim_mult) - 1)
        self.channels: int = config.z_dim
        self.encodes = True
        self.int8 = False
        self._mean = Constant(tuple(config.latents_mean))
        self._std = Constant(tuple(config.latents_std))

    def frames_of(self, latents: int) -> int:
        """The first latent holds a single frame."""
        return 1 + (latents - 1) * self.temporal

    def encode_clip(self, frames: Tensor) -> Tensor:
        """The encoder's means, normalised; see :class:`.VideoCodec`."""
        raw = self.vae.encode(frames.transpose(1, 2) * 2 - 1).latent_dist.mode()
        latents: Tensor = (raw - self._mean.like(raw)) / self._std.like(raw)
        return latents

    def decode_bytes(self, height: int, width: int, dtype: torch.dtype, latents: int) -> int:
        """Derived from the sizes; see :class:`.VideoCodec`."""
        # The largest moment is between two convolutions at the whole size: what the first made, the
        # residual, and the next one's input.
        channels: int = self.vae.config.base_dim * self.vae.config.dim_mult[0]
        frame = channels * height * width * dtype.itemsize
        work = (2 + TAPS) * latents * self.temporal * frame
        # Until latents are decoded, what was carried before them is there too.
        return 2 * self.carried_bytes(height, width, dtype) + work

    def carried_bytes(self, height: int, width: int, dtype: torch.dtype) -> int:
        """Bytes of a stream's state: two frames before each convolution over time."""
        config = self.vae.config
        widths: list[int] = [config.base_dim * multiple for multiple in config.dim_mult]
        rows, columns = height // self.spatial, width // self.spatial
        # The first convolution, and two blocks of two.
        total: int = (config.z_dim + 4 * widths[-1]) * rows * columns
        before = widths[-1]
        grows = config.temperal_downsample[::-1]
        for index, channels in enumerate(widths[::-1]):
            blocks = config.num_res_blocks + 1
            total += (before + (2 * blocks - 1) * channels) * rows * columns
            if index < len(grows):
                total += channels * rows * columns if grows[index] else 0
                rows, columns = 2 * rows, 2 * columns
                # Enlarging halves the channels.
                before = channels // 2
        return 2 * (total + widths[0] * rows * columns) * dtype.itemsize

    def start(self) -> WanDecoderState:
        """The state before a stream's first latent."""
        return WanDecoderState([])

    def decode(
        self, latents: Tensor, state: WanDecoderState | None = None
    ) -> tuple[Tensor, WanDecoderState]:
        """Decode the next latents of a stream.

        Args:
            latents: normalised, [batch, channels, frames, height, width].
            state: from :meth:`start` or from the call before; it is not changed.

        Returns:
            Frames in [0, 1], [batch, time, 3, spatial * height, spatial * width], and the next
            state. A stream's first latent gives one frame, every later one ``temporal``.
        """
        state = state or self.start()
        pictures, carried = self.decoder(self.raw(latents).movedim(1, -1), state.carried)
        frames = pictures.clamp(-1, 1).add(1).div(2).movedim(-1, 2)
        return frames, WanDecoderState(carried)

    def raw(self, latents: Tensor) -> Tensor:
        """Normalised latents as the decoder takes them."""
        raw: Tensor = self.vae.post_quant_conv(
            latents * self._std.like(latents) + self._mean.like(latents)
        )
        return raw

    def save(self, state: WanDecoderState) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """A state as named tensors and JSON-like values."""
        return {f"carried.{index}": each for index, each in enumerate(state.carried)}, {}

    def load(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> WanDecoderState:  # noqa: ARG002
        """The state that :meth:`save` gave."""
        return WanDecoderState([tensors[f"carried.{index}"] for index in range(len(tensors))])
