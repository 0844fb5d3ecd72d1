"""What the generator asks of a video codec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor


class VideoCodec(Protocol):
    """Turns latent frames into pictures, as a stream, and a film's first pictures into latents."""

    @property
    def temporal(self) -> int:
        """Pixel frames a latent frame."""
        ...

    @property
    def spatial(self) -> int:
        """Pixels a latent, along each side."""
        ...

    @property
    def channels(self) -> int:
        """Channels of a latent frame."""
        ...

    @property
    def encodes(self) -> bool:
        """Whether there is an encoder; a decoder alone serves for films from text."""
        ...

    @property
    def int8(self) -> bool:
        """Whether it computes in int8."""
        ...

    def frames_of(self, latents: int) -> int:
        """Pictures that a stream's first latents give, ``latents`` of them."""
        ...

    def encode_clip(self, frames: Tensor) -> Tensor:
        """The latents that a stream begins with, a latent at a time; needs :attr:`encodes`.

        It takes no more memory than decoding them does.

        Args:
            frames: [1, time, 3, H, W] in [0, 1]; time is what :meth:`frames_of` gives.

        Returns:
            Normalised latents, [1, channels, latents, h, w].
        """
        ...

    def decode_bytes(self, height: int, width: int, dtype: torch.dtype, latents: int) -> int:
        """Bytes that decoding takes at its height, what a stream carries included.

        Args:
            height: of the pictures, in pixels.
            width: as ``height``.
            dtype: of the weights.
            latents: frames that are decoded together.
        """
        ...

    def start(self) -> Any:  # noqa: ANN401 (each codec has its own state)
        """The state before a stream's first latent."""
        ...

    def decode(self, latents: Tensor, state: Any) -> tuple[Tensor, Any]:  # noqa: ANN401
        """[batch, channels, frames, h, w] -> pictures in [0, 1], [batch, time, 3, H, W]."""
        ...

    def save(self, state: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:  # noqa: ANN401
        """A state as named tensors and JSON-like values."""
        ...

    def load(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> Any:  # noqa: ANN401
        """The state that ``save`` gave."""
        ...
