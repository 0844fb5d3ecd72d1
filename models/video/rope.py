"""Rotary positions of a video: the head's pairs are shared out over time, height and width."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from longtake.models.video.transfer import to_device


class RotaryEmbedding:
    """Rotations for tokens laid out frame by frame, row by row (Wan 2.1).

    Tables are made on the fly from integer positions in float64, so there is no last position.

    Args:
        head_dim: channels of one attention head; its pairs are split over (t, h, w) as Wan does:
            a third each to height and width, rounded down, the rest to time.
        device: of the tables; it has to have float64.
        theta: the base of the geometric series of frequencies.
    """

    def __init__(
        self, head_dim: int, device: torch.device | None = None, theta: float = 10_000.0
    ) -> None:
        space = 2 * (head_dim // 6)
        self.device = device or torch.device("cpu")
        self.frequencies = tuple(
            theta ** (-torch.arange(0, dim, 2, dtype=torch.float64, device=self.device) / dim)
            for dim in (head_dim - 2 * space, space, space)
        )

    def __call__(self, frames: Sequence[int], height: int, width: int) -> Tensor:
        """Cosine and sine for every token of the given frames.

        Args:
            frames: the time position of each frame.
            height: rows of tokens in a frame.
            width: columns of tokens in a frame.

        Returns:
            float32, [frames * height * width, head_dim / 2, 2].
        """
        space = (torch.arange(size, device=self.device) for size in (height, width))
        axes = (to_device(torch.tensor(frames), self.device), *space)
        t, h, w = (
            torch.outer(position.double(), frequency)
            for position, frequency in zip(axes, self.frequencies, strict=True)
        )
        shape = (len(frames), height, width, -1)
        angles = torch.cat(
            (
                t[:, None, None].expand(shape),
                h[None, :, None].expand(shape),
                w[None, None, :].expand(shape),
            ),
            -1,
        ).flatten(0, 2)
        return torch.stack((angles.cos(), angles.sin()), -1).float()
