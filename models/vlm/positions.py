"""Multimodal rotary positions (Qwen2-VL, section 2.1), as real numbers.

A text token has one position on all three axes (time, height, width). A vision block that begins
at position s has ``s + k * step`` on the time axis for its k-th group of frames, ``s + row`` and
``s + column`` on the others. What follows begins one after the largest of them all.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from longtake.models.vlm.turns import Grid, Turn


def text_positions(length: int, start: float = 0.0) -> Tensor:
    """Positions of text.

    Args:
        length: tokens.
        start: position of the first.

    Returns:
        float64, [length, 3].
    """
    return (torch.arange(length, dtype=torch.float64) + start)[:, None].expand(length, 3)


def vision_positions(grid: Grid, step: float, start: float = 0.0) -> Tensor:
    """Positions of one vision block, group by group, row by row.

    Args:
        grid: of its tokens.
        step: between two groups on the time axis; not rounded, so more frames a second than the
            checkpoint was trained with keep their order.
        start: where the block begins.

    Returns:
        float64, [grid.tokens, 3].
    """
    axes = (
        torch.arange(grid.times, dtype=torch.float64) * step,
        torch.arange(grid.rows, dtype=torch.float64),
        torch.arange(grid.columns, dtype=torch.float64),
    )
    return torch.cartesian_prod(*axes).reshape(-1, 3) + start


def turn_positions(turn: Turn, step: float) -> Tensor:
    """Positions of a turn's tokens, from 0.

    Args:
        turn: as far as it goes.
        step: see :func:`vision_positions`.

    Returns:
        float64, [len(turn), 3].
    """
    before = turn.vision_at
    vision = vision_positions(turn.grid, step, float(before))
    rest = len(turn) - before - turn.grid.tokens
    return torch.cat(
        (text_positions(before), vision, text_positions(rest, vision.max().item() + 1))
    )


def chain(blocks: Sequence[Tensor]) -> Tensor:
    """Blocks of positions that each begin at 0, one after another without a gap.

    Args:
        blocks: float64, [tokens, 3] each; may be empty.

    Returns:
        float64, [all tokens, 3].
    """
    start, placed = 0.0, []
    for block in blocks:
        if len(block):
            placed.append(block + start)
            start = placed[-1].max().item() + 1
    return torch.cat(placed) if placed else torch.empty(0, 3, dtype=torch.float64)
