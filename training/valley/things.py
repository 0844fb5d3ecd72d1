"""Drawing things into pictures: shading, outline, contact shadow, reflection."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from longtake.training.valley.canvas import Canvas, cover, paint
from longtake.training.valley.moments import Moments
from longtake.training.valley.pose import BOTTOM
from longtake.training.valley.shapes import DRAWINGS, EMBER, FIRE, GLASS, Tint
from longtake.training.valley.sky import sun_column
from longtake.training.valley.world import HEIGHT, HORIZON, WIDTH

CROP = 104
"""Side of the square that a thing is drawn in, in pixels: the largest one, zoomed, fits."""
OUTLINE = 1.9
"""Width of the dark line around a thing, in pixels."""
# Rows are day, sunset, night.
LIGHT = ((1.00, 1.00, 1.00), (1.00, 0.89, 0.82), (0.68, 0.74, 0.94))
SHINING = {
    GLASS: ((0.72, 0.89, 1.00), (1.00, 0.86, 0.60), (1.00, 0.92, 0.50)),
    EMBER: ((1.00, 0.52, 0.10),) * 3,
    FIRE: ((1.00, 0.92, 0.45),) * 3,
}
COMPANION_RADIUS = 13.5
COMPANION_FLOOR = 98.0


@dataclass(frozen=True)
class Placed:
    """Things to draw, where the lens sees them; float64 [N], lengths in pixels.

    `x`, `y`: centre; `floor`: row of the ground below; `radius`; `bottom`, `cos`, `sin`, `facing`,
    `squash`, `beat`, `going`: as in `Pose`; `colour`: [N, 3]; `risen`: share that stands above the
    ground, the rest being hidden in it.
    """

    x: Tensor
    y: Tensor
    floor: Tensor
    radius: Tensor
    bottom: Tensor
    cos: Tensor
    sin: Tensor
    facing: Tensor
    squash: Tensor
    beat: Tensor
    going: Tensor
    colour: Tensor
    risen: Tensor

    @property
    def lift(self) -> Tensor:
        """Height of the lowest point above the ground."""
        return self.floor - self.y - self.bottom * self.radius * self.squash

    def __getitem__(self, index: Tensor) -> Placed:
        return Placed(*(getattr(self, f.name)[index] for f in fields(self)))


def thing(now: Moments) -> Placed:
    """The thing of each moment, as the lens sees it."""
    pose = now.pose
    return Placed(
        *(WIDTH / 2 + (pose.x - WIDTH / 2) * now.zoom, HORIZON + (pose.y - HORIZON) * now.zoom),
        *(HORIZON + (pose.floor - HORIZON) * now.zoom, pose.radius * now.zoom, pose.bottom),
        *(pose.cos, pose.sin, pose.facing, pose.squash, pose.beat, pose.going),
        *(now.colour, torch.ones_like(pose.x)),
    )


def companion(now: Moments) -> Placed:
    """The companion of each moment, as the lens sees it."""
    bottom = torch.tensor(BOTTOM, device=now.clock.device, dtype=torch.float64)[now.companion]
    one = torch.ones_like(now.clock)
    floor = HORIZON + (COMPANION_FLOOR - HORIZON) * now.zoom
    radius = COMPANION_RADIUS * now.zoom
    # Springs up a little higher than it will stand.
    risen = now.risen * (1 + 0.5 * (1 - now.risen))
    return Placed(
        *(WIDTH / 2 + (now.companion_x - WIDTH / 2) * now.zoom,),
        *(floor + (2.3 - risen * (2.3 + bottom)) * radius, floor, radius, bottom),
        *(one, 0 * one, one, one, now.clock * 0.3, 0.4 * one, now.companion_colour, now.risen),
    )


def shadow(canvas: Canvas, placed: Placed, strength: float, ground: Tensor) -> Tensor:
    """A soft shadow on the rows of ground [N, 3, DEPTH, WIDTH], away from the sun."""
    x = (torch.arange(WIDTH, device=canvas.device) + 0.5)[None, None]
    y = (torch.arange(HORIZON, HEIGHT, device=canvas.device) + 0.5)[None, :, None]
    radius = canvas.number(placed.radius).clamp(min=0.01)
    near = canvas.number(1 / (1 + placed.lift.clamp(min=0) / 40))
    dx = x - canvas.number(placed.x)
    lean = (canvas.number(placed.x) - sun_column(canvas)) / WIDTH
    dy = y - canvas.number(placed.floor) - 1
    spread = torch.hypot(dx - 0.5 * radius * lean - 1.6 * lean * dy, 3.0 * dy)
    amount = (1.25 - spread / (radius * (0.6 + 0.4 * near))).clamp(0, 1)
    amount = amount * amount * (3 - 2 * amount) * near * canvas.number(placed.risen)
    return ground * (1 - strength * amount[:, None]).to(ground.dtype)


def draw(
    canvas: Canvas, placed: Placed, shape: int, picture: Tensor, mirrored: bool = False
) -> Tensor:
    """Things of one shape over frames [N, 3, HEIGHT, WIDTH], each in a square around it.

    `mirrored`: its reflection in the water instead.
    """
    n, device = len(placed.x), canvas.device
    y = 2 * placed.floor - placed.y - 2 if mirrored else placed.y
    left = (placed.x - CROP / 2).round().clamp(0, WIDTH - CROP).long()
    top = (y - CROP / 2).round().clamp(0, HEIGHT - CROP).long()
    steps = torch.arange(CROP, device=device)
    rows, columns = (top[:, None] + steps)[:, :, None], (left[:, None] + steps)[:, None]
    which = torch.arange(n, device=device)[:, None, None]
    part = picture[which, :, rows, columns].permute(0, 3, 1, 2)
    part = _drawn(canvas, placed, shape, part, columns + 0.5, rows + 0.5, mirrored)
    picture[which, :, rows, columns] = part.permute(0, 2, 3, 1)
    return picture


def _drawn(
    canvas: Canvas,
    placed: Placed,
    shape: int,
    part: Tensor,
    x: Tensor,
    y: Tensor,
    mirrored: bool,
) -> Tensor:
    """Things over the squares [N, 3, CROP, CROP] whose pixels lie at x and y."""
    number = canvas.number
    radius = number(placed.radius).clamp(min=0.01)
    floor = number(placed.floor)
    if mirrored:
        trembling = 1.5 * torch.sin(y / 2.4 + number(placed.beat % 1) * 2 * torch.pi)
        x, y = x + trembling, 2 * floor - y - 2
    right = (x - number(placed.x)) / radius
    above = (number(placed.y) - y) / radius
    facing = number(placed.facing)
    dx = right / torch.where(facing < 0, facing.clamp(max=-0.15), facing.clamp(min=0.15))
    dy = above / number(placed.squash)
    cos, sin = number(placed.cos), number(placed.sin)
    u, v = dx * cos + dy * sin * facing.sign(), dy * cos - dx * sin * facing.sign()
    beat = number(2 * torch.pi * (placed.beat - placed.beat.floor()))
    layers = DRAWINGS[shape](u, v, beat, number(placed.going))
    whole = layers[0][0]
    for distance, _ in layers[1:]:
        whole = torch.minimum(whole, distance)
    # Not what is in the ground or the water, nor what would be finer than a pixel.
    above_floor = cover(y - floor - 0.5)
    hidden = (placed.risen < 1) | (placed.lift < 0)
    seen = (
        0.4 * number(canvas.moments.wet) * above_floor
        if mirrored
        else torch.where(number(hidden) > 0, above_floor, 1.0)
    )
    seen = seen * (number(placed.radius) > 0.5)
    colour = placed.colour.to(canvas.dtype)[:, :, None, None]
    lit = canvas.by_day(LIGHT)
    # Light from above, on the side of the sun; darker towards the lower edge.
    sun = ((sun_column(canvas) - number(placed.x)) / WIDTH).clamp(-0.6, 0.6)
    shade = 0.93 + 0.16 * above + 0.22 * sun * right
    shade = shade.clamp(0.66, 1.15) - 0.16 * (1 + whole / 0.3).clamp(0, 1) ** 2
    shade = lit * shade.to(canvas.dtype)[:, None]
    part = paint(part, seen * cover(whole * radius - OUTLINE), colour * 0.26 * lit)
    for distance, tint in layers:
        tinted = _tinted(canvas, colour, tint)
        if tint not in SHINING:
            tinted = tinted * shade
        part = paint(part, seen * cover(distance * radius), tinted.clamp(max=1))
    return part


def _tinted(canvas: Canvas, colour: Tensor, tint: Tint) -> Tensor:
    """A tint of `shapes` for things of the given colours [N, 3, 1, 1]."""
    if isinstance(tint, tuple):
        return colour.new_tensor(tint)[:, None, None].expand_as(colour)
    if tint in SHINING:
        return canvas.by_day(SHINING[tint])
    return colour * tint if tint <= 1 else torch.lerp(colour, torch.ones_like(colour), tint - 1)
