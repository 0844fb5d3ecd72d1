"""Few-step flow matching: plain functions of (sigma, latents), and noise that can be replayed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from longtake.models.seeding import generator


def sigmas(steps: int, shift: float) -> tuple[float, ...]:
    """Noise levels of the denoising steps, from 1 downwards; the level after the last is 0.

    Evenly spaced, then shifted towards noise: shift * s / (1 + (shift - 1) * s). Four steps at
    shift 5 are LongLive's 1000, 937.5, 833.3, 625 (in timesteps, 1000 * sigma).

    Args:
        steps: forwards a chunk, at least 1.
        shift: 1 leaves the levels even.

    Raises:
        ValueError: fewer than one step.
    """
    if steps < 1:
        raise ValueError(f"steps is {steps}; at least 1 is needed")
    even = (1 - index / steps for index in range(steps))
    return tuple(shift * s / (1 + (shift - 1) * s) for s in even)


def clean(noisy: Tensor, flow: Tensor, sigma: float) -> Tensor:
    """The clean latents that a predicted flow (noise - clean) points back to."""
    return noisy - sigma * flow


def renoise(latents: Tensor, noise: Tensor, sigma: float) -> Tensor:
    """Clean latents brought to a noise level: (1 - sigma) * latents + sigma * noise."""
    return (1 - sigma) * latents + sigma * noise


@dataclass(frozen=True)
class Schedule:
    """How a chunk is denoised.

    Attributes:
        levels: see :func:`sigmas`.
        renoised: whether noise is drawn anew between the steps, as a model does that was distilled
            to name clean latents in one (LongLive, section 3.1). Otherwise they follow the flow
            (Euler), and the first noise decides.
    """

    levels: tuple[float, ...]
    renoised: bool

    def after(
        self, step: int, noisy: Tensor, flow: Tensor, fresh: Callable[[int], Tensor]
    ) -> Tensor:
        """The latents at the next step's level, or clean ones after the last.

        Args:
            step: number of the step that predicted the flow.
            noisy: latents at its level.
            flow: as :func:`clean` takes it.
            fresh: number of a step -> its noise, shaped as the latents.
        """
        sigma, *rest = self.levels[step:]
        then = rest[0] if rest else 0.0
        if not self.renoised:
            return noisy + (then - sigma) * flow
        latents = clean(noisy, flow, sigma)
        return renoise(latents, fresh(step + 1), then) if rest else latents


def noise(shape: Sequence[int], seed: int, chunk: int, step: int) -> Tensor:
    """Gaussian noise that depends on nothing but its arguments, whatever the device.

    Returns:
        float32 on the CPU.
    """
    return torch.randn(tuple(shape), generator=generator(seed, chunk, step))
