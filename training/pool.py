"""Pools of rendered clips in memory: rendering inside a training loop would starve it."""

from __future__ import annotations

import torch
from torch import Tensor

from longtake.training.render import render, render_switch
from longtake.training.world import NAMES, RATE, SIZE, change_scenes, sample_scenes

FADE = 0.5
"""Seconds that a change takes."""


def times(start: Tensor, frames: int, stride: int = 1) -> Tensor:
    """Times in seconds of every `stride`-th frame, float64 [B, frames], from starts [B]."""
    steps = torch.arange(frames, device=start.device, dtype=torch.float64) * stride / RATE
    return start.double()[:, None] + steps


def render_dtype(device: torch.device) -> torch.dtype:
    """Half precision where it is faster."""
    return torch.float16 if device.type == "cuda" else torch.float32


def scene_pool(
    clips: int,
    frames: int,
    generator: torch.Generator,
    *,
    stride: int = 1,
    held_out: bool | None = False,
) -> tuple[Tensor, Tensor]:
    """Clips of scenes in which nothing changes.

    Returns uint8 [clips, frames, 3, 128, 128] and attributes int64 [clips, 7], both on the
    generator's device; each clip begins somewhere in the first 100 seconds.
    """
    device = generator.device
    pool = torch.empty(clips, frames, 3, SIZE, SIZE, dtype=torch.uint8, device=device)
    scenes = sample_scenes(clips, generator, held_out)
    start = 100 * torch.rand(clips, generator=generator, device=device)
    for first in range(0, clips, 256):
        part = slice(first, first + 256)
        seconds = times(start[part], frames, stride)
        pool[part] = render(scenes[part], seconds, dtype=render_dtype(device), batch=32)
    return pool, scenes.attributes


def switch_pool(clips: int, frames: int, generator: torch.Generator) -> Tensor:
    """Clips of scenes of the training side in which one to three attributes change on the way.

    Returns uint8 [clips, frames, 3, 128, 128] on the generator's device.
    """
    device = generator.device
    before = sample_scenes(clips, generator)
    after = change_scenes(before, draw_marks(clips, generator, (0.5, 0.3, 0.2)), generator)
    start = 100 * torch.rand(clips, generator=generator, device=device)
    switch = start + (frames - 4) / RATE * torch.rand(clips, generator=generator, device=device)
    pool = torch.empty(clips, frames, 3, SIZE, SIZE, dtype=torch.uint8, device=device)
    for first in range(0, clips, 256):
        part = slice(first, first + 256)
        seconds = times(start[part], frames)
        alpha = ((seconds - switch[part, None]) / FADE).clamp(0, 1)
        some, others = before[part], after[part]
        dtype = render_dtype(device)
        pool[part] = render_switch(some, others, seconds, alpha, dtype=dtype, batch=32)
    return pool


def draw_marks(n: int, generator: torch.Generator, chances: tuple[float, ...]) -> Tensor:
    """Which attributes change: bool [n, 7]; `chances[i]` is that of i + 1 attributes."""
    device = generator.device
    count = torch.multinomial(
        torch.tensor(chances, device=device), n, replacement=True, generator=generator
    )
    order = torch.rand(n, len(NAMES), generator=generator, device=device).argsort(1)
    return order <= count[:, None]


def as_float(frames: Tensor) -> Tensor:
    """uint8 frames to float32 in [0, 1]."""
    return frames.float() / 255
