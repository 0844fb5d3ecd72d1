"""What is measured on films: adherence to the prompt, switches, drift, diversity, the look.

The same measures serve a quick batched rollout while training and the application's own path:
whoever makes the films is a `Camera`. What a judge reads is compared with rows of attributes, so
true renders can be measured beside what was made.
"""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from longtake.training.dataset import CHANGE, STYLE_CHANGES
from longtake.training.judge import Judge, accuracy
from longtake.training.pool import as_float, renders
from longtake.training.valley.captions import caption, change_caption
from longtake.training.valley.world import (
    COLOUR,
    COUNTS,
    MOTION,
    NAMES,
    RATE,
    SHAPE,
    SIZE,
    Scenes,
    draw_change,
    is_meaningful,
    is_settled,
    sample_attributes,
    sample_scenes,
)

Script = Mapping[int, str]
"""Chunk -> the prompt that is in force from there on; there is one for chunk 0."""
Span = tuple[int, int]
"""A piece of film: its first second, counted from a switch, and how many seconds it lasts."""

PLAIN_SECONDS = 5.0
SWITCH_SECONDS = 5.0
"""The usual case: by the switch a film is longer than the cache."""
BEFORE, EARLY, LATE, PERSISTED = (-2, 2), (1, 1), (4, 2), (10, 2)
"""Spans: the last two seconds before a switch; its second second; when it is done; long after."""
IDENTITY_SECONDS = 60.0
LUMA = (0.299, 0.587, 0.114)


class Camera(Protocol):
    """Makes films from scripts, `chunk_frames` frames a chunk."""

    chunk_frames: int

    def shoot(self, scripts: Sequence[Script], chunks: int, seed: int) -> Iterator[Tensor]:
        """One film a script in their order, as many at a time as suits the camera.

        Yields uint8 [some, chunks * chunk_frames, 3, H, W] on the CPU.
        """
        ...


class Album:
    """A camera that keeps `columns` frames, evenly spaced, of the first `films` that it makes.

    `strips`: uint8 [columns, 3, H, W] of each film kept, for a contact sheet; `scripts`: theirs.
    """

    def __init__(self, camera: Camera, films: int, columns: int) -> None:
        self.camera = camera
        self.chunk_frames = camera.chunk_frames
        self.films = films
        self.columns = columns
        self.strips: list[Tensor] = []
        self.scripts: list[Script] = []

    def shoot(self, scripts: Sequence[Script], chunks: int, seed: int) -> Iterator[Tensor]:
        """See `Camera.shoot`."""
        self.scripts = (self.scripts + list(scripts))[: self.films]
        for films in self.camera.shoot(scripts, chunks, seed):
            index = torch.linspace(0, films.shape[1] - 1, self.columns).round().long()
            self.strips += films[: self.films - len(self.strips), index]
            yield films


def chunks_in(camera: Camera, seconds: float) -> int:
    """How many chunks last at least so long."""
    return math.ceil(seconds * RATE / camera.chunk_frames)


def draw_rows(films: int, seed: int, *, held_out: bool = False, moving: bool = False) -> Tensor:
    """Random attribute rows int64 [films, 11] on the CPU; where `moving`, no thing rests.

    `held_out`: as in `sample_attributes`.
    """
    draw = torch.Generator().manual_seed(seed)
    rows = sample_attributes(films, draw, held_out)
    while moving and (rests := rows[:, MOTION] == 0).any():
        rows[rests] = sample_attributes(int(rests.sum()), draw, held_out)
    return rows


def plain_scripts(
    rows: Tensor, seed: int, *, mention: Collection[str] = NAMES, new_wording: bool = False
) -> list[Script]:
    """A prompt for each row [B, 11] that names the attributes of `mention`.

    `new_wording`: in word orders that training never used.
    """
    rng = random.Random(seed)
    return [{0: caption(row, rng, mention, held_out=new_wording)} for row in rows.tolist()]


def ends(
    camera: Camera,
    scripts: Sequence[Script],
    frames: int,
    seed: int,
    *,
    seconds: float = PLAIN_SECONDS,
) -> Tensor:
    """The last frames of films of so many seconds: uint8 [scripts, frames, 3, H, W]."""
    films = camera.shoot(scripts, chunks_in(camera, seconds), seed)
    # Copies, so that the films they are the ends of need not be kept.
    return torch.cat([some[:, -frames:].clone() for some in films])


