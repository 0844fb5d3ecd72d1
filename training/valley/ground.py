"""The ground in perspective: grass with flowers, sand, snow, and water that mirrors the sky."""

from __future__ import annotations

import torch
from torch import Tensor

from longtake.training.valley.canvas import DEPTH, Canvas, cover, horizon_scale, paint
from longtake.training.valley.sky import (
    GREY_MIDDLE,
    MIDDLE,
    MOON,
    SUN,
    haze,
    light,
    ridge,
    sun_column,
)
from longtake.training.valley.world import HEIGHT, HORIZON, WIDTH

# Rows are grass, sand, snow.
FAR = ((0.52, 0.76, 0.36), (0.96, 0.85, 0.60), (0.92, 0.95, 0.99))
NEAR = ((0.24, 0.58, 0.20), (0.90, 0.71, 0.42), (0.86, 0.91, 0.98))
PATCH = ((0.40, 0.70, 0.24), (0.83, 0.62, 0.36), (0.68, 0.79, 0.95))
DECOR = ((0.13, 0.43, 0.15), (0.70, 0.50, 0.34), (0.70, 0.80, 0.95))
BRIGHT = ((0.50, 0.80, 0.28), (0.99, 0.92, 0.82), (1.00, 1.00, 1.00))
# Rows are day, sunset, night.
DEEP = ((0.05, 0.34, 0.62), (0.24, 0.18, 0.42), (0.02, 0.06, 0.20))
CREST = ((0.80, 0.94, 1.00), (1.00, 0.80, 0.66), (0.36, 0.47, 0.74))
FLOWERS = ((1.00, 0.98, 0.95), (1.00, 0.83, 0.20), (1.00, 0.48, 0.62), (0.62, 0.50, 0.95))
ROWS = (0.05, 0.15, 0.28, 0.44, 0.64, 0.88, 1.16)
"""How far down the rows of tufts, pebbles and mounds stand, in shares of the ground."""
PITCH = 19.0
"""Distance of two tufts, in pixels of the nearest ground."""
GRASS, SAND, SNOW, WATER = range(4)


def ground(canvas: Canvas, kind: int) -> Tensor:
    """One kind of ground: [N, 3, HEIGHT - HORIZON, WIDTH]."""
    return _water(canvas) if kind == WATER else _land(canvas, kind)


def spread_mask(canvas: Canvas) -> Tensor:
    """Where the coming ground covers the old one, in [0, 1]: patches that grow from far to near."""
    y = canvas.y(HORIZON, HEIGHT)
    depth, along = (y - HORIZON) / DEPTH, (canvas.x() - WIDTH / 2) / horizon_scale(y)
    seed = canvas.phase(7 * canvas.layout("texture"))
    noise = torch.sin(along / 19 + 2 * torch.sin(depth * 6 + seed)) + torch.sin(
        along / 11 - depth * 13 + 2 * seed
    )
    # From a bit below nothing to a bit above everything, so that both ends are exact.
    level = 1.85 * canvas.number(canvas.moments.spread) - 0.12
    return ((level - 0.8 * depth - 0.2 * noise - 0.4) / 0.14 + 0.5).clamp(0, 1)


def _waves(canvas: Canvas, along: Tensor, length: float, turns: Tensor) -> Tensor:
    """A sine along the ground that scrolls with the camera; `turns` [N] of a phase of its own."""
    scroll = canvas.moments.pan / (2 * torch.pi * length)
    return torch.sin(along / length + canvas.phase(scroll + turns))


def _land(canvas: Canvas, kind: int) -> Tensor:
    x, y = canvas.x(), canvas.y(HORIZON, HEIGHT)
    depth, scale = (y - HORIZON) / DEPTH, horizon_scale(y)
    along = (x - WIDTH / 2) / scale
    far, near, patch = (
        torch.tensor(table[kind], device=canvas.device, dtype=canvas.dtype)[:, None, None]
        for table in (FAR, NEAR, PATCH)
    )
    picture = torch.lerp(far, near, depth.to(canvas.dtype)[:, None] ** 0.8)
    picture = picture.expand(-1, 3, DEPTH, WIDTH)
    seed = canvas.layout("texture")
    soft = _waves(canvas, along + 30 * torch.sin(depth * 5), 43, seed * 3)
    soft = soft + _waves(canvas, along - 55 * depth, 23, seed * 5) * torch.sin(depth * 11 + 1)
    if kind == SAND:
        # Ripples of the wind, closer together far away.
        bend = 1.5 * _waves(canvas, along, 31, seed * 2) + 0.8 * soft
        ripple = torch.sin(32 * scale.log() + bend).clamp(min=0) * (0.55 + 0.3 * soft).clamp(0, 1)
        picture = paint(picture, 0.55 * ripple, patch)
    else:
        picture = paint(picture, (0.4 * soft).clamp(0, 0.6), patch)
    lit = light(canvas)
    picture = picture * lit
    mist = (0.5 - 3.2 * depth).clamp(min=0).expand(-1, -1, WIDTH)
    picture = paint(picture, mist, haze(canvas))
    for number, share in enumerate(ROWS):
        picture = _decor(canvas, kind, number, share, picture, lit)
    return picture


