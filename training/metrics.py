"""What is measured on films: adherence to the prompt, the seam of a switch, drift over time.

The same measures serve a quick batched rollout while training and the application's own path:
whoever makes the films is a `Camera`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from longtake.training.dataset import CAPTION_CHANGES
from longtake.training.judge import Judge, accuracy
from longtake.training.valley.captions import caption, change_caption
from longtake.training.valley.world import (
    NAMES,
    RATE,
    draw_change,
    is_settled,
    sample_attributes,
    sample_scenes,
)

Script = Mapping[int, str]
"""Chunk -> the prompt that is in force from there on; there is one for chunk 0."""

PLAIN_SECONDS = 5.0
SWITCH_SECONDS = 5.0
"""The usual case: by the switch a film is longer than the cache."""


class Camera(Protocol):
    """Makes films from scripts, `chunk_frames` frames a chunk."""

    chunk_frames: int

    def shoot(self, scripts: Sequence[Script], chunks: int, seed: int) -> Tensor:
        """One film a script: uint8 [scripts, chunks * chunk_frames, 3, H, W] on the CPU."""
        ...


def chunks_in(camera: Camera, seconds: float) -> int:
    """How many chunks last at least so long."""
    return math.ceil(seconds * RATE / camera.chunk_frames)


def adherence(
    camera: Camera,
    judge: Judge,
    films: int,
    seed: int,
    *,
    held_out: bool = False,
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
    frames = camera.shoot([{0: text} for text in texts], chunks_in(camera, PLAIN_SECONDS), seed)
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

    Returns `early` (adherence to the new state in the 2nd second after the switch), `late` (4 to
    6 s), `changed` and `kept` (late, of the attributes that did and did not change), `seam`.
    """
    draw = torch.Generator().manual_seed(seed)
    before = sample_scenes(films, draw)
    after = draw_change(before, CAPTION_CHANGES, draw)
    rng = random.Random(seed)
    scripts = []
    at = chunks_in(camera, SWITCH_SECONDS)
    pairs = zip(before.attributes.tolist(), after.attributes.tolist(), strict=True)
    for old, new in pairs:
        scripts.append({0: caption(old, rng, NAMES), at: change_caption(old, new, rng)})
    frames = camera.shoot(scripts, at + chunks_in(camera, 6), seed)
    border, window = at * camera.chunk_frames, judge.config.window
    counted = is_settled(before.attributes, after.attributes)
    second = judge.read(frames[:, border + RATE : border + 2 * RATE])
    early = accuracy(second, after.attributes, counted)
    right = judge.read(frames[:, border + 4 * RATE :][:, :window]).cpu() == after.attributes
    changed = before.attributes != after.attributes
    result = {
        "early": early["mean"],
        "late": float(right[counted].float().mean()),
        "changed": float(right[counted & changed].float().mean()),
        "kept": float(right[counted & ~changed].float().mean()),
        "seam": seam(frames, border),
    }
    return result, frames


def drift(camera: Camera, judge: Judge, films: int, seconds: float, seed: int) -> dict[str, float]:
    """Adherence in the first and the last six seconds of long films, and the loss between."""
    rows = sample_attributes(films, torch.Generator().manual_seed(seed))
    rng = random.Random(seed)
    scripts: list[Script] = [{0: caption(row, rng, NAMES)} for row in rows.tolist()]
    frames = camera.shoot(scripts, chunks_in(camera, seconds), seed)
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
