"""The sky: its colours, stars, sun and moon, clouds, and two layers of hills on the horizon."""

from __future__ import annotations

import torch
from torch import Tensor

from longtake.training.valley.canvas import Canvas, Table, cover, paint, paint_where
from longtake.training.valley.world import HORIZON, WIDTH

# Rows are day, sunset, night.
TOP = ((0.20, 0.47, 0.90), (0.20, 0.17, 0.46), (0.02, 0.04, 0.17))
MIDDLE = ((0.46, 0.73, 0.97), (0.84, 0.40, 0.50), (0.06, 0.11, 0.32))
LOW = ((0.88, 0.95, 0.97), (1.00, 0.79, 0.47), (0.19, 0.27, 0.50))
GREY_TOP = ((0.47, 0.53, 0.61), (0.33, 0.27, 0.40), (0.04, 0.05, 0.12))
GREY_MIDDLE = ((0.63, 0.69, 0.75), (0.58, 0.43, 0.48), (0.09, 0.11, 0.21))
GREY_LOW = ((0.80, 0.83, 0.86), (0.86, 0.67, 0.56), (0.17, 0.21, 0.33))
LIGHT = ((1.00, 1.00, 1.00), (1.00, 0.79, 0.68), (0.43, 0.51, 0.79))
CLOUD_TOP = ((1.00, 1.00, 1.00), (1.00, 0.78, 0.66), (0.30, 0.36, 0.56))
CLOUD_BASE = ((0.78, 0.86, 0.95), (0.70, 0.42, 0.55), (0.13, 0.17, 0.34))
GREY_CLOUD = ((0.57, 0.62, 0.68), (0.46, 0.36, 0.44), (0.10, 0.12, 0.21))
SUN = ((1.00, 0.95, 0.66), (1.00, 0.72, 0.36), (1.00, 0.60, 0.30))
MOON = (0.97, 0.95, 0.84)
# Rows are grass, sand, snow, water.
FAR_HILLS = ((0.40, 0.62, 0.60), (0.83, 0.62, 0.48), (0.66, 0.76, 0.92), (0.38, 0.58, 0.66))
NEAR_HILLS = ((0.34, 0.60, 0.30), (0.91, 0.74, 0.47), (0.88, 0.93, 0.99), (0.33, 0.57, 0.38))
TREES = ((0.16, 0.42, 0.24), (0.45, 0.52, 0.28), (0.42, 0.60, 0.66), (0.17, 0.42, 0.30))


def light(canvas: Canvas) -> Tensor:
    """The light on all that does not shine itself, [N, 3, 1, 1]."""
    dim = 1 - 0.13 * canvas.number(canvas.moments.overcast).to(canvas.dtype)[:, None]
    return canvas.by_day(LIGHT) * dim


def haze(canvas: Canvas) -> Tensor:
    """The colour of the air at the horizon, [N, 3, 1, 1]."""
    return canvas.by_weather(LOW, GREY_LOW)


def sky(canvas: Canvas) -> Tensor:
    """Everything above the horizon but weather: [N, 3, HORIZON, WIDTH]."""
    now = canvas.moments
    y = canvas.y(0, HORIZON)
    top, middle = canvas.by_weather(TOP, GREY_TOP), canvas.by_weather(MIDDLE, GREY_MIDDLE)
    fall = (y / HORIZON).to(canvas.dtype)[:, None]
    upper = torch.lerp(top, middle, (fall / 0.6).clamp(0, 1))
    picture = torch.lerp(upper, haze(canvas), ((fall - 0.45) / 0.55).clamp(0, 1) ** 1.3)
    picture = picture.expand(-1, 3, HORIZON, WIDTH).contiguous()
    starry = (now.day[:, 2] > 0) & (now.overcast < 1)
    picture = paint_where(canvas, starry, _stars, picture)
    picture = paint_where(canvas, now.height < 2, _sun, picture)
    picture = paint_where(canvas, now.height > 1, _moon, picture)
    return _hills(canvas, _clouds(canvas, picture))


def sun_column(canvas: Canvas) -> Tensor:
    """Where the sun or moon stands, in pixels, float32 [N, 1, 1]."""
    return canvas.number(36 + 184 * canvas.layout("sun"))


