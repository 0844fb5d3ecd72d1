"""What every frame of a film looks like, in closed form: light, weather, ground, camera, poses.

A film is a scene `before`, a scene `after` of the same layout, and the second at which the one
begins to become the other. Nothing is summed up over frames: how far a change has gone, and the
phases of all that moves, are functions of the second. Phases are float64, exact for hours of film.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from longtake.training.valley.pose import PAN, Pose, film_pose
from longtake.training.valley.ramps import SWAP, at, eased, ramped, row_at
from longtake.training.valley.world import (
    ATTRIBUTES,
    CAMERA,
    COLOUR,
    COMPANION,
    COMPANION_COLOUR,
    GROUND,
    SHAPE,
    TIME,
    WEATHER,
    WIDTH,
    Scenes,
)

COLOURS = (
    (0.91, 0.13, 0.13),
    (1.00, 0.53, 0.06),
    (1.00, 0.86, 0.14),
    (0.16, 0.70, 0.24),
    (0.13, 0.36, 0.93),
    (0.53, 0.20, 0.78),
    (1.00, 0.50, 0.74),
    (0.97, 0.97, 0.97),
)
# Per time: the height at its earliest hour, and how much later its last one is.
HEIGHT = (0.0, 0.85, 1.75)
HOURS = (0.35, 0.3, 0.25)
# Per weather: how grey the sky is, and how much rain, snow and fog there is.
OVERCAST = (0.0, 1.0, 0.85, 0.6)
RAIN = (0.0, 1.0, 0.0, 0.0)
SNOW = (0.0, 0.0, 1.0, 0.0)
FOG = (0.0, 0.08, 0.12, 1.0)
ZOOM = (0.0, 0.0, 0.0, 1.0)
ZOOM_SECONDS = 8.0
ZOOM_MOST = 0.24
COMPANION_SHAPES = (8, 8, 9, 0, 11, 2)
"""The shape that each companion is drawn as; the first is never seen."""
COMPANION_EVERY = 288.0
"""Pixels between companions in a tracking shot: one leaves the picture as the next comes in."""
COMPANION_SCALE = 0.42
"""How fast a companion passes by, of the nearest ground's pace."""


@dataclass(frozen=True)
class Moments:
    """All that N frames show; float64 [N] on one device unless it says otherwise.

    `layout`: float32 [N, 13], as in `Scenes`; `clock`: seconds; `day`: [N, 3], the shares of day,
    sunset and night; `height`: from 0 at noon over 1, when the sun sets, to 2 in deep night;
    `overcast`, `rain`, `snow`, `fog`: in [0, 1]; `ground`, `coming`: int64, the ground and the one
    that spreads over it, by `spread` in [0, 1]; `pan`: pixels of the nearest ground that the camera
    has travelled; `zoom`: from 1 up; `shape`: int64; `colour`: [N, 3] in [0, 1]; `pose`: of the
    thing; `companion`: int64, a shape; `companion_colour`: [N, 3]; `companion_x`: pixels;
    `risen`: in [0, 1], how much of the companion stands above the ground.
    """

    layout: Tensor
    clock: Tensor
    day: Tensor
    height: Tensor
    overcast: Tensor
    rain: Tensor
    snow: Tensor
    fog: Tensor
    ground: Tensor
    coming: Tensor
    spread: Tensor
    pan: Tensor
    zoom: Tensor
    shape: Tensor
    colour: Tensor
    pose: Pose
    companion: Tensor
    companion_colour: Tensor
    companion_x: Tensor
    risen: Tensor

    def __len__(self) -> int:
        return self.clock.shape[0]

    @property
    def wet(self) -> Tensor:
        """How much of the ground is water, in [0, 1]."""
        water = ATTRIBUTES["ground"].index("water")
        return torch.lerp(
            (self.ground == water).double(), (self.coming == water).double(), self.spread
        )

    def __getitem__(self, index: slice | Tensor) -> Moments:
        return Moments(*(getattr(self, f.name)[index] for f in fields(self)))


