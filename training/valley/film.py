"""Films of the valley: scenes at given times to frames, and where in them the thing is."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from longtake.training.valley.canvas import Canvas, chance_table, paint_where
from longtake.training.valley.ground import GRASS, SAND, SNOW, WATER, ground, spread_mask
from longtake.training.valley.moments import moments
from longtake.training.valley.shapes import DRAWINGS
from longtake.training.valley.sky import sky
from longtake.training.valley.things import Placed, companion, draw, shadow, thing
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
    every, chances = moments(before, after, seconds, change), chance_table(seconds.device)
    frames = seconds.new_empty((len(every), 3, HEIGHT, WIDTH), dtype=torch.uint8)
    for start in range(0, len(every), batch):
        part = slice(start, start + batch)
        painted = _painted(Canvas(every[part], dtype, chances))
        frames[part] = (painted.clamp(0, 1) * 255 + 0.5).to(torch.uint8)
    result: Tensor = frames.unflatten(0, seconds.shape)
    return result


def _painted(canvas: Canvas) -> Tensor:
    """Frames in [0, 1], [N, 3, HEIGHT, WIDTH]."""
    now = canvas.moments
    placed, beside = thing(now), companion(now)
    picture = torch.cat([sky(canvas), _grounds(canvas, placed, beside)], dim=2)
    foggy, wet = now.fog > 0, now.wet > 0
    picture = paint_where(canvas, foggy, lambda some, part, _: fog(some, part, 0.9), picture)
    for shape in range(len(DRAWINGS)):
        mine = (now.companion == shape) & (now.risen > 0)
        picture = _things(canvas, mine & wet, beside, shape, picture, mirrored=True)
        picture = _things(canvas, mine, beside, shape, picture)
    for shape in range(len(DRAWINGS)):
        mine = now.shape == shape
        picture = _things(canvas, mine & wet, placed, shape, picture, mirrored=True)
        picture = _things(canvas, mine, placed, shape, picture)
    picture = paint_where(canvas, foggy, lambda some, part, _: fog(some, part, 0.25), picture)
    picture = paint_where(canvas, now.rain > 0, rain, picture)
    return paint_where(canvas, now.snow > 0, snow, picture)


def _things(
    canvas: Canvas,
    where: Tensor,
    placed: Placed,
    shape: int,
    picture: Tensor,
    *,
    mirrored: bool = False,
) -> Tensor:
    """Things of one shape over the frames [N, 3, HEIGHT, WIDTH] where `where` [N]."""

    def painter(some: Canvas, part: Tensor, which: Tensor) -> Tensor:
        return draw(some, placed[which], shape, part, mirrored=mirrored)

    return paint_where(canvas, where, painter, picture)


def _grounds(canvas: Canvas, placed: Placed, beside: Placed) -> Tensor:
    """The ground of each frame with what throws shadows on it, [N, 3, HEIGHT - HORIZON, WIDTH]."""
    now = canvas.moments
    shape = (len(now), 3, HEIGHT - HORIZON, WIDTH)
    picture = torch.zeros(shape, device=canvas.device, dtype=canvas.dtype)

    for kind in (GRASS, SAND, SNOW, WATER):
        mine = (now.ground == kind) & (now.spread < 1)
        picture = paint_where(canvas, mine, partial(_laid, kind), picture)
    for kind in (GRASS, SAND, SNOW, WATER):
        mine = (now.coming == kind) & (now.spread > 0)
        picture = paint_where(canvas, mine, partial(_spreading, kind), picture)

    def darkened(some: Canvas, part: Tensor, which: Tensor) -> Tensor:
        return shadow(some, beside[which], 0.42, part)

    return shadow(canvas, placed, 0.5, paint_where(canvas, now.risen > 0, darkened, picture))


def _laid(kind: int, canvas: Canvas, _picture: Tensor, _which: Tensor) -> Tensor:
    return ground(canvas, kind)


def _spreading(kind: int, canvas: Canvas, picture: Tensor, _which: Tensor) -> Tensor:
    mask = spread_mask(canvas).to(picture.dtype)[:, None]
    return torch.lerp(picture, ground(canvas, kind), mask)


def thing_cells(before: Scenes, after: Scenes, seconds: Tensor, change: Tensor) -> Tensor:
    """Which cells of the frames of a film show the thing, the companion or the edge of one.

    Bool [B, T, HEIGHT / CELL, WIDTH / CELL]; the arguments are those of `film`.
    """
    now = moments(before, after, seconds, change)
    near = _near(thing(now)) | (_near(companion(now)) & (now.risen > 0)[:, None, None])
    shown: Tensor = near.unflatten(0, seconds.shape)
    return shown


def _near(placed: Placed) -> Tensor:
    """Which cells each thing reaches from its centre, bool [N, rows, columns]."""
    x = CELL * (torch.arange(WIDTH // CELL, device=placed.x.device) + 0.5)
    y = CELL * (torch.arange(HEIGHT // CELL, device=placed.x.device)[:, None] + 0.5)
    # From its centre to the nearest point of each cell.
    dx = ((x - placed.x[:, None, None]).abs() - CELL / 2).clamp(min=0)
    dy = ((y - placed.y[:, None, None]).abs() - CELL / 2).clamp(min=0)
    return torch.hypot(dx, dy) < (REACH * placed.radius)[:, None, None]
