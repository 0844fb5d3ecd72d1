"""Signed distances of simple figures, and ways to join them; negative inside.

Coordinates u (right) and v (up) are [N, H, W], in units of the thing that is drawn.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

Point = tuple[float, float]


def circle(u: Tensor, v: Tensor, centre: Point, radius: float) -> Tensor:
    """A disc."""
    return torch.hypot(u - centre[0], v - centre[1]) - radius


def ellipse(u: Tensor, v: Tensor, centre: Point, radii: Point) -> Tensor:
    """An ellipse, exact enough near its edge."""
    (x, y), (rx, ry) = centre, radii
    return (torch.hypot((u - x) / rx, (v - y) / ry) - 1) * min(rx, ry)


def box(u: Tensor, v: Tensor, centre: Point, half: Point, corner: float) -> Tensor:
    """A box of half its width and height, with rounded corners."""
    dx = (u - centre[0]).abs() - (half[0] - corner)
    dy = (v - centre[1]).abs() - (half[1] - corner)
    outside = torch.hypot(dx.clamp(min=0), dy.clamp(min=0))
    return outside + torch.maximum(dx, dy).clamp(max=0) - corner


def side(u: Tensor, v: Tensor, degrees: float, offset: float) -> Tensor:
    """A half-plane whose outward normal points at `degrees`, its edge `offset` from the centre."""
    angle = math.radians(degrees)
    return u * math.cos(angle) + v * math.sin(angle) - offset


def polygon(u: Tensor, v: Tensor, *corners: Point) -> Tensor:
    """A convex polygon, its corners anticlockwise."""
    edges = []
    for (ax, ay), (bx, by) in zip(corners, corners[1:] + corners[:1], strict=True):
        length = math.hypot(bx - ax, by - ay)
        normal = ((by - ay) / length, -(bx - ax) / length)
        edges.append((u - ax) * normal[0] + (v - ay) * normal[1])
    return both(*edges)


def both(*distances: Tensor) -> Tensor:
    """The part common to all."""
    result = distances[0]
    for distance in distances[1:]:
        result = torch.maximum(result, distance)
    return result


def either(*distances: Tensor) -> Tensor:
    """All parts together."""
    result = distances[0]
    for distance in distances[1:]:
        result = torch.minimum(result, distance)
    return result
