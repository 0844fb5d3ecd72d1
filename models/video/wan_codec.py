"""Wan's own video autoencoder, streamed: diffusers' modules with the feature cache carried on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from longtake.models.video.transfer import Constant


@dataclass
class WanDecoderState:
    """What each causal convolution remembers.

    Attributes:
        features: one entry a convolution, as diffusers' decoder keeps them; None before the first.
    """

    features: list[Any]


class WanCodec:
    """An ``AutoencoderKLWan``, latent by latent.

    Args:
        vae: from diffusers, without spatial patches.

    Raises:
        ValueError: the vae folds pixels into patches (Wan 2.2's does).
    """

    def __init__(self, vae: Any) -> None:  # noqa: ANN401 (diffusers carries no types)
        config = vae.config
        if config.patch_size is not None:
            raise ValueError(f"patch_size {config.patch_size}: only Wan 2.1's codec is served")
        self.vae = vae
        self.temporal: int = 2 ** sum(config.temperal_downsample)
        self.spatial: int = 2 ** (len(config.dim_mult) - 1)
        self.channels: int = config.z_dim
        self.encodes = True
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

    def decode_bytes(self, height: int, width: int, dtype: torch.dtype) -> int:
        """Derived from the sizes; see :class:`.VideoCodec`."""
        # Until a latent is decoded, what was carried before it is there too.
        carried = 2 * self.carried_bytes(height, width, dtype)
        channels: int = self.vae.config.base_dim * self.vae.config.dim_mult[1]
        # The widest moment is the last enlargement: it is made in float32 and then converted.
        return carried + channels * self.temporal * height * width * (4 + dtype.itemsize)

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
        self.vae.clear_cache()
        return WanDecoderState(features=[None] * len(self.vae._feat_map))

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
        features = list(state.features)
        first = features[0] is None
        raw = self.vae.post_quant_conv(latents * self._std.like(latents) + self._mean.like(latents))
        frames = []
        for index in range(raw.shape[2]):
            out = self.vae.decoder(
                raw[:, :, index : index + 1],
                feat_cache=features,
                feat_idx=[0],
                first_chunk=first and index == 0,
            )
            frames.append(out)
        video = torch.cat(frames, 2).clamp(-1, 1).add(1).div(2)
        return video.transpose(1, 2), WanDecoderState(features)

    def save(self, state: WanDecoderState) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """A state as named tensors and JSON-like values."""
        tensors = {}
        values: list[str | None] = []
        for index, feature in enumerate(state.features):
            # A convolution may hold a tensor, nothing yet, or diffusers' mark for its first call.
            held = isinstance(feature, Tensor)
            values.append("tensor" if held else feature)
            if held:
                tensors[f"features.{index}"] = feature
        return tensors, {"features": values}

    def load(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> WanDecoderState:
        """The state that :meth:`save` gave."""
        features = [
            tensors[f"features.{index}"] if value == "tensor" else value
            for index, value in enumerate(values["features"])
        ]
        return WanDecoderState(features)
