"""Pictures of everything but the valley: what the captioner has to know that it does not know.

Two families without anything in common: `SEEN` is drawn for training, `UNSEEN` for evaluation only,
where photographs from files are added to it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

ROWS, COLUMNS = 176, 320
"""Size of a picture in pixels: a frame of the valley, and room for it to move about in."""
LUMA = (0.299, 0.587, 0.114)
DARK, BRIGHT = 0.35, 0.55
"""Mean light in [0, 1] below which a picture is called dark, and above which bright."""
HUES = (
    *((15, "red"), (45, "orange"), (70, "yellow"), (165, "green"), (260, "blue")),
    *((300, "purple"), (345, "pink"), (360, "red")),
)
"""Up to which angle in degrees each colour's name reaches."""
GREY = 0.12
"""Mean chroma in [0, 1] below which a picture has no colour."""
PHOTOS = (".jpg", ".jpeg", ".png", ".webp")
Painter = Callable[[torch.Generator], Tensor]
"""Draws one picture, float [3, ROWS, COLUMNS] in any range."""


@dataclass(frozen=True)
class Bank:
    """Pictures uint8 [N, 3, ROWS, COLUMNS], the name of the main colour of each, and its light."""

    pictures: Tensor
    colours: tuple[str, ...]
    lights: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.colours)


def make_bank(pictures: Tensor) -> Bank:
    """Look at pictures uint8 [N, 3, ROWS, COLUMNS] and remember what they are like."""
    lights = torch.tensor(LUMA) @ (pictures.float().mean((2, 3)) / 255).T
    colours = tuple(main_colour(picture) for picture in pictures)
    return Bank(pictures, colours, tuple(lights.tolist()))


def draw_bank(n: int, generator: torch.Generator, *, unseen: bool = False) -> Bank:
    """`n` pictures of one family, drawn on the CPU from a generator of it."""
    painters = UNSEEN if unseen else SEEN
    drawn = [_finished(painters[k % len(painters)](generator), generator) for k in range(n)]
    return make_bank(torch.stack(drawn))


def photo_bank(files: Sequence[Path]) -> Bank:
    """Pictures from image files, cut to shape. Raises `OSError` for one that cannot be read."""
    pictures = []
    for file in files:
        with Image.open(file) as image:
            pixels = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
        scale = max(ROWS / pixels.shape[1], COLUMNS / pixels.shape[2])
        size = [
            max(ROWS, round(pixels.shape[1] * scale)),
            max(COLUMNS, round(pixels.shape[2] * scale)),
        ]
        fitted = F.interpolate(pixels[None].float(), size, mode="bilinear", antialias=True)[0]
        top, left = (fitted.shape[1] - ROWS) // 2, (fitted.shape[2] - COLUMNS) // 2
        cut = fitted[:, top : top + ROWS, left : left + COLUMNS]
        pictures.append(cut.round().clamp(0, 255).to(torch.uint8))
    return make_bank(torch.stack(pictures))


def main_colour(picture: Tensor) -> str:
    """The name of what colour there is most of in a picture uint8 [3, H, W], or "grey"."""
    red, green, blue = picture.float().flatten(1) / 255
    # Hue and chroma as angle and length in the plane across the grey axis.
    across, up = red - (green + blue) / 2, (green - blue) * 3**0.5 / 2
    chroma = torch.hypot(across, up)
    if float(chroma.mean()) < GREY:
        return "grey"
    degrees = torch.rad2deg(torch.atan2(up, across)) % 360
    borders = torch.tensor([float(border) for border, _ in HUES])
    share = torch.bincount(torch.bucketize(degrees, borders), chroma, len(HUES) + 1)[: len(HUES)]
    names = [name for _, name in HUES]
    totals = {name: sum(float(s) for s, n in zip(share, names, strict=True) if n == name)
              for name in names}  # fmt: skip
    return max(totals, key=lambda name: totals[name])


