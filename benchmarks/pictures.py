"""Pictures of results: line charts, and contact sheets with the prompts below each film."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from longtake.training.metrics import contact_sheet

Point = tuple[float, float]

SIZE = (720, 400)
MARGINS = (48, 52, 24, 52)
"""Of a chart, in pixels: left, top, right, bottom."""
FINE = 4
"""Charts are drawn so many times larger, then reduced, for smooth lines."""
COLOURS = ("#0b5fa5", "#d1670a", "#3a8a3a", "#8a4fa3")
INK, GRID = "#333333", "#dddddd"
COLUMN = 128
"""Width of a frame in a contact sheet, in pixels."""
LINE = 14
"""Height of a line of text in a contact sheet, in pixels."""


def line_chart(
    series: Mapping[str, Sequence[Point]],
    x_label: str,
    y_label: str,
    y_ticks: Sequence[float],
    mark: float,
) -> Image.Image:
    """A chart of `SIZE` pixels with a line for each series, named in a legend above it.

    `series`: at most four, of points from left to right; `y_ticks`: in rising order, the first
    and the last are the bottom and the top of the chart; `mark`: where a dashed upright line is.
    """
    image = Image.new("RGB", (SIZE[0] * FINE, SIZE[1] * FINE), "white")
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(13 * FINE)
    left, top = MARGINS[0] * FINE, MARGINS[1] * FINE
    right, bottom = image.width - MARGINS[2] * FINE, image.height - MARGINS[3] * FINE
    columns = [x for points in series.values() for x, _ in points]
    first, last = math.floor(min(columns)), math.ceil(max(columns))

    def place(x: float, y: float) -> Point:
        across = (x - first) / (last - first)
        up = (y - y_ticks[0]) / (y_ticks[-1] - y_ticks[0])
        # What lies outside is drawn on the edge.
        return left + across * (right - left), bottom - min(max(up, 0), 1) * (bottom - top)

    for tick in y_ticks:
        _, y = place(first, tick)
        draw.line(((left, y), (right, y)), GRID, FINE)
        draw.text((left - 8 * FINE, y), f"{tick:.1f}", INK, font, anchor="rm")
    for tick in range(first, last + 1):
        x, _ = place(tick, y_ticks[0])
        draw.line(((x, bottom), (x, bottom + 4 * FINE)), INK, FINE)
        draw.text((x, bottom + 8 * FINE), f"{tick}", INK, font, anchor="mt")
    draw.line(((left, top), (left, bottom), (right, bottom)), INK, FINE)
    middle, _ = place(mark, y_ticks[0])
    for y in range(top, bottom, 8 * FINE):
        draw.line(((middle, y), (middle, y + 4 * FINE)), INK, FINE)
    draw.text(((left + right) / 2, image.height - 8 * FINE), x_label, INK, font, anchor="mb")
    draw.text((left, top - 32 * FINE), y_label, INK, font, anchor="lb")

    x = float(left)
    for (name, points), colour in zip(series.items(), COLOURS, strict=False):
        placed = [place(*point) for point in points]
        draw.line(placed, colour, 2 * FINE, joint="curve")
        for across, down in placed:
            radius = 3 * FINE
            draw.ellipse((across - radius, down - radius, across + radius, down + radius), colour)
        y = top - 18 * FINE
        draw.line(((x, y), (x + 24 * FINE, y)), colour, 2 * FINE)
        draw.text((x + 30 * FINE, y), name, INK, font, anchor="lm")
        x += 54 * FINE + draw.textlength(name, font)
    return image.reduce(FINE)


def sheet(strips: Sequence[Tensor], captions: Sequence[str]) -> Image.Image:
    """A row of frames for each film, uint8 [columns, 3, H, W], with its caption below it.

    A caption may have several lines.
    """
    rows = []
    font = ImageFont.load_default(11)
    for strip, caption in zip(strips, captions, strict=True):
        picture = Image.fromarray(contact_sheet([strip]).numpy())
        width = COLUMN * len(strip)
        picture = picture.resize((width, round(picture.height * width / picture.width)))
        lines = caption.split("\n")
        row = Image.new("RGB", (width, picture.height + LINE * len(lines) + 4), "white")
        row.paste(picture)
        for index, line in enumerate(lines):
            bottom = picture.height + LINE * (index + 1)
            ImageDraw.Draw(row).text((1, bottom - 2), line, INK, font, anchor="ls")
        rows.append(row)
    result = Image.new("RGB", (rows[0].width, sum(row.height for row in rows)), "white")
    down = 0
    for row in rows:
        result.paste(row, (0, down))
        down += row.height
    # A palette makes the file a third as large.
    return result.quantize(dither=Image.Dither.NONE)


def save_png(image: Image.Image, path: Path) -> None:
    """Write a PNG as small as it gets; its folder is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, optimize=True)
