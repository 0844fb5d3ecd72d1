"""Films made through the application's own path, one after the other, as a viewer sees them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

import numpy as np
import torch
from torch import Tensor

from longtake.app.api import Model
from longtake.training.metrics import Script


class StreamCamera:
    """A `metrics.Camera` that streams each film from a loaded model.

    `settings`: `switch`, `steps`, `sink`, `window`; the model's own where left out. They are in
    force from the first frame.
    """

    def __init__(self, model: Model, **settings: int | str) -> None:
        self.model = model
        self.settings: dict[str, Any] = settings
        self.chunk_frames = model.generator.spec.chunk_units

    def shoot(self, scripts: Sequence[Script], chunks: int, seed: int) -> Iterator[Tensor]:
        """See `metrics.Camera.shoot`; the films' seeds are `seed` and those after it."""
        for index, script in enumerate(scripts):
            yield self._film(script, chunks, seed + index)[None]

    def _film(self, script: Script, chunks: int, seed: int) -> Tensor:
        chunk_seconds = self.chunk_frames / self.model.rate
        with closing(self.model.take(script[0], seed=seed, **self.settings)) as take:
            for chunk, prompt in script.items():
                if chunk:
                    take.prompt(prompt, at=chunk * chunk_seconds)
            pixels = np.stack([frame.pixels for frame in take.frames(chunks * chunk_seconds)])
        return torch.from_numpy(pixels).permute(0, 3, 1, 2)