@dataclass(frozen=True)
class Switched:
    """What a judge read of films that change.

    `before`, `after`: attribute rows int64 [B, 11] as scripted; `read`: the rows read in each
    span; `seams`: see `seams`.
    """

    before: Tensor
    after: Tensor
    read: Mapping[Span, Tensor]
    seams: Tensor

    def adherence(self, span: Span) -> float:
        """Mean over the attributes of what is read there as it is to be after the change."""
        settled = is_settled(self.before, self.after)
        return accuracy(self.read[span], self.after, settled)["mean"]

    def right(self, span: Span, *, changed: bool) -> float:
        """Share of the attributes that did, or did not, change that are right in a span."""
        counted = is_settled(self.before, self.after) & ((self.before != self.after) == changed)
        return float((self.read[span] == self.after)[counted].float().mean())

    def persistence(self) -> float:
        """Share of what shows and was not to change that reads long after just as before."""
        shows = is_meaningful(self.before) & is_meaningful(self.after)
        counted = shows & (self.before == self.after)
        return float((self.read[BEFORE] == self.read[PERSISTED])[counted].float().mean())

    def seam(self) -> float:
        """The usual seam."""
        return float(self.seams.median())


def draw_changes(films: int, seed: int) -> tuple[Scenes, Scenes]:
    """Scenes of the training side, before and after a change as people type them."""
    draw = torch.Generator().manual_seed(seed)
    before = sample_scenes(films, draw)
    return before, draw_change(before, STYLE_CHANGES[CHANGE], draw)


def switching(
    camera: Camera,
    judge: Judge,
    before: Scenes,
    after: Scenes,
    spans: Collection[Span],
    seed: int,
    *,
    new_wording: bool = False,
) -> Switched:
    """How films follow a prompt at `SWITCH_SECONDS` that names only a change.

    `new_wording`: both prompts are worded as training never did.
    """
    rng, at = random.Random(seed), chunks_in(camera, SWITCH_SECONDS)
    scripts: list[Script] = []
    pairs = zip(before.attributes.tolist(), after.attributes.tolist(), strict=True)
    for old, new in pairs:
        scene = caption(old, rng, NAMES, held_out=new_wording)
        scripts.append({0: scene, at: change_caption(old, new, rng, held_out=new_wording)})
    films = camera.shoot(scripts, at + chunks_in(camera, _end(spans)), seed)
    return _read_changes(films, judge, before, after, spans, at * camera.chunk_frames)


def switching_renders(
    judge: Judge,
    before: Scenes,
    after: Scenes,
    spans: Collection[Span],
    device: torch.device,
) -> Switched:
    """The same for true renders: what a perfect generator would be given."""
    border = round(SWITCH_SECONDS * RATE)
    frames = border + _end(spans) * RATE
    films = renders(before, after, start=0.0, frames=frames, change=SWITCH_SECONDS, device=device)
    return _read_changes(films, judge, before, after, spans, border)


def _end(spans: Collection[Span]) -> int:
    return max(first + length for first, length in spans)


def _read_changes(
    films: Iterable[Tensor],
    judge: Judge,
    before: Scenes,
    after: Scenes,
    spans: Collection[Span],
    border: int,
) -> Switched:
    read: dict[Span, list[Tensor]] = {span: [] for span in spans}
    steps = []
    for some in films:
        steps.append(seams(some, border))
        for first, length in spans:
            start = border + first * RATE
            read[first, length].append(judge.read(some[:, start : start + length * RATE]).cpu())
    rows = {span: torch.cat(parts) for span, parts in read.items()}
    return Switched(before.attributes, after.attributes, rows, torch.cat(steps))


def seams(frames: Tensor, border: int) -> Tensor:
    """The step into frame `border`, over the usual step of the 24 frames before: float [B].

    `frames`: uint8 [B, T, 3, H, W].
    """
    before = frames[:, border - 25 : border + 1].float()
    steps = (before[:, 1:] - before[:, :-1]).abs().mean((2, 3, 4))
    return steps[:, -1] / steps[:, :-1].mean(1).clamp(min=1e-3)


