"""Contact sheets with the prompts below each film."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from longtake.training.metrics import contact_sheet

INK = "#333333"
COLUMN = 128
"""Width of a frame in a contact sheet, in pixels."""
LINE = 14
"""Height of a line of text in a contact sheet, in pixels."""


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
    return result


def save_sheet(image: Image.Image, path: Path) -> None:
    """Write a WebP, of which films make a third of a PNG; its folder is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, "WEBP", quality=60, method=6)
