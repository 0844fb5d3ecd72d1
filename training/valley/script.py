"""Scripts: minutes of the valley in which one thing after another changes, and their frames."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from longtake.training.valley.film import film
from longtake.training.valley.world import (
    HEIGHT,
    WIDTH,
    Scenes,
    draw_change,
    sample_scenes,
)

CHANGES = (0.6, 0.3, 0.1)
"""Chances of one, two or three attributes changing at a time."""
PAUSES = (5.0, 14.0)
"""The least and the most seconds between two changes."""
STILL = 0.15
"""Share of the scripts in which nothing changes."""


@dataclass(frozen=True)
class Scripts:
    """A batch of scripts of as many scenes each; only the last ones may come after their end.

    `rows`: attributes int64 [B, S, 11] of each scene; `layout`: float32 [B, 13], one for all scenes
    of a script; `changes`: float64 [B, S - 1], the second at which a scene begins to become the
    next, growing, and infinite where there is no next one.
    """

    rows: Tensor
    layout: Tensor
    changes: Tensor

    def __len__(self) -> int:
        return self.rows.shape[0]

    def __getitem__(self, index: slice | Tensor) -> Scripts:
        return Scripts(self.rows[index], self.layout[index], self.changes[index])

    def to(self, device: torch.device | str) -> Scripts:
        """The same scripts on another device."""
        return Scripts(self.rows.to(device), self.layout.to(device), self.changes.to(device))

    def scene(self, number: int) -> Scenes:
        """One scene of every script."""
        return Scenes(self.rows[:, number], self.layout)


def draw_scripts(
    n: int,
    seconds: float,
    generator: torch.Generator,
    *,
    held_out: bool | None = False,
    pauses: tuple[float, float] = PAUSES,
    still: float = STILL,
) -> Scripts:
    """`n` random scripts that go on changing for so many seconds, on the generator's device.

    `held_out`: of the scenes, as in `world.sample_attributes`; `pauses`: the least and the most
    seconds between two changes; `still`: share of scripts without any.
    """
    device = generator.device
    count = int(seconds / pauses[0]) + 1

    def draw(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=device, dtype=torch.float64)

    waits = pauses[0] + (pauses[1] - pauses[0]) * draw(n, count)
    changes = waits.cumsum(1)
    changes[draw(n) < still] = torch.inf
    changes[changes >= seconds] = torch.inf
    scenes = [sample_scenes(n, generator, held_out)]
    for _ in range(count):
        scenes.append(draw_change(scenes[-1], CHANGES, generator))
    rows = torch.stack([each.attributes for each in scenes], 1)
    return Scripts(rows, scenes[0].layout, changes)


def current(scripts: Scripts, seconds: Tensor) -> Tensor:
    """Which scene was the last to begin at each second [B, T], int64 [B, T]."""
    begun = scripts.changes[:, None, :] <= seconds.double()[..., None]
    return begun.sum(-1)


def changing(changes: Tensor, clock: Tensor) -> tuple[Tensor, Tensor]:
    """Of films that change again and again, which change each frame is of, and when it begins.

    `changes`: float64 [B, C], see `Scripts`; `clock`: seconds, float64 [B, T]. Both results are
    [B, T]. A change belongs to the frames from half-way after the one before it.
    """
    last = torch.where(changes.isfinite(), changes, changes.new_tensor(1e12))
    borders = (last[:, 1:] + last[:, :-1]) / 2
    number = (borders[:, None, :] <= clock[..., None]).sum(-1)
    return number, last.gather(1, number)


def shoot(
    scripts: Scripts,
    seconds: Tensor,
    *,
    dtype: torch.dtype = torch.float32,
    batch: int = 16,
) -> Tensor:
    """Frames of scripts at `seconds` [B, T], uint8 [B, T, 3, HEIGHT, WIDTH] on their device.

    `dtype` and `batch` are those of `film`. A scene is its own film that begins at second 0, so
    where speed or camera have changed, things jump half-way between two changes.
    """
    frames = seconds.shape[1]
    clock = seconds.double()
    number, begin = changing(scripts.changes, clock)
    script = torch.arange(len(clock), device=clock.device)[:, None].expand(-1, frames)
    before, after = (
        Scenes(scripts.rows[script, number + k].flatten(0, 1), scripts.layout[script].flatten(0, 1))
        for k in range(2)
    )
    shown = film(before, after, clock.reshape(-1, 1), begin.flatten(), dtype=dtype, batch=batch)
    return shown.view(*clock.shape, 3, HEIGHT, WIDTH)