def _uniform(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.rand(shape, generator=generator)


def _number(generator: torch.Generator, low: float, high: float) -> float:
    return low + (high - low) * float(_uniform(generator, 1))


def _finished(picture: Tensor, generator: torch.Generator) -> Tensor:
    """Stretched to a contrast and a light of its own, mostly with a tint: uint8."""
    flat = picture.flatten(1)
    low, high = flat.quantile(0.02), flat.quantile(0.98)
    picture = (picture - low) / (high - low).clamp(min=1e-3)
    grey = picture.mean(0, keepdim=True)
    picture = torch.lerp(grey.expand_as(picture), picture, _number(generator, 0, 1.2))
    picture = picture * (0.35 + 0.65 * _uniform(generator, 3, 1, 1))
    light = _number(generator, 0.12, 0.85)
    picture = picture * (light / picture.mean().clamp(min=1e-2)).clamp(max=3)
    return (255 * picture.clamp(0, 1)).round().to(torch.uint8)


def _places() -> tuple[Tensor, Tensor]:
    """Rows and columns, float [ROWS, 1] and [1, COLUMNS]."""
    return torch.arange(float(ROWS))[:, None], torch.arange(float(COLUMNS))[None]


def _clouds(generator: torch.Generator) -> Tensor:
    """Noise with the spectrum of photographs, 1 over the frequency to some power."""
    y, x = torch.fft.fftfreq(ROWS)[:, None], torch.fft.rfftfreq(COLUMNS)[None]
    falloff = torch.hypot(x, y).clamp(min=1 / COLUMNS) ** -_number(generator, 0.6, 2.0)
    noise = torch.randn(3, ROWS, COLUMNS, generator=generator)
    # The colours of a place go together.
    noise = torch.lerp(noise, noise[:1].expand_as(noise), 0.7)
    clouds: Tensor = torch.fft.irfft2(torch.fft.rfft2(noise) * falloff, s=(ROWS, COLUMNS))
    return clouds


def _leaves(generator: torch.Generator) -> Tensor:
    """Discs and boxes that hide one another, big ones and small ones: walls, faces, furniture."""
    y, x = _places()
    picture = _uniform(generator, 3, 1, 1).expand(3, ROWS, COLUMNS).clone()
    for _ in range(int(_number(generator, 8, 70))):
        size = 5 * (18 ** _number(generator, 0, 1))
        middle_y, middle_x = _number(generator, 0, ROWS), _number(generator, 0, COLUMNS)
        down, across = (y - middle_y) / size, (x - middle_x) / (size * _number(generator, 0.4, 2.5))
        round_ = _number(generator, 0, 1) < 0.5
        inside = torch.hypot(down, across) < 1 if round_ else (down.abs() < 1) & (across.abs() < 1)
        colour = _uniform(generator, 3, 1, 1) + 0.3 * (_number(generator, -1, 1) * down)
        picture = torch.where(inside, colour, picture)
    return picture


def _stripes(generator: torch.Generator) -> Tensor:
    """Two gratings at some angle."""
    y, x = _places()
    waves = []
    for _ in range(2):
        angle, pitch = _number(generator, 0, 3.14), _number(generator, 6, 60)
        along = (np.cos(angle) * x + np.sin(angle) * y) / pitch
        waves.append(torch.sin(6.28 * along)[None] * (_uniform(generator, 3, 1, 1) - 0.5))
    return waves[0] + waves[1]


def _gradient(generator: torch.Generator) -> Tensor:
    """From one colour to another, straight across."""
    y, x = _places()
    angle = _number(generator, 0, 6.28)
    share = (np.cos(angle) * x / COLUMNS + np.sin(angle) * y / ROWS).sigmoid()
    first, second = _uniform(generator, 2, 3, 1, 1)
    return torch.lerp(first, second, share[None])


def _writing(generator: torch.Generator) -> Tensor:
    """Lines of dark or light marks as big as letters."""
    pitch = int(_number(generator, 6, 14))
    rows, columns = ROWS // pitch + 1, COLUMNS // pitch + 1
    glyphs = (_uniform(generator, rows, columns, 5, 4) < 0.5).float()
    written = (
        _uniform(generator, rows, 1, 1, 1) * columns > torch.arange(columns)[None, :, None, None]
    )
    marks = F.pad(glyphs * written, (0, 2, 0, 2)).permute(0, 2, 1, 3).flatten(2).flatten(0, 1)
    marks = F.interpolate(marks[None, None], (rows * pitch, columns * pitch), mode="area")[0, 0]
    paper, ink = _uniform(generator, 2, 3, 1, 1)
    return torch.lerp(paper, ink, marks[None, :ROWS, :COLUMNS])


def _blurred(generator: torch.Generator) -> Tensor:
    """Shapes out of focus."""
    small = F.interpolate(_leaves(generator)[None], (11, 20), mode="area")
    return F.interpolate(small, (ROWS, COLUMNS), mode="bicubic")[0]


def _mosaic(generator: torch.Generator) -> Tensor:
    """Tiles of random colours."""
    rows = int(_number(generator, 3, 20))
    tiles = _uniform(generator, 1, 3, rows, rows * 2)
    return F.interpolate(tiles, (ROWS, COLUMNS), mode="nearest")[0]


def _static(generator: torch.Generator) -> Tensor:
    """What a screen shows without a signal."""
    grain = _uniform(generator, 1, 1, ROWS // 2, COLUMNS // 2).expand(-1, 3, -1, -1)
    return F.interpolate(grain, (ROWS, COLUMNS), mode="nearest")[0]


def _rings(generator: torch.Generator) -> Tensor:
    """Rings about a place, in two colours."""
    y, x = _places()
    away = torch.hypot(y - _number(generator, 0, ROWS), x - _number(generator, 0, COLUMNS))
    share = (0.5 + 0.5 * torch.sin(away / _number(generator, 3, 15)))[None]
    first, second = _uniform(generator, 2, 3, 1, 1)
    return torch.lerp(first, second, share)


SEEN: tuple[Painter, ...] = (_leaves, _clouds, _leaves, _stripes, _gradient, _writing, _blurred)
UNSEEN: tuple[Painter, ...] = (_mosaic, _static, _rings)