def _stars(canvas: Canvas, picture: Tensor, _which: Tensor) -> Tensor:
    x, y = canvas.x(), canvas.y(0, HORIZON)
    night = canvas.moments.day[:, 2] * (1 - canvas.moments.overcast)
    column, u = canvas.cells(x / 19, canvas.layout("stars") * 50)
    row, v = canvas.cells(y / 17, torch.zeros_like(night))
    cell = column * 61 + row * 7
    du = (u - 0.2 - 0.6 * canvas.chance(cell)) * 19
    dv = (v - 0.2 - 0.6 * canvas.chance(cell, 1)) * 17
    kind = canvas.chance(cell, 2)
    twinkle = canvas.phase(0.35 * canvas.moments.clock)
    bright = (kind < 0.5) * (0.75 + 0.25 * torch.sin(twinkle + 40 * kind))
    # A bright heart in a soft halo.
    distance = du * du + dv * dv
    star = (torch.exp(-distance / 2.2) + 0.25 * torch.exp(-distance / 12)).clamp(max=1)
    fade = (1.15 - y / HORIZON).clamp(0, 1)
    amount = star * bright * fade * canvas.number(night)
    return paint(picture, amount, picture.new_tensor((1.0, 0.98, 0.88))[:, None, None])


def _sun(canvas: Canvas, picture: Tensor, _which: Tensor) -> Tensor:
    x, y = canvas.x(), canvas.y(0, HORIZON)
    height = canvas.moments.height
    low = height.clamp(max=1)
    row = 26 + (HORIZON - 19 - 26) * low + 50 * (height - low)
    radius = canvas.number(11 + 4 * low)
    distance = torch.hypot(x - sun_column(canvas), y - canvas.number(row))
    clear = canvas.number((1 - 1.25 * canvas.moments.overcast).clamp(min=0))
    # After sunset the glow goes with the sun.
    shine = canvas.number((2 - height).clamp(0, 1)) * (0.1 + 0.9 * clear)
    glow = 0.55 / (1 + (distance / (1.7 * radius)) ** 2) + 0.25 / (1 + (distance / 70) ** 2)
    colour = canvas.by_day(SUN)
    picture = paint(picture, glow * shine, colour)
    disc = cover(distance - radius, 1.6) * clear
    return paint(picture, disc, torch.lerp(colour, torch.ones_like(colour), 0.35))


def _moon(canvas: Canvas, picture: Tensor, _which: Tensor) -> Tensor:
    x, y = canvas.x(), canvas.y(0, HORIZON)
    rising = canvas.moments.height.clamp(min=1)
    dx = x - sun_column(canvas)
    dy = y - canvas.number(27 + 80 * (2 - rising))
    distance = torch.hypot(dx, dy)
    clear = canvas.number((rising - 1) * (1 - 1.25 * canvas.moments.overcast).clamp(min=0))
    colour = picture.new_tensor(MOON)[:, None, None]
    picture = paint(picture, clear * 0.42 / (1 + (distance / 17) ** 2), colour)
    crescent = cover(distance - 12, 1.6) * (1 - cover(torch.hypot(dx - 6, dy + 3) - 10.5, 1.8))
    return paint(picture, crescent * clear, colour)


