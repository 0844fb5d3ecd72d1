"""The bundled models: whole, small, and showing what they are asked for."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

import longtake
from longtake.training.judge import load_judge
from longtake.training.world import NAMES, attribute_index
from longtake.weights import JUDGE

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
    assert sum(sizes) < 40_000_000


@pytest.fixture(scope="module")
def film() -> np.ndarray:
    """The README's film in short, its change after 3 s: uint8 frames."""
    with longtake.open() as model:
        take = model.take("a red ball bounces on green grass on a sunny day", seed=7)
        take.prompt("night falls and it starts to snow", at=3)
        return np.stack([frame.pixels for frame in take.frames(seconds=7.5)])


@pytest.mark.parametrize(
    ("frames", "time", "weather"),
    [(slice(24, 48), "day", "clear"), (slice(-24, None), "night", "snow")],
)
def test_the_film_of_the_readme_shows_its_prompts(
    film: np.ndarray, frames: slice, time: str, weather: str
) -> None:
    wanted = attribute_index(
        time=time, ground="grass", shape="ball", colour="red", motion="bounces", weather=weather
    )
    clip = torch.from_numpy(film[frames]).permute(0, 3, 1, 2)[None]
    (read,) = load_judge(JUDGE).read(clip).tolist()
    named = [name for name in NAMES if name != "size"]
    got = {name: read[NAMES.index(name)] for name in named}
    assert got == {name: wanted[NAMES.index(name)] for name in named}