def moments(before: Scenes, after: Scenes, seconds: Tensor, change: Tensor) -> Moments:
    """The moments of films at `seconds` [B, T], which change at `change` [B]; N is B * T."""
    clock, begun = seconds.double(), change.double()[:, None]
    dusk = eased(clock - begun, 1.4)
    hour = before.named("hour")[:, None]
    height = _mixed(before, after, TIME, HEIGHT, dusk)
    height = (height + hour * _mixed(before, after, TIME, HOURS, dusk)).clamp(0, 2)
    day = torch.stack([(1 - (height - k).abs()).clamp(min=0) for k in range(3)], -1)
    weather = eased(clock - begun, 1.2)
    spread = eased(clock - begun, 1.3)
    spread = torch.where((before.attributes != after.attributes)[:, GROUND, None], spread, 0.0)

    pan = ramped(before, after, CAMERA, PAN, clock, begun)
    breath = 0.5 - 0.5 * torch.cos(
        2 * torch.pi * (clock / ZOOM_SECONDS + before.named("fall")[:, None])
    )
    zoom = 1 + ZOOM_MOST * breath * _mixed(before, after, CAMERA, ZOOM, eased(clock - begun, 1.1))

    swap = eased(clock - begun, SWAP)
    shape = torch.where(
        swap < 0.5, before.attributes[:, SHAPE, None], after.attributes[:, SHAPE, None]
    )
    colour = _colour_mix(before, after, COLOUR, eased(clock - begun, 1.0))
    companion, companion_colour, risen = _companion(before, after, swap)
    frames = seconds.shape[1]
    parts = {
        "layout": before.layout[:, None].expand(-1, frames, -1),
        "clock": clock,
        "day": day,
        "height": height,
        "overcast": _mixed(before, after, WEATHER, OVERCAST, weather),
        "rain": _mixed(before, after, WEATHER, RAIN, weather),
        "snow": _mixed(before, after, WEATHER, SNOW, weather),
        "fog": _mixed(before, after, WEATHER, FOG, weather),
        "ground": before.attributes[:, GROUND, None].expand(-1, frames),
        "coming": after.attributes[:, GROUND, None].expand(-1, frames),
        "spread": spread,
        "pan": pan,
        "zoom": zoom,
        "shape": shape,
        "colour": colour,
        "companion": companion,
        "companion_colour": companion_colour,
        "companion_x": _companion_x(before, pan),
        "risen": risen,
    }
    pose = film_pose(before, after, clock, begun, pan).flat()
    return Moments(pose=pose, **{name: part.flatten(0, 1) for name, part in parts.items()})


def _mixed(
    before: Scenes, after: Scenes, column: int, table: tuple[float, ...], share: Tensor
) -> Tensor:
    """A number per value of an attribute, on its way from one scene's to the other's, [B, T]."""
    return torch.lerp(at(table, before, column), at(table, after, column), share)


def _colour_mix(before: Scenes, after: Scenes, column: int, share: Tensor) -> Tensor:
    """A colour on its way from one scene's to the other's, [B, T, 3]."""
    first, second = row_at(COLOURS, before, column), row_at(COLOURS, after, column)
    return torch.lerp(first, second, share[..., None])


def _companion(before: Scenes, after: Scenes, swap: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Shape int64, colour [B, T, 3] and how far risen, [B, T]: one sinks, then the other rises."""
    old, new = (scenes.attributes[:, COMPANION, None] for scenes in (before, after))
    shapes = torch.tensor(COMPANION_SHAPES, device=swap.device)
    late = swap >= 0.5
    shape = torch.where(late, shapes[new], shapes[old])
    sinking = torch.where(late, 0.0, (old > 0) * (1 - 2 * swap))
    rising = torch.where(late, (new > 0) * (2 * swap - 1), 0.0)
    risen = torch.where(old == new, (old > 0).double().expand_as(swap), sinking + rising)
    share = torch.where(old == new, swap, late.double())
    return shape, _colour_mix(before, after, COMPANION_COLOUR, share), risen


def _companion_x(scenes: Scenes, pan: Tensor) -> Tensor:
    """Column of the companion, [B, T]: on the other side of where the thing rests at first."""
    home = scenes.named("x")[:, None]
    side = torch.where(home < 0.5, 186.0, 26.0) + 44 * scenes.named("companion")[:, None]
    margin = (COMPANION_EVERY - WIDTH) / 2
    return torch.remainder(side - COMPANION_SCALE * pan + margin, COMPANION_EVERY) - margin