def _decor(
    canvas: Canvas, kind: int, number: int, share: float, picture: Tensor, lit: Tensor
) -> Tensor:
    """One row of tufts, pebbles or mounds, over the rows that it can reach at any zoom."""
    base, size = HORIZON + share * DEPTH, 0.3 + 0.7 * share
    first = max(HORIZON, int(base - 18 * size))
    last = min(HEIGHT, int(HORIZON + 1.25 * (base + 5 * size - HORIZON)) + 1)
    x, y = canvas.x(), canvas.y(first, last)
    offset = (canvas.moments.pan + 3000 * canvas.layout("texture")) / PITCH + 0.37 * number
    column, u = canvas.cells((x - WIDTH / 2) / (size * PITCH), offset)
    cell = column + 97 * number
    across = (u - 0.35 - 0.3 * canvas.chance(cell)) * PITCH
    up = (base - y) / size + 10 * (canvas.chance(cell, 1) - 0.5)
    pick = canvas.chance(cell, 2)
    dark, bright = (
        torch.tensor(table[kind], device=canvas.device, dtype=canvas.dtype)[:, None, None] * lit
        for table in (DECOR, BRIGHT)
    )
    rows = slice(first - HORIZON, last - HORIZON)
    part = picture[:, :, rows]
    if kind == GRASS:
        side = across.abs()
        blades = torch.minimum(side - 1.7, (side - 2.6 - 0.4 * up).abs() - 1.5) + 0.17 * up
        tuft = torch.maximum(blades, torch.maximum(-up, up - 10)) * size
        shade = (up / 11).clamp(0, 0.8).to(canvas.dtype)[:, None]
        part = paint(part, 0.8 * cover(tuft) * (pick < 0.75), torch.lerp(dark, bright, shade))
        if size > 0.45:
            part = _flowers(canvas, cell, across, up, part, size, lit)
    else:
        wide, high = (3.4, 2.3) if kind == SAND else (12.0, 4.6)
        lump = (torch.hypot(across / wide, up / high) - 1) * high * size
        lump = torch.maximum(lump, -(up + 0.25 * high) * size)
        tint = (0.5 + up / (2 * high)).clamp(0, 1).to(canvas.dtype)[:, None]
        soft, some = (1.4, 0.5) if kind == SAND else (2.2, 0.5)
        part = paint(part, 0.85 * cover(lump, soft) * (pick < some), torch.lerp(dark, bright, tint))
    return torch.cat([picture[:, :, : rows.start], part, picture[:, :, rows.stop :]], dim=2)


def _flowers(
    canvas: Canvas, cell: Tensor, across: Tensor, up: Tensor, part: Tensor, size: float, lit: Tensor
) -> Tensor:
    """Round flowers with a yellow heart on some of the tufts."""
    table = torch.tensor(FLOWERS, device=canvas.device, dtype=canvas.dtype)
    colour = table[(canvas.chance(cell, 3) * len(FLOWERS)).long()][:, 0].permute(0, 2, 1)[
        :, :, None
    ]
    there = canvas.chance(cell, 4) < 0.34
    distance = torch.hypot(across - 1, up - 8.5)
    part = paint(part, cover((distance - 3.3) * size) * there, colour * lit.clamp(min=0.55))
    heart = table[1][:, None, None] * lit
    return paint(part, cover((distance - 1.2) * size) * there, heart)


def _water(canvas: Canvas) -> Tensor:
    now = canvas.moments
    x, y = canvas.x(), canvas.y(HORIZON, HEIGHT)
    depth, scale = (y - HORIZON) / DEPTH, horizon_scale(y)
    along = (x - WIDTH / 2) / scale
    slow = now.clock * 0.16 + canvas.layout("texture") * 3
    swell = 1.5 * _waves(canvas, along, 29, slow) + 1.1 * _waves(canvas, along, 13, -1.3 * slow)
    mirrored = torch.lerp(haze(canvas), canvas.by_weather(MIDDLE, GREY_MIDDLE), 0.5)
    deep = torch.lerp(canvas.by_day(DEEP), canvas.by_weather(MIDDLE, GREY_MIDDLE) * 0.5, 0.35)
    fall = (1.5 * depth).clamp(0, 1).to(canvas.dtype)[:, None] ** 0.7
    picture = torch.lerp(mirrored, deep, fall).expand(-1, 3, DEPTH, WIDTH)
    # The near hills stand on their heads in the water, trembling.
    hill = 0.62 * ridge(canvas, x, near=True) + 1.2 * swell
    mirror = 0.42 * cover((y - HORIZON) - hill, 3.0)
    picture = paint(
        picture,
        mirror,
        torch.tensor((0.16, 0.36, 0.34), device=canvas.device, dtype=canvas.dtype)[:, None, None]
        * light(canvas),
    )
    crest = torch.sin(36 * scale.log() + swell - canvas.phase(1.5 * slow))
    broken = (0.35 + _waves(canvas, along + 40 * depth, 37, 0.7 * slow) * 0.65).clamp(min=0)
    shine = (crest.clamp(min=0) ** 2) * broken
    picture = paint(picture, 0.5 * shine, canvas.by_day(CREST))
    picture = picture * (1 - 0.14 * ((-crest).clamp(min=0) * broken)[:, None].to(canvas.dtype))
    # The path of the sun or the moon.
    colour = torch.lerp(
        canvas.by_day(SUN),
        picture.new_tensor(MOON)[:, None, None],
        canvas.number(now.day[:, 2]).to(canvas.dtype)[:, None],
    )
    path = torch.exp(-(((x - sun_column(canvas)) / (9 + 20 * depth)) ** 2))
    glint = path * (0.25 + 0.75 * (crest > 0.2) * crest) * canvas.number(1 - now.overcast)
    return paint(picture, 0.75 * glint, colour)
