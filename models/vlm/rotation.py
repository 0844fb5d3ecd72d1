"""Turning keys by a difference of multimodal rotary positions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


class Rotation:
    """Rotates keys as Qwen2.5-VL's language model does.

    A head's pairs (i, i + head_dim / 2) share frequency i; the frequencies are dealt out to the
    axes time, height and width in three runs (Qwen2-VL's M-RoPE sections).

    Args:
        frequencies: radians a position, [head_dim / 2].
        sections: pairs of each axis.

    Raises:
        ValueError: the sections are not of three axes, or not all of the pairs.
    """

    def __init__(self, frequencies: Tensor, sections: Sequence[int]) -> None:
        if len(sections) != 3 or sum(sections) != len(frequencies):
            shown = ", ".join(map(str, sections))
            raise ValueError(f"mrope_section {shown} does not make up {len(frequencies)} pairs")
        self.head_dim = 2 * len(frequencies)
        self._frequencies = frequencies.double().cpu()
        self._axes = torch.tensor([axis for axis in range(3) for _ in range(sections[axis])])

    def turn(self, shift: Tensor, device: torch.device) -> Callable[[Tensor], Tensor]:
        """A function that moves keys on by so many positions.

        Angles are made in float64, and keys are turned in float32 whatever their dtype; a shift
        of 0 changes no bit.

        Args:
            shift: new position less the old one, float64, [tokens, 3].
            device: of the keys.

        Returns:
            keys [..., tokens, head_dim] -> new keys of the same dtype.
        """
        angles = shift[:, self._axes] * self._frequencies
        cos, sin = (table.float().to(device) for table in (angles.cos(), angles.sin()))

        def rotate(keys: Tensor) -> Tensor:
            low, high = keys.float().chunk(2, -1)
            turned = torch.cat((low * cos - high * sin, high * cos + low * sin), -1)
            return turned.to(keys.dtype)

        return rotate
