"""The trial world: what a scene is made of, how scenes are drawn at random, how things move.

A scene is seven named attributes and an unnamed layout. Motion is a closed-form function of time,
so a frame at any second of an endless film can be rendered without the ones before it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

SIZE = 128
"""Width and height of a frame in pixels."""
RATE = 16
"""Frames a second."""
HORIZON = 76
"""Row of the horizon in pixels; sky above, ground below."""

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "time": ("day", "sunset", "night"),
    "ground": ("grass", "sand", "snow", "water"),
    "shape": ("ball", "cube", "star", "car", "boat", "duck"),
    "colour": ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white"),
    "size": ("small", "big"),
    "motion": ("rests", "bounces", "rolls", "circles"),
    "weather": ("clear", "rain", "snow"),
}
NAMES = tuple(ATTRIBUTES)
COUNTS = tuple(len(values) for values in ATTRIBUTES.values())
TIME, GROUND, SHAPE, COLOUR, SIZES, MOTION, WEATHER = range(len(NAMES))
"""Column of each attribute."""

LAYOUT = ("x", "depth", "phase", "speed", "direction", "sun", "hills", "cloud", "texture", "fall")
"""Columns of the layout: what a caption never says. Each is uniform in [0, 1)."""

HELD_OUT_SHAPE_COLOUR = (
    ("ball", "purple"),
    ("cube", "yellow"),
    ("cube", "blue"),
    ("star", "red"),
    ("car", "pink"),
    ("boat", "green"),
    ("duck", "orange"),
    ("duck", "white"),
)
HELD_OUT_TIME_GROUND = (("sunset", "snow"), ("night", "sand"))
"""Pairs that training never samples: 8 of 48 and 2 of 12, never one of the README's own."""


@dataclass(frozen=True)
class Scenes:
    """A batch of scenes.

    `attributes`: int64 [B, 7], a value index per column of `ATTRIBUTES`.
    `layout`: float32 [B, 10], columns named by `LAYOUT`, each in [0, 1).
    """

    attributes: Tensor
    layout: Tensor

    def __len__(self) -> int:
        return self.attributes.shape[0]

    def __getitem__(self, index: slice | Tensor) -> Scenes:
        return Scenes(self.attributes[index], self.layout[index])

    def to(self, device: torch.device | str) -> Scenes:
        """The same scenes on another device."""
        return Scenes(self.attributes.to(device), self.layout.to(device))

    def named(self, name: str) -> Tensor:
        """One layout column, [B]."""
        return self.layout[:, LAYOUT.index(name)]


def attribute_index(**values: str) -> list[int]:
    """Value indices of a scene written in words, in column order; the first value where unnamed."""
    unknown = set(values) - set(NAMES)
    if unknown:
        raise ValueError(f"unknown attribute {sorted(unknown)}; there are {list(NAMES)}")
    return [ATTRIBUTES[name].index(values[name]) if name in values else 0 for name in NAMES]


def _pairs(pairs: tuple[tuple[str, str], ...], first: str, second: str) -> Tensor:
    """Bool [values of first, values of second], true at the given pairs."""
    table = torch.zeros(len(ATTRIBUTES[first]), len(ATTRIBUTES[second]), dtype=torch.bool)
    for a, b in pairs:
        table[ATTRIBUTES[first].index(a), ATTRIBUTES[second].index(b)] = True
    return table


def is_held_out(attributes: Tensor) -> Tensor:
    """Bool [...]: which of the attribute rows [..., 7] contain a held-out pair."""
    device = attributes.device
    colours = _pairs(HELD_OUT_SHAPE_COLOUR, "shape", "colour").to(device)
    grounds = _pairs(HELD_OUT_TIME_GROUND, "time", "ground").to(device)
    columns = attributes.unbind(-1)
    return colours[columns[SHAPE], columns[COLOUR]] | grounds[columns[TIME], columns[GROUND]]


def sample_attributes(n: int, generator: torch.Generator, held_out: bool | None = False) -> Tensor:
    """Attribute rows int64 [n, 7] on the generator's device, uniform over the wanted side.

    `held_out=False` never gives a held-out pair; `True` always gives at least one; `None` asks for
    neither (for the judge, who has to know them all).
    """
    device = generator.device

    def draw(count: int) -> Tensor:
        columns = [torch.randint(k, (count,), generator=generator, device=device) for k in COUNTS]
        return torch.stack(columns, dim=1)

    rows = draw(n)
    while held_out is not None and (wrong := is_held_out(rows) != held_out).any():
        rows[wrong] = draw(int(wrong.sum()))
    return rows


def sample_layout(n: int, generator: torch.Generator) -> Tensor:
    """Free layouts, float32 [n, 10] on the generator's device."""
    return torch.rand(n, len(LAYOUT), generator=generator, device=generator.device)


def sample_scenes(n: int, generator: torch.Generator, held_out: bool | None = False) -> Scenes:
    """`n` random scenes on the generator's device; see `sample_attributes` for `held_out`."""
    return Scenes(sample_attributes(n, generator, held_out), sample_layout(n, generator))


