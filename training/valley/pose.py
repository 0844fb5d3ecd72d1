"""Where the thing is and how it is turned, at any second."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from longtake.training.valley.ramps import SWAP, at, eased, ramped
from longtake.training.valley.world import (
    CAMERA,
    GROUND,
    MOTION,
    SHAPE,
    SIZE,
    SPEED,
    WIDTH,
    Scenes,
)

RADII = (19.0, 30.0)
BOTTOM = (1.0, 0.96, 0.86, 0.88, 0.86, 1.16, 0.72, 0.66, 1.1, 0.92, 1.02, 0.86)
"""How far below its centre each shape ends, in radii."""
TURNS = (1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
"""Which shapes turn about themselves as they roll."""
FACES = (0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0)
"""Which shapes look where they go; the others look the same from both sides."""
RATES = (1.0, 2.1)
"""Beats a second, slow and fast; all that the thing does runs on its beat."""
PAN = (0.0, -44.0, 44.0, 0.0)
"""How fast each camera travels, in pixels a second of the nearest ground."""
WET = (0.0, 0.0, 0.0, 1.0)


@dataclass(frozen=True)
class Pose:
    """Poses of things, float64, all of one shape; lengths in pixels of an unzoomed frame.

    `x`: centre; `floor`: row of the ground below it; `lift`: height of its lowest point above the
    floor, negative when it is immersed; `radius`: half its width; `cos`, `sin`: of its turn;
    `facing`: horizontal scale in [-1, 1], negative when it looks left; `squash`: vertical scale;
    `beat`: turns of what flaps and flickers; `going`: in [0, 1], 0 when it rests; `bottom`: how far
    below its centre it ends, in radii.
    """

    x: Tensor
    floor: Tensor
    lift: Tensor
    radius: Tensor
    cos: Tensor
    sin: Tensor
    facing: Tensor
    squash: Tensor
    beat: Tensor
    going: Tensor
    bottom: Tensor

    def __getitem__(self, index: slice | Tensor) -> Pose:
        return Pose(*(getattr(self, f.name)[index] for f in fields(self)))

    def flat(self) -> Pose:
        """Every field as [B * T]."""
        return Pose(*(getattr(self, f.name).flatten() for f in fields(self)))

    @property
    def y(self) -> Tensor:
        """Row of the centre."""
        return self.floor - self.lift - self.bottom * self.radius * self.squash


def turn(turns: Tensor) -> Tensor:
    """Radians of the current turn, in [0, 2 pi)."""
    return 2 * math.pi * (turns - turns.floor())


def film_pose(before: Scenes, after: Scenes, clock: Tensor, begun: Tensor, pan: Tensor) -> Pose:
    """Poses [B, T] in films that change from the second `begun` [B, 1] on.

    `clock`: seconds, float64 [B, T]; `pan`: pixels that the camera has travelled, [B, T]. The
    beat is one through the change; the thing glides from the old path to the new one.
    """
    pace = 0.9 + 0.2 * before.named("pace")[:, None]
    beats = pace * ramped(before, after, SPEED, RATES, clock, begun)
    share = eased(clock - begun, 1.2)
    first, second = (_pose(scenes, clock, beats, pan) for scenes in (before, after))
    mixed = {
        f.name: torch.lerp(getattr(first, f.name), getattr(second, f.name), share)
        for f in fields(Pose)
    }
    # Between two turns the thing turns the short way.
    length = torch.hypot(mixed["cos"], mixed["sin"]).clamp(min=1e-6)
    mixed["cos"], mixed["sin"] = mixed["cos"] / length, mixed["sin"] / length
    mixed["beat"] = first.beat
    # One shape shrinks to nothing and the next one grows in its place, a little too much at first.
    swap = eased(clock - begun, SWAP)
    late = swap >= 0.5
    shrunk = (1 - 2 * swap).abs()
    shrunk = shrunk * (1 + 0.5 * (1 - shrunk))
    changed = (before.attributes != after.attributes)[:, SHAPE, None]
    mixed["radius"] = torch.where(changed, shrunk * mixed["radius"], mixed["radius"])
    mixed["bottom"] = torch.where(late, second.bottom, first.bottom)
    turned = torch.where(late, second.facing, first.facing)
    mixed["facing"] = torch.where(changed, turned, mixed["facing"])
    return Pose(**mixed)


def _walk(turns: Tensor, reach: Tensor) -> tuple[Tensor, Tensor]:
    """From side to side and back: the way from the middle in pixels, and speed in [-1, 1]."""
    theta = turn(turns)
    # A triangle wave with rounded corners: steady speed, a smooth turn at each end.
    return reach * torch.asin(0.97 * theta.sin()) / math.asin(0.97), theta.cos()


def _pose(scenes: Scenes, clock: Tensor, beats: Tensor, pan: Tensor) -> Pose:
    """Poses [B, T] in films of one scene each, given the thing's beats so far [B, T]."""
    motion = scenes.attributes[:, MOTION, None]
    rests, bounces, rolls, circles, drifts, away = (motion == k for k in range(6))
    radius = at(RADII, scenes, SIZE).expand_as(clock)
    bottom = at(BOTTOM, scenes, SHAPE).expand_as(clock)
    turns = at(TURNS, scenes, SHAPE) > 0
    phase = scenes.named("phase")[:, None]
    side = torch.where(scenes.named("direction") < 0.5, 1.0, -1.0)[:, None].double()
    home = 62 + 132 * scenes.named("x")[:, None]
    floor = (108 + 14 * scenes.named("depth")[:, None]).expand_as(clock)

    walked = torch.where(drifts, 0.045 * beats, 0.075 * beats) + phase
    way, speed = _walk(walked, 108 - 0.9 * radius)
    round_ = side * turn(0.15 * beats + phase)
    hop = 0.62 * beats + phase
    hop = hop - hop.floor()
    impact = torch.exp(-((torch.minimum(hop, 1 - hop) / 0.09) ** 2))
    far = torch.where(away, 0.5 - 0.5 * torch.cos(turn(0.12 * beats + phase)), 0.0)
    sway = torch.sin(turn(0.35 * beats + phase))

    x = torch.where(rolls | drifts, WIDTH / 2 + side * way, home.expand_as(clock))
    x = torch.where(circles, WIDTH / 2 + 0.6 * (home - WIDTH / 2) + 48 * round_.cos(), x)
    x = x + far * (WIDTH / 2 - 44 * side - x)
    lift = torch.where(bounces, 4 * hop * (1 - hop) * (52 - 0.6 * radius), 0.0)
    lift = torch.where(circles, 40 - 0.7 * radius + 15 * round_.sin(), lift)
    lift = torch.where(drifts, 30 - 0.3 * radius + 5 * sway, lift)
    lift = torch.where(away, 34 * far, lift)
    squash = torch.where(bounces, 1.05 - 0.24 * impact, 1.0)

    # It floats and bobs on the water when nothing else moves it up and down.
    afloat = at(WET, scenes, GROUND) * (rests | rolls)
    lift = lift + afloat * (1.4 * torch.sin(turn(0.4 * clock + phase)) - 0.1 * radius - 1.5)
    angle = 0.07 * afloat * torch.sin(turn(0.29 * clock + phase))
    angle = angle + torch.where(turns, 0.0, -0.1 * rolls * side * speed + 0.09 * drifts * sway)
    rolled = (side * way + pan) / (bottom * radius)
    angle = angle + torch.where(rolls & turns, rolled, 0.0)
    # In a tracking shot it travels with the camera.
    ahead = side * torch.where(rolls | drifts, 30 * speed, 20.0) + at(PAN, scenes, CAMERA)
    ahead = torch.tanh(torch.where(circles, -30 * side * round_.sin(), ahead) / 6)
    facing = torch.where(at(FACES, scenes, SHAPE) > 0, ahead.expand_as(clock), 1.0)
    return Pose(
        *(x, floor + far * (94 - floor), lift, radius / (1 + 1.3 * far)),
        *(angle.cos(), -angle.sin(), facing, squash, 1.5 * beats + phase),
        *((~rests).double().expand_as(clock), bottom),
    )
