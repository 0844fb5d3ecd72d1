"""One picture of a film, wherever that is made."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Frame:
    """One picture of a film.

    Attributes:
        pixels: uint8 RGB, [height, width, 3].
        index: its number in the film.
        time: its presentation time in seconds.
        prompt: the one in force.
    """

    pixels: NDArray[np.uint8]
    index: int
    time: float
    prompt: str
