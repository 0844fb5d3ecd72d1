"""What all painters share: coordinates, light, soft edges, and repeatable chance.

Lengths and positions are float32, colours have the canvas's dtype. Coordinates are those of an
unzoomed frame. Nothing that carries meaning is finer than 4 pixels, for finer detail is lost by the
codec.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from longtake.training.valley.moments import Moments
from longtake.training.valley.world import HEIGHT, HORIZON, LAYOUT, WIDTH

Table = tuple[tuple[float, float, float], ...]
"""Colours, a row each."""
DEPTH = HEIGHT - HORIZON
"""Rows of ground."""
CHANCES = 4096
Painter = Callable[["Canvas", Tensor, Tensor], Tensor]
"""Repaints pictures [n, 3, H, W] of a canvas; the last argument is their indices [n] in a batch."""


def chance_table(device: torch.device | str) -> Tensor:
    """The numbers in [0, 1) that `Canvas.chance` picks from, always the same, float32 [CHANCES]."""
    return torch.rand(CHANCES, generator=torch.Generator().manual_seed(7)).to(device)


def cover(distance: Tensor, softness: float = 1.2) -> Tensor:
    """How much of a pixel lies inside, in [0, 1], from a signed distance in pixels."""
    return (0.5 - distance / softness).clamp(0, 1)


def paint(picture: Tensor, amount: Tensor, colour: Tensor) -> Tensor:
    """`colour` over `picture` [N, 3, H, W] where `amount` [N, H, W] is not 0."""
    return torch.lerp(picture, colour.expand_as(picture), amount.to(picture.dtype)[:, None])


def paint_where(canvas: Canvas, where: Tensor, painter: Painter, picture: Tensor) -> Tensor:
    """`picture` [N, 3, H, W], repainted in place by `painter` in the frames where `where` [N].

    This is how painters get only the frames that need them: none of them has to look for itself,
    so that what they do has no data-dependent shapes.
    """
    mine = where.nonzero()[:, 0]
    if len(mine):
        some = Canvas(canvas.moments[mine], canvas.dtype, canvas.chances)
        picture[mine] = painter(some, picture[mine], mine)
    return picture


def horizon_scale(y: Tensor) -> Tensor:
    """How large things on the ground look at row `y`, of their size at the lower edge."""
    return 0.3 + 0.7 * (y - HORIZON) / DEPTH


@dataclass(frozen=True)
class Canvas:
    """The frames that are painted together: their moments, the dtype of colours, `chance_table`."""

    moments: Moments
    dtype: torch.dtype
    chances: Tensor

    @property
    def device(self) -> torch.device:
        """Where everything is."""
        return self.moments.clock.device

    def number(self, values: Tensor) -> Tensor:
        """A number a frame, [N], as float32 [N, 1, 1]."""
        return values.float()[:, None, None]

    def chance(self, cell: Tensor, salt: int = 0) -> Tensor:
        """A repeatable number in [0, 1) for each whole number (int64), another for each salt."""
        return self.chances[(cell * 1973 + salt * 331) & (CHANCES - 1)]

    def layout(self, name: str) -> Tensor:
        """A layout column, float64 [N]."""
        return self.moments.layout[:, LAYOUT.index(name)].double()

    def x(self) -> Tensor:
        """Columns of the pixel centres, float32 [N, 1, WIDTH]."""
        column = torch.arange(WIDTH, device=self.device) + 0.5
        return WIDTH / 2 + (column - WIDTH / 2) / self.number(self.moments.zoom)

    def y(self, start: int, stop: int) -> Tensor:
        """Rows of the pixel centres of some rows, float32 [N, stop - start, 1]."""
        row = torch.arange(start, stop, device=self.device)[:, None] + 0.5
        return HORIZON + (row - HORIZON) / self.number(self.moments.zoom)

    def by_day(self, table: Table) -> Tensor:
        """The colour of a table of day, sunset and night for each frame, [N, 3, 1, 1]."""
        rows = torch.tensor(table, device=self.device, dtype=torch.float64)
        mixed = (self.moments.day[:, :, None] * rows).sum(1)
        return mixed.to(self.dtype)[:, :, None, None]

    def by_weather(self, clear: Table, grey: Table) -> Tensor:
        """The same of two tables, the second where the sky is grey, [N, 3, 1, 1]."""
        share = self.number(self.moments.overcast).to(self.dtype)[:, None]
        return torch.lerp(self.by_day(clear), self.by_day(grey), share)

    def phase(self, turns: Tensor) -> Tensor:
        """Radians of the current turn, from turns [N] in float64, as float32 [N, 1, 1]."""
        return self.number(2 * torch.pi * (turns - turns.floor()))

    def cells(self, way: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
        """Numbers int64 of the cells along `way` (in cells), and where in them, in [0, 1).

        `offset`: float64 [N], in cells, of any size: it stays exact for hours of film.
        """
        whole = offset.floor()
        way = way + self.number(offset - whole)
        first = way.floor()
        return first.long() + whole.long()[:, None, None], way - first
