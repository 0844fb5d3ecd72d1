"""What a scene of the valley is made of, and how scenes are drawn at random.

A scene is eleven named attributes and an unnamed layout. What it looks like at a given second is in
`moments`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

WIDTH, HEIGHT = 256, 144
"""Size of a frame in pixels."""
RATE = 16
"""Frames a second."""
HORIZON = 84
"""Row of the horizon in pixels; sky above, ground below. Zooming keeps it where it is."""

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "time": ("day", "sunset", "night"),
    "ground": ("grass", "sand", "snow", "water"),
    "weather": ("clear", "rain", "snow", "fog"),
    "shape": (
        *("ball", "cube", "star", "car", "boat", "balloon"),
        *("bird", "fish", "tree", "house", "rocket", "duck"),
    ),
    "colour": ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white"),
    "size": ("small", "big"),
    "motion": ("rests", "bounces", "rolls", "circles", "drifts", "flies away"),
    "speed": ("slow", "fast"),
    "camera": ("still", "pans left", "pans right", "zooms"),
    "companion": ("none", "tree", "house", "ball", "duck", "star"),
    "companion_colour": ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white"),
}
NAMES = tuple(ATTRIBUTES)
COUNTS = tuple(len(values) for values in ATTRIBUTES.values())
TIME, GROUND, WEATHER, SHAPE, COLOUR, SIZE, MOTION, SPEED, CAMERA, COMPANION, COMPANION_COLOUR = (
    range(len(NAMES))
)
"""Column of each attribute."""

HIDDEN = {"companion_colour": ("companion", "none"), "speed": ("motion", "rests")}
"""What a film does not show where another attribute has a certain value; who measures skips it."""

LAYOUT = (
    *("x", "depth", "phase", "pace", "direction", "companion"),
    *("hour", "sun", "hills", "cloud", "stars", "texture", "fall"),
)
"""Columns of the layout: what a caption never says. Each is uniform in [0, 1).

Beyond that an `hour` is one that its time of day has no more, or not yet.
"""

HELD_OUT_SHAPE_COLOUR = (
    *(("ball", "purple"), ("ball", "pink"), ("cube", "blue"), ("star", "red")),
    *(("car", "pink"), ("car", "white"), ("boat", "green"), ("balloon", "orange")),
    *(("bird", "yellow"), ("fish", "purple"), ("tree", "orange"), ("house", "blue")),
    *(("rocket", "green"), ("duck", "white"), ("duck", "red")),
)
HELD_OUT_TIME_GROUND = (("sunset", "snow"), ("night", "sand"))
"""Pairs that training never samples: 15 of 96 and 2 of 12, never one of the README's own."""


@dataclass(frozen=True)
class Scenes:
    """A batch of scenes.

    `attributes`: int64 [B, 11], a value index per column of `ATTRIBUTES`.
    `layout`: float32 [B, 13], columns named by `LAYOUT`.
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
        """One layout column, float64 [B]."""
        return self.layout[:, LAYOUT.index(name)].double()


def attribute_index(**values: str) -> list[int]:
    """Value indices of a scene written in words, in column order; the first value where unnamed.

    Raises `ValueError` for an attribute that there is not.
    """
    unknown = set(values) - set(NAMES)
    if unknown:
        raise ValueError(f"unknown attribute {sorted(unknown)}; there are {list(NAMES)}")
    return [ATTRIBUTES[name].index(values[name]) if name in values else 0 for name in NAMES]


def is_meaningful(attributes: Tensor) -> Tensor:
    """Bool, shaped as the rows [..., 11]: which attributes a film shows at all (see `HIDDEN`)."""
    shown = torch.ones_like(attributes, dtype=torch.bool)
    for name, (other, value) in HIDDEN.items():
        there = attributes[..., NAMES.index(other)] != ATTRIBUTES[other].index(value)
        shown[..., NAMES.index(name)] = there
    return shown


def shown_changes(before: Tensor, after: Tensor) -> Tensor:
    """Bool, shaped as the rows [..., 11]: which attributes change in a way that can be seen."""
    return (before != after) & is_meaningful(after)


def is_settled(before: Tensor, after: Tensor) -> Tensor:
    """Bool, shaped as the rows [..., 11]: what is sure after a film and a prompt for its change.

    What shows after the change, and either showed before or was changed: the speed of what begins
    to move is free where nobody names it.
    """
    return is_meaningful(after) & (is_meaningful(before) | (before != after))


def _pairs(pairs: tuple[tuple[str, str], ...], first: str, second: str) -> Tensor:
    """Bool [values of first, values of second], true at the given pairs."""
    table = torch.zeros(len(ATTRIBUTES[first]), len(ATTRIBUTES[second]), dtype=torch.bool)
    for a, b in pairs:
        table[ATTRIBUTES[first].index(a), ATTRIBUTES[second].index(b)] = True
    return table


def in_held_out_pair(attributes: Tensor) -> Tensor:
    """Bool, shaped as the rows [..., 11]: which attributes belong to a held-out pair."""
    marks = torch.zeros_like(attributes, dtype=torch.bool)
    for pairs, first, second in (
        (HELD_OUT_SHAPE_COLOUR, SHAPE, COLOUR),
        (HELD_OUT_TIME_GROUND, TIME, GROUND),
    ):
        table = _pairs(pairs, NAMES[first], NAMES[second]).to(attributes.device)
        paired = table[attributes[..., first], attributes[..., second]]
        marks[..., first] = marks[..., second] = paired
    return marks


def is_held_out(attributes: Tensor) -> Tensor:
    """Bool [...]: which of the attribute rows [..., 11] contain a held-out pair."""
    return in_held_out_pair(attributes).any(-1)


def sample_attributes(n: int, generator: torch.Generator, held_out: bool | None = False) -> Tensor:
    """Attribute rows int64 [n, 11] on the generator's device, uniform over the wanted side.

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
    """Free layouts, float32 [n, 13] on the generator's device."""
    return torch.rand(n, len(LAYOUT), generator=generator, device=generator.device)


def sample_scenes(n: int, generator: torch.Generator, held_out: bool | None = False) -> Scenes:
    """`n` random scenes on the generator's device; see `sample_attributes` for `held_out`."""
    return Scenes(sample_attributes(n, generator, held_out), sample_layout(n, generator))


def change_scenes(scenes: Scenes, changed: Tensor, generator: torch.Generator) -> Scenes:
    """The same layouts with `changed` attributes replaced by other values.

    `changed`: bool [B, 11]. Every marked attribute really changes, the others stay. Scenes of the
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
    # This ends: every row and column of the two tables has at least two free places, so that even
    # a single attribute's change has somewhere to go.
    while (wrong := is_held_out(after) & ~held_out).any():
        after[wrong] = draw(before[wrong], changed[wrong])
    return replace(scenes, attributes=after)


def draw_change(scenes: Scenes, chances: Sequence[float], generator: torch.Generator) -> Scenes:
    """The same layouts with some attributes changed, one of them at least so that it shows.

    `chances[i]` is that of i + 1 attributes changing; which ones is drawn evenly.
    """
    n, device = len(scenes), scenes.attributes.device
    share = torch.tensor(chances, device=device)
    rows = scenes.attributes.clone()
    left = torch.arange(n, device=device)
    while len(left):
        most = torch.multinomial(share, len(left), replacement=True, generator=generator)
        order = torch.rand(len(left), len(NAMES), generator=generator, device=device).argsort(1)
        rows[left] = change_scenes(scenes[left], order <= most[:, None], generator).attributes
        left = left[~shown_changes(scenes.attributes[left], rows[left]).any(1)]
    return replace(scenes, attributes=rows)
