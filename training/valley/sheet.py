"""Draw a contact sheet of the valley: scenes, and below them changes as they happen."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from longtake.training.valley.film import film, render
from longtake.training.valley.world import HEIGHT, WIDTH, Scenes, attribute_index, sample_layout

COLUMNS, GAP = 4, 4
BALL = {"shape": "ball", "colour": "red", "size": "big", "motion": "bounces"}
BOAT = {"shape": "boat", "colour": "blue", "ground": "water", "motion": "rolls"}
DUCK = {"shape": "duck", "colour": "yellow", "size": "big", "companion": "house"}
SCENES: tuple[dict[str, str], ...] = (
    {**BALL, "companion": "tree", "companion_colour": "green"},
    {**BOAT, "size": "big", "time": "sunset"},
    {"shape": "house", "colour": "red", "size": "big", "ground": "snow", "time": "night"},
    {"shape": "balloon", "colour": "purple", "size": "big", "motion": "drifts", "ground": "sand"},
    {"shape": "fish", "colour": "orange", "size": "big", "ground": "water", "companion": "duck"},
    {"shape": "rocket", "colour": "blue", "size": "big", "time": "night", "motion": "drifts"},
    {"shape": "car", "colour": "green", "weather": "rain", "companion": "ball"},
    {"shape": "bird", "colour": "pink", "size": "big", "weather": "snow", "ground": "snow"},
)
CHANGES: tuple[tuple[dict[str, str], dict[str, str]], ...] = (
    (DUCK, {"time": "night"}),
    ({**BALL, "companion": "star", "companion_colour": "yellow"}, {"ground": "water"}),
    (
        {"shape": "fish", "colour": "blue", "size": "big", "ground": "sand", "weather": "fog"},
        {"shape": "tree", "colour": "pink", "weather": "clear", "companion": "duck"},
    ),
)
SEED = 12


def _scenes(rows: list[dict[str, str]]) -> Scenes:
    layout = sample_layout(len(rows), torch.Generator().manual_seed(SEED))
    return Scenes(torch.tensor([attribute_index(**row) for row in rows]), layout)


def frames() -> Tensor:
    """The frames of the sheet, row by row, uint8 [N, 3, HEIGHT, WIDTH]."""
    still = render(_scenes(list(SCENES)), torch.full((len(SCENES), 1), 2.5))
    before = _scenes([first for first, _ in CHANGES])
    after = _scenes([{**first, **then} for first, then in CHANGES])
    begins = torch.full((len(CHANGES),), 2.5)
    seconds = begins[:, None] + torch.tensor([0.0, 0.8, 1.15, 2.0])
    changing = film(before, after, seconds, begins)
    return torch.cat([still.flatten(0, 1), changing.flatten(0, 1)])


def sheet(pictures: Tensor) -> Image.Image:
    """Pictures uint8 [N, 3, HEIGHT, WIDTH] side by side, in rows of four."""
    rows = -(-len(pictures) // COLUMNS)
    size = (COLUMNS * (WIDTH + GAP) - GAP, rows * (HEIGHT + GAP) - GAP)
    result = Image.new("RGB", size, "white")
    for index, picture in enumerate(pictures):
        row, column = divmod(index, COLUMNS)
        image = Image.fromarray(picture.permute(1, 2, 0).numpy())
        result.paste(image, (column * (WIDTH + GAP), row * (HEIGHT + GAP)))
    return result


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="PNG file to write")
    sheet(frames()).save(parser.parse_args().out, optimize=True)


if __name__ == "__main__":
    main()
