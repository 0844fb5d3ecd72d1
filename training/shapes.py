"""The six things of the trial world, as layers of signed distances.

Every function takes local coordinates u (right) and v (up) [N, H, W] in units of the thing's radius
and returns layers from back to front: a signed distance in the same units, and a tint. A tint is a
fixed colour (three numbers in [0, 1]) or one number k: the thing's own colour darkened by k < 1, or
mixed with white by k - 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

Point = tuple[float, float]
Tint = float | tuple[float, float, float]
Layer = tuple[Tensor, Tint]


def circle(u: Tensor, v: Tensor, centre: Point, radius: float) -> Tensor:
    """Signed distance to a disc."""
    x, y = centre
    return torch.hypot(u - x, v - y) - radius


def ellipse(u: Tensor, v: Tensor, centre: Point, radii: Point) -> Tensor:
    """Signed distance to an ellipse, exact enough near its edge."""
    (x, y), (rx, ry) = centre, radii
    scaled = torch.hypot((u - x) / rx, (v - y) / ry)
    return (scaled - 1) * min(rx, ry)


def box(u: Tensor, v: Tensor, centre: Point, half: Point, r: float) -> Tensor:
    """Signed distance to a box of half its width and height, with corners rounded by r."""
    x, y = centre
    dx = (u - x).abs() - (half[0] - r)
    dy = (v - y).abs() - (half[1] - r)
    outside = torch.hypot(dx.clamp(min=0), dy.clamp(min=0))
    return outside + torch.maximum(dx, dy).clamp(max=0) - r


def half_plane(u: Tensor, v: Tensor, degrees: float, offset: float) -> Tensor:
    """Signed distance to the half-plane whose outward normal points at `degrees`."""
    angle = math.radians(degrees)
    return u * math.cos(angle) + v * math.sin(angle) - offset


def intersect(*distances: Tensor) -> Tensor:
    """The part common to all."""
    result = distances[0]
    for distance in distances[1:]:
        result = torch.maximum(result, distance)
    return result


def ball(u: Tensor, v: Tensor) -> list[Layer]:
    """A ball with a dark band, so that its turning shows."""
    disc = torch.hypot(u, v) - 1
    band = intersect(disc, v.abs() - 0.3)
    return [(disc, 1.0), (band, 0.55)]


def cube(u: Tensor, v: Tensor) -> list[Layer]:
    """A cube seen from a corner: light top, plain left, dark right."""
    hexagon = torch.maximum(u.abs() * 0.5 + v.abs() * 0.866, u.abs()) - 0.866
    above = u.abs() * 0.5 - v * 0.866
    right = intersect(hexagon, -u, -above)
    return [(hexagon, 1.0), (intersect(hexagon, above), 1.5), (right, 0.55)]


def star(u: Tensor, v: Tensor) -> list[Layer]:
    """A five-pointed star with a lighter heart."""
    step = 2 * math.pi / 5
    angle = torch.atan2(u, v)
    folded = (torch.remainder(angle + step / 2, step) - step / 2).abs()
    r = torch.hypot(u, v)
    p, q = r * folded.cos(), r * folded.sin()
    # The edge runs from the tip (1.08, 0) to the notch at 36 degrees, radius 0.52.
    tip, notch = 1.08, (0.52 * math.cos(step / 2), 0.52 * math.sin(step / 2))
    along = (notch[0] - tip, notch[1])
    length = math.hypot(*along)
    distance = (p - tip) * (along[1] / length) - q * (along[0] / length)
    return [(distance, 1.0), (distance + 0.22, 1.45)]


def car(u: Tensor, v: Tensor) -> list[Layer]:
    """A car: cabin with a window, body, a headlight in front, two wheels."""
    cabin = box(u, v, (-0.12, 0.2), (0.58, 0.42), 0.22)
    body = box(u, v, (0.0, -0.28), (1.0, 0.36), 0.2)
    window = box(u, v, (-0.12, 0.26), (0.4, 0.22), 0.08)
    lamp = circle(u, v, (0.84, -0.2), 0.17)
    wheels = circle(u.abs(), v, (0.54, -0.58), 0.3)
    hubs = circle(u.abs(), v, (0.54, -0.58), 0.13)
    return [
        (torch.minimum(cabin, body), 1.0),
        (window, (0.75, 0.9, 1.0)),
        (lamp, (1.0, 0.95, 0.55)),
        (wheels, (0.13, 0.13, 0.16)),
        (hubs, (0.6, 0.6, 0.62)),
    ]


def boat(u: Tensor, v: Tensor) -> list[Layer]:
    """A sailing boat: hull, mast, a sail before it and a smaller one behind."""
    hull = intersect(
        half_plane(u, v, -90, 0.86),
        half_plane(u, v, 90, -0.3),
        half_plane(u, v, -35, 0.94),
        half_plane(u, v, 215, 0.94),
    )
    mast = box(u, v, (0.0, 0.2), (0.09, 0.84), 0.04)
    sail = intersect(
        half_plane(u, v, 180, -0.12), half_plane(u, v, -90, 0.14), half_plane(u, v, 38, 0.7)
    )
    jib = intersect(
        half_plane(u, v, 0, -0.12), half_plane(u, v, -90, 0.14), half_plane(u, v, 150, 0.58)
    )
    wood = (0.42, 0.28, 0.18)
    return [(hull, 1.0), (mast, wood), (sail, 1.35), (jib, 1.0)]


def duck(u: Tensor, v: Tensor) -> list[Layer]:
    """A rubber duck: body with a lifted tail, wing, head, beak, eye."""
    body = ellipse(u, v, (-0.08, -0.36), (0.88, 0.5))
    tail = circle(u, v, (-0.78, -0.06), 0.2)
    head = circle(u, v, (0.4, 0.4), 0.46)
    wing = ellipse(u, v, (-0.2, -0.32), (0.44, 0.24))
    beak = ellipse(u, v, (0.92, 0.3), (0.27, 0.17))
    eye = circle(u, v, (0.52, 0.52), 0.13)
    return [
        (beak, (1.0, 0.55, 0.1)),
        (torch.minimum(torch.minimum(body, tail), head), 1.0),
        (wing, 0.72),
        (eye, (0.08, 0.08, 0.1)),
    ]


DRAWINGS: tuple[Callable[[Tensor, Tensor], list[Layer]], ...] = (ball, cube, star, car, boat, duck)
"""In the order of `ATTRIBUTES["shape"]`."""