def _clouds(canvas: Canvas, picture: Tensor) -> Tensor:
    """Two bands of clouds of four puffs each, and a grey ceiling when the sky is overcast."""
    x, y = canvas.x(), canvas.y(0, HORIZON)
    now = canvas.moments
    top = canvas.by_weather(CLOUD_TOP, GREY_CLOUD)
    base = canvas.by_weather(CLOUD_BASE, GREY_MIDDLE)
    for pitch, row, spread, size, speed, near in (
        (84.0, 47.0, 14.0, 0.62, 1.2, 0.55),
        (126.0, 20.0, 15.0, 1.1, 2.4, 0.95),
    ):
        offset = (now.pan * 0.03 * near - now.clock * speed) / pitch + 900 * canvas.layout("cloud")
        cell, u = canvas.cells(x / pitch, offset)
        grown = size * (0.75 + 0.5 * canvas.chance(cell, 3))
        dx = (u - 0.42 - 0.16 * canvas.chance(cell, 1)) * pitch / grown
        dy = (y - row - spread * (canvas.chance(cell, 2) - 0.5)) / grown
        blob = torch.hypot(dx + 3, dy + 3) - 12
        for cx, cy, radius in ((-19.0, 4.0, 7.5), (15.0, -1.0, 10.0), (28.0, 5.0, 6.0)):
            blob = torch.minimum(blob, torch.hypot(dx - cx, dy - cy) - radius)
        blob = torch.maximum(blob, dy - 8 + 0.02 * dx.abs())
        amount = cover(blob * grown, 2.6) * (canvas.chance(cell) < 0.7) * near
        shade = ((dy + 13) / 21).clamp(0, 1).to(canvas.dtype)[:, None]
        picture = paint(picture, amount, torch.lerp(top, base, shade))
    overcast = canvas.number(now.overcast)
    theta = canvas.phase(now.clock / 40 + canvas.layout("cloud"))
    ceiling = 17 + 5 * torch.sin(x / 15 + theta).abs() + 4 * torch.sin(x / 27 - theta)
    amount = 0.75 * overcast * cover(y - ceiling * overcast, 9)
    return paint(picture, amount, canvas.by_weather(CLOUD_BASE, GREY_CLOUD) * 0.94)


def _by_ground(canvas: Canvas, table: Table) -> Tensor:
    """The colour of a table of grounds, while one spreads over another too, [N, 3, 1, 1]."""
    rows = torch.tensor(table, device=canvas.device, dtype=torch.float64)
    now = canvas.moments
    mixed = torch.lerp(rows[now.ground], rows[now.coming], now.spread[:, None])
    return mixed.to(canvas.dtype)[:, :, None, None]


def ridge(canvas: Canvas, x: Tensor, near: bool) -> Tensor:
    """How high the hills are above the horizon, in pixels, [N, 1, WIDTH]."""
    pan, seed = canvas.moments.pan, canvas.layout("hills")
    height, slow, waves = (
        (9.0, 0.2, ((71.0, 4.5), (31.0, 2.4), (17.0, 0.9)))
        if near
        else (22.0, 0.09, ((83.0, 8.0), (37.0, 5.0), (14.0, 1.4)))
    )
    total = torch.full_like(x, height)
    for number, (length, swing) in enumerate(waves):
        turns = pan * slow / (2 * torch.pi * length) + seed * (3 + 2 * number) + 0.3 * near
        total = total + swing * torch.sin(x / length + canvas.phase(turns))
    return total


def _hills(canvas: Canvas, picture: Tensor) -> Tensor:
    x, y = canvas.x(), canvas.y(0, HORIZON)
    air, lit = haze(canvas), light(canvas)
    up = HORIZON - y
    far = ridge(canvas, x, near=False)
    colour = torch.lerp(_by_ground(canvas, FAR_HILLS) * lit, air, 0.45)
    mist = (1.15 * (1 - up / far)).clamp(0, 0.85).to(canvas.dtype)[:, None]
    picture = paint(picture, cover(up - far, 1.6), torch.lerp(colour, air, mist))

    near = ridge(canvas, x, near=True)
    offset = canvas.moments.pan * 0.2 / 13 + 700 * canvas.layout("hills")
    cell, u = canvas.cells(x / 13, offset)
    grown = 3.2 + 3.0 * canvas.chance(cell, 1)
    side = (u - 0.5) * 13 / grown
    crown = near - 1.5 + 2.3 * grown * (1 - side * side).clamp(min=0) ** 0.5
    wood = cover(up - crown, 1.4) * (canvas.chance(cell) < 0.45) * cover((side.abs() - 1) * grown)
    trees = torch.lerp(_by_ground(canvas, TREES) * lit, air, 0.3)
    picture = paint(picture, wood, trees)
    colour = torch.lerp(_by_ground(canvas, NEAR_HILLS) * lit, air, 0.18)
    shade = (0.9 * (1 - up / near)).clamp(0, 1).to(canvas.dtype)[:, None]
    return paint(picture, cover(up - near, 1.6), colour * (1 - 0.22 * shade))
