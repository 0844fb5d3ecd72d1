"""What is measured on films: adherence to the prompt, the seam of a switch, drift over time.

The same measures serve a quick batched rollout while training and the application's own path:
whoever makes the films is a `Camera`.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from longtake.training.captions import caption, change_caption
from longtake.training.dataset import CAPTION_CHANGES, CHUNK_FRAMES, FADE_FRAMES
from longtake.training.judge import Judge, accuracy
from longtake.training.pool import draw_marks
from longtake.training.world import NAMES, RATE, change_scenes, sample_attributes, sample_scenes

Script = Mapping[int, str]
"""Chunk -> the prompt that is in force from there on; there is one for chunk 0."""

PLAIN_CHUNKS = 6
SWITCH_CHUNK, SWITCH_CHUNKS = 5, 11
"""The usual case: by the switch a film is longer than the cache."""


class Camera(Protocol):
    """Makes films from scripts."""

    def shoot(self, scripts: Sequence[Script], chunks: int, seed: int) -> Tensor:
        """One film a script: uint8 [scripts, chunks * 12, 3, H, W] on the CPU."""
        ...


def adherence(
    camera: Camera,
    judge: Judge,
    films: int,
    seed: int,
    *,
    held_out: bool = True,
    new_wording: bool = False,
) -> tuple[dict[str, float], Tensor]:
    """What the judge reads at the end of films, all attributes named in the prompt.

    `held_out`: of combinations with a pair that training never drew, or of the others;
    `new_wording`: in word orders that training never used.

    Returns the share of right readings for each attribute and their mean, and the films.
    """
    rows = sample_attributes(films, torch.Generator().manual_seed(seed), held_out)
    rng = random.Random(seed)
    texts = [caption(row, rng, NAMES, held_out=new_wording) for row in rows.tolist()]
    frames = camera.shoot([{0: text} for text in texts], PLAIN_CHUNKS, seed)
    return accuracy(judge.read(frames[:, -judge.config.window :]), rows), frames


def seam(frames: Tensor, border: int) -> float:
    """The step into frame `border`, over the usual step of the 24 frames before: median of films.

    `frames`: uint8 [B, T, 3, H, W].
    """
    before = frames[:, border - 25 : border + 1].float()
    steps = (before[:, 1:] - before[:, :-1]).abs().mean((2, 3, 4))
    return float((steps[:, -1] / steps[:, :-1].mean(1).clamp(min=1e-3)).median())


def switching(
    camera: Camera, judge: Judge, films: int, seed: int
) -> tuple[dict[str, float], Tensor]:
    """How films follow a prompt that names only a change.

    Returns `early` (adherence to the new state from 0.5 to 2 s after the switch), `late` (3 to
    4.5 s), `changed` and `kept` (late, of the attributes that did and did not change), `seam`.
    """
    draw = torch.Generator().manual_seed(seed)
    before = sample_scenes(films, draw)
    after = change_scenes(before, draw_marks(films, draw, CAPTION_CHANGES), draw)
    rng = random.Random(seed)
    scripts = []
    pairs = zip(before.attributes.tolist(), after.attributes.tolist(), strict=True)
    for old, new in pairs:
        scripts.append({0: caption(old, rng, NAMES), SWITCH_CHUNK: change_caption(old, new, rng)})
    frames = camera.shoot(scripts, SWITCH_CHUNKS, seed)
    border, window = SWITCH_CHUNK * CHUNK_FRAMES, judge.config.window
    start = border + FADE_FRAMES
    early = accuracy(judge.read(frames[:, start : start + window]), after.attributes)
    right = judge.read(frames[:, -window:]).cpu() == after.attributes
    changed = before.attributes != after.attributes
    result = {
        "early": early["mean"],
        "late": float(right.float().mean()),
        "changed": float(right[changed].float().mean()),
        "kept": float(right[~changed].float().mean()),
        "seam": seam(frames, border),
    }
    return result, frames


def drift(camera: Camera, judge: Judge, films: int, seconds: float, seed: int) -> dict[str, float]:
    """Adherence in the first and the last six seconds of long films, and the loss between."""
    rows = sample_attributes(films, torch.Generator().manual_seed(seed), held_out=True)
    rng = random.Random(seed)
    scripts: list[Script] = [{0: caption(row, rng, NAMES)} for row in rows.tolist()]
    frames = camera.shoot(scripts, round(seconds * RATE / CHUNK_FRAMES), seed)
    window = judge.config.window

    def level(part: Tensor) -> float:
        clips = part[:, : part.shape[1] // window * window].unflatten(1, (-1, window))
        wanted = rows.repeat_interleave(clips.shape[1], 0)
        return accuracy(judge.read(clips.flatten(0, 1)), wanted)["mean"]

    early, late = level(frames[:, : 6 * RATE]), level(frames[:, -6 * RATE :])
    return {"early": early, "late": late, "loss": early - late}


def contact_sheet(films: Tensor, columns: int) -> Tensor:
    """One row a film, `columns` frames of it evenly spaced: uint8 [rows * H, columns * W, 3]."""
    index = torch.linspace(0, films.shape[1] - 1, columns).round().long()
    return films[:, index].permute(0, 3, 1, 4, 2).flatten(0, 1).flatten(1, 2).contiguous()
