"""The twelve things of the valley, as layers of signed distances.

Every function takes local coordinates u (right) and v (up), [N, H, W] in units of the thing's
radius; a beat in radians and how much the thing is going, both [N, 1, 1]. It returns layers from
back to front: a signed distance in the same units, and a tint. A tint is a fixed colour, or one
number k: the thing's own colour darkened by k < 1 or mixed with white by k - 1, or one of the
names `GLASS`, `FIRE` and `EMBER`, which shine by themselves.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from longtake.training.valley.distances import both, box, circle, either, ellipse, polygon, side

GLASS = -1.0
"""The tint of windows, which are lit at night."""
EMBER, FIRE = -2.0, -3.0
"""The tints of a flame and of its heart."""
DARK = (0.10, 0.09, 0.13)
BEAK = (1.0, 0.60, 0.12)
WOOD = (0.45, 0.29, 0.18)
CREAM = (0.98, 0.93, 0.82)

Tint = float | tuple[float, float, float]
Layer = tuple[Tensor, Tint]
Drawing = Callable[[Tensor, Tensor, Tensor, Tensor], list[Layer]]


def ball(u: Tensor, v: Tensor, _beat: Tensor, _going: Tensor) -> list[Layer]:
    """A beach ball with a pale band and a dark one beside it, so that its turning shows."""
    disc = torch.hypot(u, v) - 1
    band = both(disc, (v - 0.12 * u * u).abs() - 0.27)
    cap = both(disc, 0.62 - v)
    return [(disc, 1.0), (band, 1.78), (cap, 0.62)]


def cube(u: Tensor, v: Tensor, _beat: Tensor, _going: Tensor) -> list[Layer]:
    """A cube seen from a corner: light top, plain left, dark right."""
    hexagon = torch.maximum(u.abs() * 0.5 + v.abs() * 0.866, u.abs()) - 0.866
    above = u.abs() * 0.5 - v * 0.866
    right = both(hexagon, -u, -above)
    return [(hexagon, 1.0), (both(hexagon, above), 1.45), (right, 0.6)]


def star(u: Tensor, v: Tensor, _beat: Tensor, _going: Tensor) -> list[Layer]:
    """A five-pointed star with rounded tips and a lighter heart."""
    step = 2 * math.pi / 5
    angle = torch.atan2(u, v)
    folded = (torch.remainder(angle + step / 2, step) - step / 2).abs()
    r = torch.hypot(u, v)
    p, q = r * folded.cos(), r * folded.sin()
    # The edge runs from the tip (1.12, 0) to the notch at 36 degrees, radius 0.54.
    tip, notch = 1.12, (0.54 * math.cos(step / 2), 0.54 * math.sin(step / 2))
    along = (notch[0] - tip, notch[1])
    length = math.hypot(*along)
    edge = (p - tip) * (along[1] / length) - q * (along[0] / length)
    edge = torch.maximum(edge, r - 1.04)
    return [(edge, 1.0), (edge + 0.22, 1.4)]


def car(u: Tensor, v: Tensor, _beat: Tensor, _going: Tensor) -> list[Layer]:
    """A car: cabin with two windows, body with a bumper, a headlight in front, two wheels."""
    cabin = box(u, v, (-0.14, 0.22), (0.60, 0.44), 0.26)
    body = box(u, v, (0.0, -0.28), (1.04, 0.34), 0.22)
    panes = either(
        box(u, v, (-0.42, 0.25), (0.22, 0.22), 0.09), box(u, v, (0.14, 0.25), (0.22, 0.22), 0.09)
    )
    lamp = circle(u, v, (0.88, -0.20), 0.16)
    stripe = both(body, (v + 0.42).abs() - 0.09)
    wheels = circle(u.abs(), v, (0.56, -0.58), 0.30)
    hubs = circle(u.abs(), v, (0.56, -0.58), 0.13)
    return [
        (either(cabin, body), 1.0),
        (stripe, 0.62),
        (panes, GLASS),
        (lamp, (1.0, 0.95, 0.62)),
        (wheels, DARK),
        (hubs, (0.72, 0.72, 0.76)),
    ]


def boat(u: Tensor, v: Tensor, _beat: Tensor, _going: Tensor) -> list[Layer]:
    """A sailing boat: hull with a stripe, mast, a pale sail, a smaller one, a pennant."""
    hull = polygon(u, v, (-0.66, -0.86), (0.62, -0.86), (1.08, -0.28), (-0.98, -0.28))
    stripe = both(hull, (v + 0.40).abs() - 0.08)
    mast = box(u, v, (0.0, 0.28), (0.07, 0.86), 0.03)
    sail = both(side(u, v, 180, -0.11), side(u, v, -90, 0.12), _bulge(u, v, 1.02, 0.72))
    jib = both(side(u, v, 0, -0.11), side(u, v, -90, 0.12), _bulge(-u, v, 0.74, 0.58))
    pennant = polygon(u, v, (0.04, 0.86), (0.46, 0.98), (0.04, 1.12))
    return [
        (mast, WOOD),
        (hull, 1.0),
        (stripe, 1.75),
        (sail, 1.62),
        (jib, 1.0),
        (pennant, 0.85),
    ]


def _bulge(u: Tensor, v: Tensor, high: float, wide: float) -> Tensor:
    """The free edge of a sail, full of wind: from (0, high) down to (wide, -0.12)."""
    share = ((v + 0.12) / (high + 0.12)).clamp(0, 1)
    return torch.maximum(0.8 * (u - wide * (1 - share) ** 0.7), v - high)


def balloon(u: Tensor, v: Tensor, _beat: Tensor, _going: Tensor) -> list[Layer]:
    """A hot-air balloon: striped envelope, ropes, a basket."""
    round_ = circle(u, v, (0.0, 0.30), 0.82)
    taper = polygon(u, v, (-0.72, -0.10), (-0.22, -0.68), (0.22, -0.68), (0.72, -0.10))
    envelope = either(round_, taper)
    # Stripes narrow where the envelope does.
    wide = (0.72 - (v - 0.30).clamp(max=0).abs() * 0.5).clamp(min=0.2)
    stripes = both(envelope, (u.abs() / wide - 0.55).abs() * wide - 0.17)
    ropes = both((u.abs() - 0.17).abs() - 0.05, (v + 0.76).abs() - 0.14)
    basket = box(u, v, (0.0, -0.98), (0.27, 0.18), 0.07)
    return [(ropes, WOOD), (envelope, 1.0), (stripes, 1.68), (basket, (0.66, 0.43, 0.24))]


def bird(u: Tensor, v: Tensor, beat: Tensor, going: Tensor) -> list[Layer]:
    """A round bird with a pale breast; its wing flaps when it is going."""
    body = ellipse(u, v, (-0.02, -0.08), (0.74, 0.60))
    tail = polygon(u, v, (-0.58, -0.18), (-0.52, 0.20), (-1.14, 0.36), (-1.10, 0.02))
    head = circle(u, v, (0.50, 0.38), 0.42)
    breast = both(ellipse(u, v, (0.22, -0.26), (0.48, 0.40)), body)
    beak = polygon(u, v, (0.84, 0.22), (1.22, 0.32), (0.84, 0.50))
    flap = (0.15 + 0.75 * going * beat.sin()) * (u + 0.02)
    wing = ellipse(u, v + flap + 0.3 * flap.abs(), (-0.30, 0.06), (0.52, 0.25))
    legs = both((u.abs() - 0.17).abs() - 0.06, (v + 0.66).abs() - 0.10)
    return [
        (legs, BEAK),
        (beak, BEAK),
        (tail, 0.75),
        (either(body, head), 1.0),
        (breast, 1.6),
        (wing, 0.68),
        (circle(u, v, (0.60, 0.47), 0.13), DARK),
    ]


def fish(u: Tensor, v: Tensor, beat: Tensor, _going: Tensor) -> list[Layer]:
    """A fish with two pale stripes, fins, and a tail that swings."""
    swing = 0.16 * beat.sin() * (u + 0.2).clamp(max=0)
    w = v + swing
    body = ellipse(u, v, (0.16, 0.0), (0.86, 0.60))
    tail = either(
        polygon(u, w, (-0.50, -0.06), (-0.50, 0.10), (-1.08, 0.56), (-0.98, 0.0)),
        polygon(u, w, (-0.50, -0.10), (-0.50, 0.06), (-0.98, 0.0), (-1.08, -0.56)),
    )
    back = polygon(u, v, (-0.30, 0.40), (0.50, 0.46), (-0.22, 0.84))
    stripes = both(body, either((u + 0.28).abs() - 0.11, (u - 0.18).abs() - 0.12))
    fin = ellipse(u, v, (0.08, -0.16), (0.25, 0.15))
    return [
        (back, 0.7),
        (tail, 0.7),
        (body, 1.0),
        (stripes, 1.72),
        (fin, 0.7),
        (circle(u, v, (0.66, 0.14), 0.19), (1.0, 1.0, 1.0)),
        (circle(u, v, (0.70, 0.14), 0.11), DARK),
    ]


def tree(u: Tensor, v: Tensor, beat: Tensor, going: Tensor) -> list[Layer]:
    """A tree: trunk, and a crown of three lobes with lighter tops."""
    u = u + 0.06 * going * beat.sin() * (v + 1.1)
    trunk = both(u.abs() - 0.15 - 0.08 * (-0.7 - v).clamp(min=0), (v + 0.62).abs() - 0.48)
    crown = either(
        circle(u, v, (0.0, 0.52), 0.58),
        circle(u, v, (-0.48, 0.06), 0.46),
        circle(u, v, (0.48, 0.06), 0.46),
    )
    lights = either(
        circle(u, v, (-0.14, 0.68), 0.27),
        circle(u, v, (-0.56, 0.16), 0.19),
        circle(u, v, (0.40, 0.18), 0.19),
    )
    return [(trunk, WOOD), (crown, 1.0), (lights, 1.32)]


def house(u: Tensor, v: Tensor, _beat: Tensor, _going: Tensor) -> list[Layer]:
    """A house: cream walls, roof and door of its colour, a window that is lit at night."""
    walls = box(u, v, (0.0, -0.42), (0.74, 0.50), 0.04)
    roof = polygon(u, v, (-1.04, 0.02), (1.04, 0.02), (0.58, 0.86), (-0.58, 0.86))
    chimney = box(u, v, (0.42, 0.88), (0.13, 0.26), 0.03)
    tiles = both(roof, (v - 0.30).abs() - 0.06)
    door = box(u, v, (0.28, -0.62), (0.19, 0.30), 0.05)
    pane = box(u, v, (-0.30, -0.40), (0.25, 0.23), 0.04)
    frame = box(u, v, (-0.30, -0.40), (0.33, 0.31), 0.06)
    return [
        (chimney, 0.62),
        (walls, CREAM),
        (roof, 1.0),
        (tiles, 0.75),
        (door, 0.85),
        (frame, 1.0),
        (pane, GLASS),
    ]


def rocket(u: Tensor, v: Tensor, beat: Tensor, going: Tensor) -> list[Layer]:
    """A rocket: white body with a nose and fins of its colour, a porthole, a flame when it goes."""
    half = 0.47 * (1 - (v / 1.12).clamp(-0.55, 1) ** 2) ** 0.6
    body = both(0.85 * (u.abs() - half), -0.72 - v, v - 1.14)
    nose = both(body, 0.46 - v)
    band = both(body, (v + 0.56).abs() - 0.11)
    fins = either(
        polygon(u, v, (0.32, -0.70), (0.82, -0.98), (0.78, -0.52), (0.36, -0.02)),
        polygon(-u, v, (0.32, -0.70), (0.82, -0.98), (0.78, -0.52), (0.36, -0.02)),
    )
    length = going * (0.52 + 0.08 * beat.sin())
    tongue = (u / 0.34) ** 2 + ((v + 0.70) / length.clamp(min=0.02)) ** 2
    flame = both(0.22 * (tongue - 1), v + 0.66)
    heart = both(0.16 * (1.9 * tongue - 1), v + 0.66)
    return [
        (flame, EMBER),
        (heart, FIRE),
        (fins, 0.85),
        (body, 1.88),
        (nose, 1.0),
        (band, 1.0),
        (circle(u, v, (0.0, 0.10), 0.26), 0.7),
        (circle(u, v, (0.0, 0.10), 0.17), GLASS),
    ]


def duck(u: Tensor, v: Tensor, _beat: Tensor, _going: Tensor) -> list[Layer]:
    """A rubber duck: body with a lifted tail, wing, head, beak, eye."""
    body = ellipse(u, v, (-0.08, -0.36), (0.90, 0.50))
    tail = polygon(u, v, (-0.50, -0.40), (-0.50, 0.02), (-1.04, 0.26), (-0.92, -0.30))
    head = circle(u, v, (0.40, 0.42), 0.46)
    wing = ellipse(u, v, (-0.24, -0.28), (0.46, 0.25))
    beak = ellipse(u, v, (0.92, 0.32), (0.28, 0.17))
    return [
        (beak, BEAK),
        (either(body, tail, head), 1.0),
        (wing, 0.74),
        (circle(u, v, (0.52, 0.54), 0.13), DARK),
    ]


DRAWINGS: tuple[Drawing, ...] = (
    *(ball, cube, star, car, boat, balloon),
    *(bird, fish, tree, house, rocket, duck),
)
"""In the order of `ATTRIBUTES["shape"]`."""
