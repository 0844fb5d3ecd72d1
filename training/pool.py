"""Pools of rendered clips in memory: rendering inside a training loop would starve it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from longtake.training.valley.film import film, thing_cells, times
from longtake.training.valley.world import HEIGHT, RATE, WIDTH, Scenes, draw_change, sample_scenes

CLIPS_AT_ONCE = 512
FILMS_AT_ONCE = 16
CHANGES = (0.5, 0.3, 0.2)
"""Chances of one, two or three attributes changing in a clip of a pool."""


def shoot(before: Scenes, after: Scenes, seconds: Tensor, change: Tensor) -> Tensor:
    """`film` as fast as the device can: thousands of frames at a time where they are launched."""
    if seconds.device.type == "cpu":
        return film(before, after, seconds, change)
    return film(before, after, seconds, change, dtype=torch.float16, batch=8192)


class Pool(NamedTuple):
    """Clips in memory.

    `clips`: uint8 [N, T, 3, HEIGHT, WIDTH]; `rows`: the attributes at the end, int64 [N, 11];
    `things`: bool [N, T, rows, columns], see `thing_cells`.
    """

    clips: Tensor
    rows: Tensor
    things: Tensor


def clip_pool(
    clips: int,
    frames: int,
    generator: torch.Generator,
    *,
    stride: int = 1,
    held_out: bool | None = False,
    changing: bool = False,
) -> Pool:
    """Clips of every `stride`-th frame, each beginning somewhere in the first 100 seconds.

    `held_out`: as in `sample_attributes`; `changing`: some attributes change on the way. All is on
    the generator's device.
    """
    device = generator.device
    before = sample_scenes(clips, generator, held_out)
    after = draw_change(before, CHANGES, generator) if changing else before
    start = 100 * torch.rand(clips, generator=generator, device=device, dtype=torch.float64)
    length = frames * stride / RATE
    change = start + length * torch.rand(clips, generator=generator, device=device)
    shape = (clips, frames, 3, HEIGHT, WIDTH)
    pool = torch.empty(shape, dtype=torch.uint8, device=device)
    things = []
    for first in range(0, clips, CLIPS_AT_ONCE):
        part = slice(first, first + CLIPS_AT_ONCE)
        seconds = times(start[part], frames, stride)
        pool[part] = shoot(before[part], after[part], seconds, change[part])
        things.append(thing_cells(before[part], after[part], seconds, change[part]))
    return Pool(pool, after.attributes, torch.cat(things))


def renders(
    before: Scenes, after: Scenes, *, start: float, frames: int, change: float, device: torch.device
) -> Iterator[Tensor]:
    """True films of the scenes, some at a time: uint8 [some, frames, 3, HEIGHT, WIDTH] on the CPU.

    `start`: second of the first frame; `change`: at which the films begin to change.
    """
    for first in range(0, len(before), FILMS_AT_ONCE):
        part = slice(first, first + FILMS_AT_ONCE)
        old, new = before[part].to(device), after[part].to(device)
        begin = torch.full((len(old),), start, device=device)
        changes = torch.full((len(old),), change, device=device)
        yield shoot(old, new, times(begin, frames), changes).cpu()


def as_float(frames: Tensor) -> Tensor:
    """uint8 frames to float32 in [0, 1]."""
    return frames.float() / 255
