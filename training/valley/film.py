"""Films of the valley: scenes at given times to frames, and where in them the thing is."""

from __future__ import annotations

import torch
from torch import Tensor

from longtake.training.valley.canvas import Canvas
from longtake.training.valley.ground import GRASS, SAND, SNOW, WATER, ground, spread_mask
from longtake.training.valley.moments import moments
from longtake.training.valley.pose import BOTTOM
from longtake.training.valley.shapes import DRAWINGS
from longtake.training.valley.sky import sky
from longtake.training.valley.things import companion, draw, shadow, thing
from longtake.training.valley.weather import fog, rain, snow
from longtake.training.valley.world import HEIGHT, HORIZON, RATE, WIDTH, Scenes

CELL = 16
"""Side of the square of pixels that a latent stands for."""
REACH = 1.4
"""How far from its centre a thing reaches, in radii."""


def times(start: Tensor, frames: int, stride: int = 1) -> Tensor:
    """Times in seconds of every `stride`-th frame, float64 [B, frames], from starts [B]."""
    steps = torch.arange(frames, device=start.device, dtype=torch.float64) * stride / RATE
    return start.double()[:, None] + steps


def render(
    scenes: Scenes, seconds: Tensor, *, dtype: torch.dtype = torch.float32, batch: int = 16
) -> Tensor:
    """Frames of scenes in which nothing changes; see `film`."""
    change = torch.zeros(len(scenes), device=seconds.device)
    return film(scenes, scenes, seconds, change, dtype=dtype, batch=batch)


def film(
    before: Scenes,
    after: Scenes,
    seconds: Tensor,
    change: Tensor,
    *,
    dtype: torch.dtype = torch.float32,
    batch: int = 16,
) -> Tensor:
    """Frames of films that change from one scene to another of the same layout.

    `seconds` [B, T] (any float dtype; float64 keeps films of days exact) and `change` [B], the
    second at which each film begins to change, give uint8 [B, T, 3, HEIGHT, WIDTH] on their
    device. Up to then frames equal those of `before` alone; two seconds later all is as `after`
    says. `batch` frames are painted at a time, their colours in `dtype`.
    """
    every = moments(before, after, seconds, change)
    frames = seconds.new_empty((len(every), 3, HEIGHT, WIDTH), dtype=torch.uint8)
    for start in range(0, len(every), batch):
        part = slice(start, start + batch)
        painted = _painted(Canvas(every[part], dtype))
        frames[part] = (painted.clamp(0, 1) * 255 + 0.5).to(torch.uint8)
    result: Tensor = frames.unflatten(0, seconds.shape)
    return result


def _painted(canvas: Canvas) -> Tensor:
    """Frames in [0, 1], [N, 3, HEIGHT, WIDTH]."""
    now, dtype = canvas.moments, canvas.dtype
    picture = torch.cat([sky(canvas), _grounds(canvas)], dim=2)
    placed, beside = thing(now), companion(now, BOTTOM)
    low = picture[:, :, HORIZON:]
    stands = (now.risen > 0).nonzero()[:, 0]
    if len(stands):
        low[stands] = shadow(Canvas(now[stands], dtype), beside[stands], 0.42, low[stands])
    picture[:, :, HORIZON:] = shadow(canvas, placed, 0.5, low)
    foggy = (now.fog > 0).nonzero()[:, 0]
    if len(foggy):
        picture[foggy] = fog(Canvas(now[foggy], dtype), picture[foggy], 0.9)
    wet = torch.where(now.spread < 0.5, now.ground, now.coming) == WATER
    for shape in range(len(DRAWINGS)):
        mine = ((now.companion == shape) & (now.risen > 0)).nonzero()[:, 0]
        if len(mine):
            picture[mine] = draw(Canvas(now[mine], dtype), beside[mine], shape, picture[mine])
    for shape in range(len(DRAWINGS)):
        mine = ((now.shape == shape) & wet).nonzero()[:, 0]
        if len(mine):
            some = Canvas(now[mine], dtype)
            picture[mine] = draw(some, placed[mine], shape, picture[mine], mirrored=True)
        mine = (now.shape == shape).nonzero()[:, 0]
        if len(mine):
            picture[mine] = draw(Canvas(now[mine], dtype), placed[mine], shape, picture[mine])
    if len(foggy):
        picture[foggy] = fog(Canvas(now[foggy], dtype), picture[foggy], 0.25)
    for amount, weather in ((now.rain, rain), (now.snow, snow)):
        mine = (amount > 0).nonzero()[:, 0]
        if len(mine):
            picture[mine] = weather(Canvas(now[mine], dtype), picture[mine])
    return picture


def _grounds(canvas: Canvas) -> Tensor:
    """The ground of each frame, [N, 3, HEIGHT - HORIZON, WIDTH], one spreading over another."""
    now, dtype = canvas.moments, canvas.dtype
    shape = (len(now), 3, HEIGHT - HORIZON, WIDTH)
    picture = torch.zeros(shape, device=canvas.device, dtype=dtype)
    for kind in (GRASS, SAND, SNOW, WATER):
        mine = ((now.ground == kind) & (now.spread < 1)).nonzero()[:, 0]
        if len(mine):
            picture[mine] = ground(Canvas(now[mine], dtype), kind)
    for kind in (GRASS, SAND, SNOW, WATER):
        mine = ((now.coming == kind) & (now.spread > 0)).nonzero()[:, 0]
        if len(mine):
            some = Canvas(now[mine], dtype)
            picture[mine] = torch.lerp(
                picture[mine], ground(some, kind), spread_mask(some).to(dtype)[:, None]
            )
    return picture


def thing_cells(before: Scenes, after: Scenes, seconds: Tensor, change: Tensor) -> Tensor:
    """Which cells of the frames of a film show the thing or its edge.

    Bool [B, T, HEIGHT / CELL, WIDTH / CELL]; the arguments are those of `film`.
    """
    placed = thing(moments(before, after, seconds, change))
    x = CELL * (torch.arange(WIDTH // CELL, device=seconds.device) + 0.5)
    y = CELL * (torch.arange(HEIGHT // CELL, device=seconds.device)[:, None] + 0.5)
    # From its centre to the nearest point of each cell.
    dx = ((x - placed.x[:, None, None]).abs() - CELL / 2).clamp(min=0)
    dy = ((y - placed.y[:, None, None]).abs() - CELL / 2).clamp(min=0)
    near = torch.hypot(dx, dy) < (REACH * placed.radius)[:, None, None]
    shown: Tensor = near.unflatten(0, seconds.shape)
    return shown