def change_scenes(scenes: Scenes, changed: Tensor, generator: torch.Generator) -> Scenes:
    """The same layouts with `changed` attributes replaced by other values.

    `changed`: bool [B, 7]. Every marked attribute really changes, the others stay. Scenes of the
    training side stay on the training side.
    """
    device = scenes.attributes.device
    counts = torch.tensor(COUNTS, device=device)

    def draw(before: Tensor, marks: Tensor) -> Tensor:
        u = torch.rand(before.shape, generator=generator, device=device)
        step = 1 + (u * (counts - 1)).long().clamp(max=counts - 2)
        return torch.where(marks, (before + step) % counts, before)

    before = scenes.attributes
    held_out = is_held_out(before)
    after = draw(before, changed)
    # A held-out pair may be out of reach only for a single attribute's change; it never is, as no
    # row or column of the two tables is full, so that this ends.
    while (wrong := is_held_out(after) & ~held_out).any():
        after[wrong] = draw(before[wrong], changed[wrong])
    return replace(scenes, attributes=after)


@dataclass(frozen=True)
class Pose:
    """Where the thing is and how it is turned, each [B, T] float32, lengths in pixels.

    `x`, `y`: its centre; `radius`: half its width; `angle`: radians; `facing`: horizontal scale in
    [-1, 1], negative when it looks left; `squash`: vertical scale; `floor`: row that it stands on.
    """

    x: Tensor
    y: Tensor
    radius: Tensor
    angle: Tensor
    facing: Tensor
    squash: Tensor
    floor: Tensor

    def __getitem__(self, index: slice | Tensor) -> Pose:
        return Pose(*(getattr(self, f.name)[index] for f in fields(self)))

    def flat(self) -> Pose:
        """Every field as [B * T]."""
        return Pose(*(getattr(self, f.name).reshape(-1) for f in fields(self)))

    def lerp(self, other: Pose, alpha: Tensor) -> Pose:
        """The pose between two, `alpha` [B, T] in [0, 1]; exactly this one where it is 0."""
        mixed = []
        for f in fields(self):
            a, b = getattr(self, f.name), getattr(other, f.name)
            mixed.append(a + alpha * (b - a))
        return Pose(*mixed)


RADII = (15.0, 26.0)
BOTTOM = (1.0, 0.96, 0.86, 0.88, 0.86, 0.86)
"""How far below its centre each shape ends, in radii."""
TURNS = (True, True, True, False, False, False)
"""Which shapes turn about themselves as they roll; the others look where they go."""


def cycle(rate: Tensor, seconds: Tensor, phase: Tensor) -> Tensor:
    """Fraction in [0, 1) of the current turn, float32; exact for hours of film.

    `rate` [B] turns a second, `seconds` [B, T], `phase` [B] turns.
    """
    turns = rate.double()[:, None] * seconds.double() + phase.double()[:, None]
    return (turns - turns.floor()).float()


def _travel(scenes: Scenes, seconds: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
    """A walk from side to side and back: x in pixels, and speed as a fraction in [-1, 1]."""
    rate = 0.11 + 0.08 * scenes.named("speed")
    theta = 2 * math.pi * cycle(rate, seconds, scenes.named("phase"))
    theta = theta * torch.where(scenes.named("direction") < 0.5, 1.0, -1.0)[:, None]
    # A triangle wave with rounded corners: steady speed, a smooth turn at each end.
    x = SIZE / 2 + (SIZE / 2 - 4 - radius) * torch.asin(0.97 * theta.sin()) / math.asin(0.97)
    speed = theta.cos() * torch.where(scenes.named("direction") < 0.5, 1.0, -1.0)[:, None]
    return x, speed


def pose(scenes: Scenes, seconds: Tensor) -> Pose:
    """Where each scene's thing is at the given times [B, T] (seconds since the film began)."""
    device = seconds.device
    attributes = scenes.attributes
    motion = attributes[:, MOTION, None]
    bounces, rolls, circles = motion == 1, motion == 2, motion == 3
    radius = torch.tensor(RADII, device=device)[attributes[:, SIZES]][:, None].expand_as(seconds)
    bottom = torch.tensor(BOTTOM, device=device)[attributes[:, SHAPE]][:, None]
    turns = torch.tensor(TURNS, device=device)[attributes[:, SHAPE]][:, None]
    phase, speed = scenes.named("phase"), scenes.named("speed")
    direction = torch.where(scenes.named("direction") < 0.5, 1.0, -1.0)[:, None]

    x = (30 + 68 * scenes.named("x"))[:, None].expand_as(seconds)
    floor = (102 + 14 * scenes.named("depth"))[:, None].expand_as(seconds)
    y = floor - bottom * radius

    beat = cycle(0.8 + 0.35 * speed, seconds, phase)
    hop = 4 * beat * (1 - beat) * (58 - 0.8 * radius)
    impact = torch.exp(-((torch.minimum(beat, 1 - beat) / 0.09) ** 2))
    squash = torch.where(bounces, 1 + 0.06 - 0.24 * impact, 1.0)
    y = torch.where(bounces, floor - bottom * radius * squash - hop, y)

    travel, velocity = _travel(scenes, seconds, radius)
    x = torch.where(rolls, travel, x)
    angle = torch.where(rolls & turns, (travel - SIZE / 2) / radius, 0.0)
    facing = torch.where(rolls & ~turns, torch.tanh(4 * velocity), direction.expand_as(seconds))
    facing = torch.where(turns, 1.0, facing)

    turn = 2 * math.pi * cycle(0.24 + 0.1 * speed, seconds, phase) * direction
    x = torch.where(circles, 52 + 24 * scenes.named("x")[:, None] + 24 * turn.cos(), x)
    y = torch.where(circles, 56 + 22 * turn.sin(), y)
    return Pose(x, y, radius, angle, facing, squash, floor)
