"""Drawing the trial world: scenes at given times to frames, vectorised over clips and frames."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from longtake.training.scenery import Canvas, clouds, cover, ground, paint, scatter, sky, waves
from longtake.training.shapes import DRAWINGS, Tint
from longtake.training.world import (
    BOTTOM,
    COLOUR,
    SHAPE,
    SIZE,
    TIME,
    WEATHER,
    Pose,
    Scenes,
    cycle,
    pose,
)

# Rows are day, sunset, night.
THING_LIGHT = ((1.00, 1.00, 1.00), (1.00, 0.88, 0.80), (0.80, 0.80, 0.88))
RAIN = ((0.33, 0.43, 0.65), (0.85, 0.72, 0.78), (0.50, 0.58, 0.80))
FLAKES = ((1.00, 1.00, 1.00), (1.00, 0.93, 0.90), (0.80, 0.84, 0.95))
COLOURS = (
    (0.90, 0.10, 0.10),
    (1.00, 0.50, 0.05),
    (1.00, 0.88, 0.10),
    (0.10, 0.75, 0.20),
    (0.12, 0.32, 0.95),
    (0.55, 0.15, 0.80),
    (1.00, 0.45, 0.75),
    (0.97, 0.97, 0.97),
)
OUTLINE = 2.0
"""Width of the dark line around a thing, in pixels."""


def _thing(canvas: Canvas, attributes: Tensor, where: Pose, picture: Tensor) -> Tensor:
    """The thing and its shadow over frames [N, 3, SIZE, SIZE]; `where` is flat, [N]."""
    x, y = canvas.columns(), canvas.rows(0, SIZE)
    bottom = canvas.table(BOTTOM, attributes[:, SHAPE])
    radius, floor = canvas.cast(where.radius), canvas.cast(where.floor)
    height = (floor - canvas.cast(where.y) - bottom * radius).clamp(min=0)
    lift = 1 - (height / 110).clamp(max=0.6)
    spread = torch.hypot((x - canvas.cast(where.x)) / lift, 3.2 * (y - floor)) / radius
    shadow = (1.15 - spread).clamp(0, 1) * 1.6
    picture = picture * (1 - 0.5 * (shadow.clamp(max=1) * lift)[:, None])

    dx, dy = (x - canvas.cast(where.x)) / radius, (canvas.cast(where.y) - y) / radius
    facing = canvas.cast(where.facing)
    dx = dx / torch.where(facing < 0, facing.clamp(max=-0.12), facing.clamp(min=0.12))
    dy = dy / canvas.cast(where.squash)
    cos, sin = canvas.cast(where.angle.cos()), canvas.cast(where.angle.sin())
    u, v = dx * cos - dy * sin, dx * sin + dy * cos
    colour = canvas.table(COLOURS, attributes[:, COLOUR])
    light = canvas.table(THING_LIGHT, attributes[:, TIME])
    for index, drawing in enumerate(DRAWINGS):
        mine = (attributes[:, SHAPE] == index).nonzero()[:, 0]
        if not len(mine):
            continue
        part, layers = picture[mine], drawing(u[mine], v[mine])
        whole = layers[0][0]
        for distance, _ in layers[1:]:
            whole = torch.minimum(whole, distance)
        pixels = radius[mine]
        part = paint(
            part, cover(whole * pixels - OUTLINE), _tinted(colour[mine], 0.3) * light[mine]
        )
        for distance, tint in layers:
            part = paint(part, cover(distance * pixels), _tinted(colour[mine], tint) * light[mine])
        picture[mine] = part
    return picture


def _tinted(colour: Tensor, tint: Tint) -> Tensor:
    """A tint of `shapes` for things of the given colours [N, 3, 1, 1]."""
    if isinstance(tint, tuple):
        return colour.new_tensor(tint)[:, None, None].expand_as(colour)
    return colour * tint if tint <= 1 else torch.lerp(colour, torch.ones_like(colour), tint - 1)


def _rain(canvas: Canvas, fall: Tensor) -> Tensor:
    """Cover of slanted streaks [N, SIZE, SIZE]; `fall` [N] in turns of their cycle."""
    x, y = canvas.columns(), canvas.rows(0, SIZE)
    pitch, length, cells = 14.0, 44.0, 4
    across = (x + 0.25 * y) / pitch
    column = across.floor()
    along = y / length - canvas.cast(fall * cells) + 3 * scatter(column)
    cell = along.floor()
    du = (across - column - 0.5) * pitch
    dv = (along - cell - 0.5) * length
    streak = torch.hypot(du, (dv.abs() - 6).clamp(min=0)) - 1.9
    present = scatter(column * 5 + torch.remainder(cell, cells) * 3) < 0.6
    return cover(streak, 1.5) * present


def _snow(canvas: Canvas, fall: Tensor) -> Tensor:
    """Cover of falling flakes [N, SIZE, SIZE]; `fall` [N] in turns of their cycle."""
    x, y = canvas.columns(), canvas.rows(0, SIZE)
    amount = None
    for pitch, cells, radius in ((22.0, 6, 3.3), (17.0, 8, 2.4)):
        along = y / pitch - canvas.cast(fall * cells)
        row = along.floor()
        lane = torch.remainder(row, cells)
        sway = torch.sin(2 * math.pi * canvas.cast(fall) * 2 + 1.7 * lane)
        across = (x + 3 * sway) / pitch + scatter(lane + cells)
        column = across.floor()
        du = (across - column - 0.3 - 0.4 * scatter(column * 3 + lane * 11)) * pitch
        dv = (along - row - 0.3 - 0.4 * scatter(column * 7 + lane * 5)) * pitch
        present = scatter(column * 5 + lane * 3) < 0.4
        flake = cover(torch.hypot(du, dv) - radius, 1.5) * present
        amount = flake if amount is None else torch.maximum(amount, flake)
    assert amount is not None
    return amount


def _weather(canvas: Canvas, scenes: Scenes, seconds: Tensor, picture: Tensor) -> Tensor:
    """Rain or snow over frames [B * T, 3, SIZE, SIZE]."""
    every = scenes.attributes.repeat_interleave(seconds.shape[1], 0)
    # Rain runs its cycle of 4 x 44 pixels in about a second, snow its 132 in about four.
    for kind, rate, draw, colours in ((1, 0.95, _rain, RAIN), (2, 0.24, _snow, FLAKES)):
        mine = (every[:, WEATHER] == kind).nonzero()[:, 0]
        if not len(mine):
            continue
        rates = torch.full_like(scenes.named("fall"), rate)
        fall = cycle(rates, seconds, scenes.named("fall")).reshape(-1)[mine]
        colour = canvas.table(colours, every[mine, TIME])
        picture[mine] = paint(picture[mine], 0.85 * draw(canvas, fall), colour)
    return picture


def _frames(scenes: Scenes, seconds: Tensor, where: Pose, dtype: torch.dtype) -> Tensor:
    """Frames in [0, 1], [B, T, 3, SIZE, SIZE], the thing being at `where` [B, T]."""
    canvas = Canvas(seconds.device, dtype)
    steps = seconds.shape[1]
    still = torch.cat([sky(canvas, scenes), ground(canvas, scenes)], dim=2)
    picture = still.repeat_interleave(steps, 0)
    picture = clouds(canvas, scenes, seconds, picture)
    picture = waves(canvas, scenes, seconds, picture)
    every = scenes.attributes.repeat_interleave(steps, 0)
    picture = _thing(canvas, every, where.flat(), picture)
    picture = _weather(canvas, scenes, seconds, picture)
    return picture.view(-1, steps, *picture.shape[1:])


def _bytes(frames: Tensor) -> Tensor:
    return (frames.clamp(0, 1) * 255 + 0.5).to(torch.uint8)


def render(
    scenes: Scenes, seconds: Tensor, *, dtype: torch.dtype = torch.float32, batch: int = 64
) -> Tensor:
    """Frames of scenes at the given times.

    `seconds` [B, T] (any float dtype; float64 keeps films of days exact) gives uint8
    [B, T, 3, 128, 128] on its device. `batch` clips are painted at a time, in `dtype`.
    """
    parts = []
    for start in range(0, len(scenes), batch):
        some, times = scenes[start : start + batch], seconds[start : start + batch]
        parts.append(_bytes(_frames(some, times, pose(some, times), dtype)))
    return torch.cat(parts)


def render_switch(
    before: Scenes,
    after: Scenes,
    seconds: Tensor,
    alpha: Tensor,
    *,
    dtype: torch.dtype = torch.float32,
    batch: int = 64,
) -> Tensor:
    """Frames of a change from one scene to another of the same layout.

    `alpha` [B, T] in [0, 1] is how far the change has gone: at 0 a frame equals `render(before)`,
    at 1 `render(after)`. Pictures cross-fade while the thing glides from one path to the other.
    """
    parts = []
    for start in range(0, len(before), batch):
        part = slice(start, start + batch)
        times, mix = seconds[part], alpha[part].float()
        first, second = before[part], after[part]
        where = pose(first, times).lerp(pose(second, times), mix)
        frames = _frames(first, times, where, dtype)
        others = _frames(second, times, where, dtype)
        weight = mix.to(dtype)[:, :, None, None, None]
        parts.append(_bytes(frames + weight * (others - frames)))
    return torch.cat(parts)
