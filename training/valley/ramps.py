"""How attributes get from one value to the next: eased shares, and phases of a changing rate."""

from __future__ import annotations

import torch
from torch import Tensor

from longtake.training.valley.world import Scenes

RAMP = 1.2
"""Seconds in which a rate becomes another."""
SWAP = 1.1
"""Seconds in which a thing gives way to another."""


def eased(since: Tensor, duration: float) -> Tensor:
    """Share of a change that has happened `since` seconds after its beginning.

    Exactly 0 before it and exactly 1 after `duration`. Fast at first and then ever slower: whoever
    asked for it sees at once that it comes, and the first chunk shows plainly where it goes.
    """
    u = (since / duration).clamp(0, 1)
    return u * (2 - u)


def eased_area(since: Tensor, duration: float) -> Tensor:
    """The integral of `eased` over time, in seconds, in closed form."""
    u = since / duration
    inside = u.clamp(0, 1)
    return duration * (inside**2 - inside**3 / 3 + (u - 1).clamp(min=0))


def at(table: tuple[float, ...], scenes: Scenes, column: int) -> Tensor:
    """The table's number for each scene's value of an attribute, float64 [B, 1]."""
    values = torch.tensor(table, device=scenes.attributes.device, dtype=torch.float64)
    return values[scenes.attributes[:, column]][:, None]


def row_at(rows: tuple[tuple[float, ...], ...], scenes: Scenes, column: int) -> Tensor:
    """The table's row for each scene's value of an attribute, float64 [B, 1, width]."""
    values = torch.tensor(rows, device=scenes.attributes.device, dtype=torch.float64)
    return values[scenes.attributes[:, column]][:, None]


def ramped(
    before: Scenes,
    after: Scenes,
    column: int,
    rates: tuple[float, ...],
    clock: Tensor,
    begun: Tensor,
) -> Tensor:
    """How much has passed at `clock` [B, T] of what passes at a rate per value of an attribute.

    From the second `begun` [B, 1] on, the rate glides from one scene's to the other's, so that
    the amount never jumps.
    """
    first, second = at(rates, before, column), at(rates, after, column)
    return first * clock + (second - first) * eased_area(clock - begun, RAMP)
