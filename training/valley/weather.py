"""Rain, snow and fog over finished pictures; how much of each is a number a frame."""

from __future__ import annotations

import torch
from torch import Tensor

from longtake.training.valley.canvas import Canvas, cover, paint
from longtake.training.valley.sky import haze
from longtake.training.valley.world import HEIGHT, HORIZON, WIDTH

# Rows are day, sunset, night.
RAIN = ((0.86, 0.92, 1.00), (1.00, 0.86, 0.82), (0.58, 0.68, 0.92))
FLAKES = ((1.00, 1.00, 1.00), (1.00, 0.93, 0.90), (0.84, 0.89, 1.00))


def _pixels(canvas: Canvas) -> tuple[Tensor, Tensor]:
    """Columns and rows of the lens: weather is not zoomed, [1, 1, W] and [1, H, 1]."""
    x = torch.arange(WIDTH, device=canvas.device) + 0.5
    return x[None, None], (torch.arange(HEIGHT, device=canvas.device) + 0.5)[None, :, None]


def rain(canvas: Canvas, picture: Tensor, _which: Tensor) -> Tensor:
    """Two layers of slanted streaks over frames [N, 3, HEIGHT, WIDTH]."""
    x, y = _pixels(canvas)
    now, colour = canvas.moments, canvas.by_day(RAIN)
    wet = canvas.number(now.rain)
    for number, (pitch, length, long, wide, speed, strength) in enumerate(
        ((26.0, 68.0, 15.0, 1.8, 4.2, 0.56), (17.0, 52.0, 11.0, 1.3, 4.0, 0.34))
    ):
        across = (x + 0.22 * y) / pitch - 0.05
        lane, u = canvas.cells(across, 5 * canvas.layout("fall"))
        fallen = speed * now.clock + 90 * canvas.layout("fall")
        drop, v = canvas.cells(y / length + 7 * canvas.chance(lane, 5), -fallen)
        kind = canvas.chance(lane * 13 + drop * 29, number)
        streak = (
            torch.hypot((u - 0.5) * pitch, (((v - 0.5) * length).abs() - long).clamp(min=0)) - wide
        )
        # More and more streaks of those that there are in full rain.
        present = ((0.62 * wet - kind) / 0.08).clamp(0, 1)
        picture = paint(picture, strength * cover(streak, 1.8) * present, colour)
    return picture


def snow(canvas: Canvas, picture: Tensor, _which: Tensor) -> Tensor:
    """Two layers of swaying flakes over frames [N, 3, HEIGHT, WIDTH]."""
    x, y = _pixels(canvas)
    now, colour = canvas.moments, canvas.by_day(FLAKES)
    for number, (pitch, radius, speed, strength) in enumerate(
        ((27.0, 2.2, 0.75, 0.8), (41.0, 3.6, 0.7, 0.95))
    ):
        fallen = speed * now.clock + 50 * canvas.layout("fall")
        row, v = canvas.cells(y / pitch, -fallen)
        sway = 4 * torch.sin(canvas.phase(0.3 * now.clock) + 1.9 * canvas.chance(row, 8) * 7)
        lane, u = canvas.cells((x + sway) / pitch + canvas.chance(row, 9), -0.3 * now.clock)
        cell = lane * 17 + row * 41 + number
        du = (u - 0.3 - 0.4 * canvas.chance(cell, 1)) * pitch
        dv = (v - 0.3 - 0.4 * canvas.chance(cell, 2)) * pitch
        # Flakes grow from nothing, one after the other, as it begins to snow.
        grown = ((0.55 * canvas.number(now.snow) - canvas.chance(cell, 3)) / 0.15).clamp(0, 1)
        flake = cover(torch.hypot(du, dv) - radius * grown, 1.8) * (grown > 0)
        picture = paint(picture, strength * flake, colour)
    return picture


def fog(canvas: Canvas, picture: Tensor, strength: float) -> Tensor:
    """Drifting fog over frames [N, 3, HEIGHT, WIDTH], thickest at the horizon."""
    x, y = canvas.x(), canvas.y(0, HEIGHT)
    now = canvas.moments
    pan = 0.3 * now.pan / (2 * torch.pi)
    one = canvas.phase(0.05 * now.clock + pan / 47)
    two = canvas.phase(-0.037 * now.clock + pan / 29 + canvas.layout("cloud"))
    banks = torch.sin(x / 47 + one + y / 17) + torch.sin(x / 29 + two - y / 11)
    away = (y - HORIZON) / torch.where(y < HORIZON, 66.0, 58.0)
    thick = torch.exp(-away * away) * (0.86 + 0.09 * banks)
    # It rolls in from afar.
    amount = (thick * strength * canvas.number(now.fog) ** (0.6 + 0.4 * away.abs())).clamp(0, 1)
    air = haze(canvas)
    return paint(picture, amount, torch.lerp(air, torch.ones_like(air), 0.12))
