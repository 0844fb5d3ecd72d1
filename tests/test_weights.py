"""The bundled models: whole, small, and showing what they are asked for."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

import longtake

WEIGHTS = Path(__file__).parents[1] / "weights"


def test_every_file_is_the_one_of_the_manifest() -> None:
    stated = dict(
        reversed(line.split("  ")) for line in (WEIGHTS / "SHA256SUMS").read_text().splitlines()
    )
    there = {
        path.relative_to(WEIGHTS).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in WEIGHTS.rglob("*")
        if path.suffix in {".json", ".safetensors"}
    }
    assert there == stated


def test_the_folder_stays_small() -> None:
    sizes = [path.stat().st_size for path in WEIGHTS.rglob("*") if path.is_file()]
    assert max(sizes) < 15_000_000
    assert sum(sizes) < 47_000_000


@pytest.fixture(scope="module")
def film() -> np.ndarray:
    """The README's film in short, its change after 3 s: uint8 frames."""
    with longtake.open() as model:
        take = model.take("a red ball bounces on green grass on a sunny day", seed=7)
        take.prompt("night falls and it starts to snow", at=3)
        return np.stack([frame.pixels for frame in take.frames(seconds=7.5)])


def _red(frames: np.ndarray) -> float:
    """Share of pixels that are of the ball's colour and nothing else's."""
    red, green, blue = (frames[..., channel].astype(int) for channel in range(3))
    return float(((red > 2 * green) & (red > 2 * blue) & (red > 60)).mean())


def test_the_film_of_the_readme_shows_its_prompts(film: np.ndarray) -> None:
    day, night = film[24:48], film[-24:]
    assert day[:, :40].mean() > 150
    assert night[:, :40].mean() < 80
    green = day[:, 100:].mean((0, 1, 2))
    assert green[1] > 1.3 * green[0]
    for frames in (day, night):
        assert 0.01 < _red(frames) < 0.15
    # It bounces: its rows change, and its columns do not.
    reds = np.argwhere((day[..., 0] > 2 * day[..., 1].astype(int)) & (day[..., 0] > 120))
    places = np.array([reds[reds[:, 0] == index][:, 1:].mean(0) for index in range(len(day))])
    assert np.ptp(places[:, 0]) > 8
    assert np.ptp(places[:, 1]) < 8
