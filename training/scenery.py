"""The scenery of the trial world: sky, hills, ground, clouds, water.

Everything is painted by signed distances with soft edges, and nothing is finer than 4 pixels: finer
detail is lost by the codec. The still part is painted once a scene, clouds and waves per frame.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from longtake.training.world import GROUND, HORIZON, SIZE, TIME, WEATHER, Scenes, cycle

# Rows are day, sunset, night.
SKY_TOP = ((0.25, 0.55, 0.95), (0.33, 0.22, 0.52), (0.02, 0.03, 0.12))
SKY_LOW = ((0.75, 0.90, 1.00), (1.00, 0.60, 0.25), (0.10, 0.13, 0.30))
OVERCAST = ((0.60, 0.65, 0.71), (0.62, 0.40, 0.38), (0.07, 0.08, 0.14))
LIGHT = ((1.00, 1.00, 1.00), (1.00, 0.80, 0.66), (0.34, 0.40, 0.60))
CLOUD = ((1.00, 1.00, 1.00), (1.00, 0.72, 0.66), (0.20, 0.23, 0.38))
ORB = ((1.00, 0.93, 0.45), (1.00, 0.45, 0.18), (0.96, 0.95, 0.86))
ORB_RADIUS = (10.0, 15.0, 9.0)
ORB_ROW = (20.0, HORIZON - 17.0, 20.0)
# Rows are grass, sand, snow, water.
GROUND_FAR = ((0.45, 0.72, 0.30), (0.93, 0.82, 0.56), (0.93, 0.96, 1.00), (0.35, 0.66, 0.86))
GROUND_NEAR = ((0.22, 0.55, 0.16), (0.86, 0.68, 0.38), (0.80, 0.87, 0.97), (0.07, 0.33, 0.62))
HILLS = ((0.38, 0.62, 0.42), (0.80, 0.66, 0.44), (0.72, 0.80, 0.92), (0.30, 0.48, 0.56))


@dataclass(frozen=True)
class Canvas:
    """Pixel centres and tables in the working dtype, on one device."""

    device: torch.device
    dtype: torch.dtype

    def table(
        self, rows: tuple[tuple[float, ...], ...] | tuple[float, ...], index: Tensor
    ) -> Tensor:
        """Rows of a colour table [B, 3, 1, 1], or of a number table [B, 1, 1]."""
        values = torch.tensor(rows, device=self.device, dtype=self.dtype)[index]
        return values[:, :, None, None] if values.ndim == 2 else values[:, None, None]

    def rows(self, start: int, stop: int) -> Tensor:
        """Row centres [1, rows, 1]."""
        return torch.arange(start, stop, device=self.device).to(self.dtype)[None, :, None] + 0.5

    def columns(self) -> Tensor:
        """Column centres [1, 1, SIZE]."""
        return torch.arange(SIZE, device=self.device).to(self.dtype)[None, None, :] + 0.5

    def cast(self, values: Tensor) -> Tensor:
        """A number per item, [N] to [N, 1, 1]."""
        return values.to(self.dtype)[:, None, None]


def cover(distance: Tensor, softness: float = 1.0) -> Tensor:
    """How much of a pixel lies inside, in [0, 1], from a signed distance in pixels."""
    return (0.5 - distance / softness).clamp(0, 1)


def paint(picture: Tensor, amount: Tensor, colour: Tensor) -> Tensor:
    """`colour` [B, 3, 1, 1] over `picture` [B, 3, H, W] where `amount` [B, H, W] is not 0."""
    return torch.lerp(picture, colour.expand_as(picture), amount[:, None].expand_as(picture))


def scatter(n: Tensor) -> Tensor:
    """A repeatable pseudo-random number in [0, 1) for each small whole number."""
    return torch.frac(torch.sin(n.float() * 12.9898).abs() * 437.58).to(n.dtype)


def sky(canvas: Canvas, scenes: Scenes) -> Tensor:
    """Gradient, stars, sun or moon, hills: [B, 3, HORIZON, SIZE]."""
    time, ground = scenes.attributes[:, TIME], scenes.attributes[:, GROUND]
    x, y = canvas.columns(), canvas.rows(0, HORIZON)
    overcast = canvas.cast(scenes.attributes[:, WEATHER] != 0)
    top, low = canvas.table(SKY_TOP, time), canvas.table(SKY_LOW, time)
    grey = canvas.table(OVERCAST, time)
    picture = torch.lerp(top, low, (y / HORIZON)[:, None] ** 1.4)
    picture = torch.lerp(picture, grey, 0.85 * overcast[:, None])
    picture = picture.expand(-1, 3, HORIZON, SIZE)

    clear_night = canvas.cast(time == 2) * (1 - overcast)
    u, v = x / 21 + canvas.cast(3 * scenes.named("cloud")), y / 15
    cell = u.floor() * 7 + v.floor() * 13
    du = (u - u.floor() - 0.25 - 0.5 * scatter(cell)) * 21
    dv = (v - v.floor() - 0.25 - 0.5 * scatter(cell + 5)) * 15
    stars = cover(torch.hypot(du, dv) - 2.0, 2.0) * (scatter(cell + 9) < 0.45)
    picture = paint(picture, stars * clear_night, canvas.table(ORB, time))

    dx = x - canvas.cast(18 + 92 * scenes.named("sun"))
    dy = y - canvas.table(ORB_ROW, time)
    radius = canvas.table(ORB_RADIUS, time)
    distance = torch.hypot(dx, dy)
    orb = canvas.table(ORB, time)
    glow = torch.exp(-((distance / (2.2 * radius)) ** 2)) * (0.55 - 0.45 * overcast)
    picture = paint(picture, glow, orb)
    disc = cover(distance - radius, 1.5)
    bite = cover(torch.hypot(dx - 6, dy + 3) - radius, 1.5) * canvas.cast(time == 2)
    picture = paint(picture, disc * (1 - bite) * (1 - 0.85 * overcast), orb)

    hills, light = canvas.table(HILLS, ground), canvas.table(LIGHT, time)
    phase = canvas.cast(2 * math.pi * scenes.named("hills"))
    haze = torch.lerp(low, grey, 0.85 * overcast[:, None])
    for height, width, near in ((13.0, 15.0, 0.45), (6.0, 11.0, 0.75)):
        ridge = height + 0.5 * height * torch.sin(x / width + phase * (1 + near))
        ridge = ridge + 0.25 * height * torch.sin(x / (0.45 * width) + 2 * phase)
        picture = paint(
            picture, cover(HORIZON - y - ridge, 1.5), torch.lerp(haze, hills * light, near)
        )
    return picture


def ground(canvas: Canvas, scenes: Scenes) -> Tensor:
    """Grass, sand, snow or still water: [B, 3, SIZE - HORIZON, SIZE]."""
    time, ground = scenes.attributes[:, TIME], scenes.attributes[:, GROUND]
    x, y = canvas.columns(), canvas.rows(HORIZON, SIZE)
    depth = (y - HORIZON) / (SIZE - HORIZON)
    far, near = canvas.table(GROUND_FAR, ground), canvas.table(GROUND_NEAR, ground)
    picture = torch.lerp(far, near, depth[:, None]).expand(-1, 3, SIZE - HORIZON, SIZE)
    shift = canvas.cast(40 * scenes.named("texture"))
    # Distances shrink towards the horizon.
    scale = 0.45 + 0.55 * depth
    gx = (x - SIZE / 2) / scale + shift

    row = (depth * 5 + 0.4).floor()
    along = gx / 26 + 7 * scatter(row + 3)
    cell = along.floor()
    du = (along - cell - 0.3 - 0.4 * scatter(cell + 17 * row)) * 26 * scale
    dv = (row + 0.6) * (SIZE - HORIZON) / 5 + HORIZON - y + 5 * scatter(3 * cell + row) - 2
    # Three blades: the middle one upright, the others leaning out.
    blade = torch.minimum(du.abs(), (du.abs() - 3.4 - 0.45 * dv).abs()) - 2.3 + 0.2 * dv
    tufts = cover(torch.maximum(blade, torch.maximum(-dv, dv - 9 * scale)), 1.5)
    tufts = tufts * (scatter(5 * cell + 11 * row) < 0.45) * (row > 0)
    ripples = torch.sin((y - HORIZON) / (2.4 * scale) + 1.6 * torch.sin(gx / 17 + row / 9))
    ripples = ripples.clamp(min=0)
    drifts = torch.sin(gx / 21 + depth * 9) * torch.sin(depth * 14 + gx / 33)
    marks = torch.stack([tufts, 0.8 * ripples, 0.9 * drifts.clamp(min=0), 0 * tufts])
    mark = marks[ground, torch.arange(len(scenes), device=canvas.device)]
    shade = canvas.table(
        ((0.12, 0.40, 0.12), (0.74, 0.54, 0.28), (0.62, 0.74, 0.92), (0, 0, 0)), ground
    )
    picture = paint(picture, 0.75 * mark, shade)
    light = canvas.table(LIGHT, time)
    dim = 1 - 0.15 * canvas.cast(scenes.attributes[:, WEATHER] != 0)
    return picture * light * dim[:, None]


def clouds(canvas: Canvas, scenes: Scenes, seconds: Tensor, picture: Tensor) -> Tensor:
    """Two clouds drifting slowly over the sky rows of frames [B * T, 3, SIZE, SIZE]."""
    steps = seconds.shape[1]
    x, y = canvas.columns(), canvas.rows(0, HORIZON)
    every = scenes.attributes.repeat_interleave(steps, 0)
    colour = canvas.table(CLOUD, every[:, TIME])
    overcast = canvas.cast(every[:, WEATHER] != 0)[:, None]
    colour = torch.lerp(colour, 0.88 * canvas.table(OVERCAST, every[:, TIME]), overcast)
    span = SIZE + 60
    amount = None
    for row, size, offset, speed in ((20.0, 1.0, 0.0, 1.5), (40.0, 0.75, 0.45, 1.0)):
        rate = torch.full_like(scenes.named("cloud"), speed / span)
        place = cycle(rate, seconds, scenes.named("cloud") + offset).reshape(-1)
        dx = (x - canvas.cast(span * place - 30)) / size
        dy = (y - row) / size
        blob = torch.minimum(torch.hypot(dx, dy + 3), torch.hypot(dx - 11, dy - 1) + 2.5)
        blob = torch.minimum(blob, torch.hypot(dx + 11, dy - 1) + 1.5) - 9
        cloud = cover(torch.maximum(blob, dy - 5) * size, 3.0)
        amount = cloud if amount is None else torch.maximum(amount, cloud)
    assert amount is not None
    sky = paint(picture[:, :, :HORIZON], 0.9 * amount, colour)
    return torch.cat([sky, picture[:, :, HORIZON:]], dim=2)


def waves(canvas: Canvas, scenes: Scenes, seconds: Tensor, picture: Tensor) -> Tensor:
    """Slow waves and the light of the sun or moon on the water rows of frames of water."""
    steps = seconds.shape[1]
    every = scenes.attributes.repeat_interleave(steps, 0)
    wet = (every[:, GROUND] == 3).nonzero()[:, 0]
    time = every[wet, TIME]
    x, y = canvas.columns(), canvas.rows(HORIZON, SIZE)
    scale = 0.45 + 0.55 * (y - HORIZON) / (SIZE - HORIZON)
    gx = (x - SIZE / 2) / scale
    rate = torch.full_like(scenes.named("texture"), 0.22)
    turn = 2 * math.pi * cycle(rate, seconds, scenes.named("texture")).reshape(-1)[wet]
    theta = canvas.cast(turn)
    swell = 1.3 * torch.sin(gx / 11 + theta) + 0.9 * torch.sin(gx / 23 - 2 * theta)
    crest = torch.sin((y - HORIZON) / (1.9 * scale) + swell).clamp(min=0)
    light = canvas.table(LIGHT, time)
    foam = torch.tensor((0.72, 0.90, 1.00), device=canvas.device, dtype=canvas.dtype)
    sea = paint(picture[wet, :, HORIZON:], 0.45 * crest, foam[:, None, None] * light)
    sun = canvas.cast((18 + 92 * scenes.named("sun")).repeat_interleave(steps)[wet])
    clear = canvas.cast(every[wet, WEATHER] == 0)
    path = torch.exp(-(((x - sun) / (14 * scale)) ** 2)) * (0.25 + 0.75 * crest)
    sea = paint(sea, 0.7 * path * clear, canvas.table(ORB, time))
    picture[wet, :, HORIZON:] = sea
    return picture