def drift(
    camera: Camera,
    judge: Judge,
    rows: Tensor,
    seconds: float,
    seed: int,
    *,
    new_wording: bool = False,
) -> dict[str, float]:
    """How long films without a change of prompt stay as prompted, clip after clip.

    Of films of the rows [B, 11], each `seconds` long, what the judge reads from the second clip to
    the fourth (`early`) and in the last three (`late`), and the `drift` from the one to the other;
    and `identity`, the share of readings of the thing's shape, colour and size that are right in
    all clips of the first minute.
    """
    scripts = plain_scripts(rows, seed, new_wording=new_wording)
    window, total = judge.config.window, round(seconds * RATE)
    minute = min(total, round(IDENTITY_SECONDS * RATE))
    first, last = [], []
    for films in camera.shoot(scripts, chunks_in(camera, seconds), seed):
        first.append(_read_clips(judge, films[:, : minute // window * window], window))
        last.append(_read_clips(judge, films[:, total - 3 * window : total], window))
    read = torch.cat(first)

    def level(clips: Tensor) -> float:
        return accuracy(clips.flatten(0, 1), rows.repeat_interleave(clips.shape[1], 0))["mean"]

    early, late = level(read[:, 1:4]), level(torch.cat(last))
    thing = [SHAPE, COLOUR, SIZE]
    identity = (read[..., thing] == rows[:, None, thing]).float().mean()
    return {"early": early, "late": late, "drift": late - early, "identity": float(identity)}


def kept(
    camera: Camera,
    judge: Judge,
    rows: Tensor,
    named: Collection[str],
    seconds: float,
    seed: int,
    *,
    new_wording: bool = False,
) -> dict[str, float]:
    """How long films stay what they are where their prompts leave that open.

    Of films of the rows [B, 11], each `seconds` long, whose prompts name the attributes `named`:
    how many of those are right in the last clip (`told`), and how many of the others are there what
    they were after `PLAIN_SECONDS` (`kept`).
    """
    scripts = plain_scripts(rows, seed, mention=named, new_wording=new_wording)
    window, ends_of = judge.config.window, (round(PLAIN_SECONDS * RATE), round(seconds * RATE))
    read = [
        _read_clips(judge, torch.cat([films[:, end - window : end] for end in ends_of], 1), window)
        for films in camera.shoot(scripts, chunks_in(camera, seconds), seed)
    ]
    early, late = torch.cat(read).unbind(1)
    asked = torch.tensor([name in named for name in NAMES])
    told = is_meaningful(rows) & asked
    others = is_meaningful(early) & is_meaningful(late) & ~asked
    return {
        "told": float((late == rows)[told].float().mean()),
        "kept": float((late == early)[others].float().mean()),
    }


def _read_clips(judge: Judge, films: Tensor, window: int) -> Tensor:
    """What is read in clip after clip of films [B, clips * window, ...]: int64 [B, clips, 11]."""
    clips = films.unflatten(1, (-1, window))
    rows: Tensor = judge.read(clips.flatten(0, 1)).cpu().unflatten(0, clips.shape[:2])
    return rows


def spread(read: Tensor, named: Collection[str]) -> float:
    """How much films of one prompt differ in what it does not name.

    `read`: rows int64 [prompts, films, 11]. The entropy over the films, in nats, averaged over
    prompts and over the attributes that are not `named`. What does not show (the speed of what
    rests, the colour of no companion) is one more value: to show it or not is a choice as well.
    It is lower the fewer films there are, so compare only spreads of as many.
    """
    values = torch.where(is_meaningful(read), read, max(COUNTS))
    shares = F.one_hot(values, max(COUNTS) + 1).float().mean(1)
    entropy = torch.special.entr(shares).sum(-1)
    left_open = [index for index, name in enumerate(NAMES) if name not in named]
    return float(entropy[:, left_open].mean())


def _luma(clip: Tensor) -> Tensor:
    """The light of a clip [T, 3, H, W]: float [T, H, W] in [0, 1]."""
    return torch.einsum("tchw,c->thw", as_float(clip), torch.tensor(LUMA, device=clip.device))


def motion(clips: Tensor) -> float:
    """Mean absolute difference in luma between frames of clips, uint8 [B, T, 3, H, W]."""
    return float(torch.stack([_luma(clip).diff(dim=0).abs().mean() for clip in clips]).mean())


def sharpness(clips: Tensor) -> float:
    """Mean absolute difference in luma between neighbours across and down, of such clips."""

    def slopes(light: Tensor) -> Tensor:
        return (light.diff(dim=1).abs().mean() + light.diff(dim=2).abs().mean()) / 2

    return float(torch.stack([slopes(_luma(clip)) for clip in clips]).mean())


def contact_sheet(strips: Sequence[Tensor]) -> Tensor:
    """One row a strip, uint8 [columns, 3, H, W] each: uint8 [rows * H, columns * W, 3]."""
    films = torch.stack(tuple(strips))
    return films.permute(0, 3, 1, 4, 2).flatten(0, 1).flatten(1, 2).contiguous()
