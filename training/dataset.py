"""Stage 3: films of 48 frames, rendered and encoded once, with all that their captions need.

A clip is what the generator has in view: 12 latent frames in 4 chunks. In half of the clips the
first chunk is the film's start and the other three come after a gap, as when the sinks of a long
film stand before its window. In a third the scene changes at a chunk's border, and some show a
film long after a change. Everything before `border` is given clean to the generator.

Openings are a second, cheaper set: the first chunk of films, where the prompt alone says what is
to be seen, and a step over them costs a quarter of one over clips.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from longtake.models.video.tiny_codec import TinyCodec, TinyCodecConfig
from longtake.training.codec import WARM, load_codec
from longtake.training.loop import join_ranks, rank, step_generator
from longtake.training.pool import FADE, as_float, draw_marks, render_dtype, times
from longtake.training.render import render, render_switch
from longtake.training.world import RATE, SIZE, Scenes, change_scenes, pose, sample_scenes

CHUNK_FRAMES = 12
CHUNKS = 4
START_SECONDS = CHUNK_FRAMES / RATE
FADE_FRAMES = int(FADE * RATE)
SCENE, CHANGE = 0, 1
"""Caption styles: the whole scene, or only what changed."""
SCENE_CHANGES = (0.15, 0.2, 0.2, 0.15, 0.1, 0.1, 0.1)
CAPTION_CHANGES = (0.55, 0.35, 0.1)
"""Chances of one, two, three... attributes changing, by caption style."""


@dataclass(frozen=True)
class Plan:
    """What the clips of one batch have in common.

    `timing`: "start" (from the film's first frame), "gap" (first chunk the film's start, the others
    later), "later" or "opening" (the film's first chunk alone); `kind`: "plain", "switch" (the
    scene changes at `border`) or "settled" (it changed long ago); `style`: of the caption;
    `border`: chunks that are always clean context.
    """

    timing: str
    kind: str
    style: int
    border: int


OPENING = Plan("opening", "plain", SCENE, 0)


def draw_plan(rng: random.Random) -> Plan:
    """A random plan in the shares that the generator is trained with."""
    timing = rng.choices(("start", "gap", "later"), (0.3, 0.5, 0.2))[0]
    kind = rng.choices(("plain", "switch", "settled"), (0.52, 0.33, 0.15))[0]
    if kind == "plain":
        return Plan(timing, kind, SCENE, 0)
    change = 0.5 if kind == "switch" else 0.65
    style = CHANGE if rng.random() < change else SCENE
    return Plan(timing, kind, style, rng.randrange(1, CHUNKS))


@dataclass(frozen=True)
class Clips:
    """Encoded clips.

    `latents`: bfloat16 [N, channels, F, h, w], normalised; `thing`: bool [N, F, h, w], where the
    thing is (F is 12, of openings 3); `before`, `after`: attribute rows int64 [N, 7], equal where
    nothing changes; `style`, `border`: int64 [N], as in `Plan`.
    """

    latents: Tensor
    thing: Tensor
    before: Tensor
    after: Tensor
    style: Tensor
    border: Tensor

    def __len__(self) -> int:
        return len(self.latents)

    def rows(self) -> list[tuple[list[int], list[int], int]]:
        """What the clips' captions are made from: `before`, `after` and `style` of each."""
        columns = (self.before.tolist(), self.after.tolist(), self.style.tolist())
        return list(zip(*columns, strict=True))

    def save(self, path: Path) -> None:
        """Write a safetensors file."""
        save_file({name: value.cpu() for name, value in vars(self).items()}, path)

    @staticmethod
    def load(path: Path, device: torch.device | str) -> Clips:
        """Read a file that `save` wrote; what captions are made from stays on the CPU."""
        tensors = load_file(path)
        for name in ("latents", "thing", "border"):
            tensors[name] = tensors[name].to(device)
        return Clips(**tensors)


def film(before: Scenes, after: Scenes, seconds: Tensor, fade: int) -> Tensor:
    """Frames uint8 [B, T, 3, H, W] of films at consecutive times [B, T], changing at frame `fade`.

    Before `fade` they equal a render of `before`, from `fade + 8` on one of `after`.
    """
    dtype = render_dtype(seconds.device)
    over = fade + FADE_FRAMES
    parts = [render(before, seconds[:, :fade], dtype=dtype, batch=32)] if fade else []
    times_in = seconds[:, fade:over]
    alpha = torch.arange(times_in.shape[1], device=seconds.device) / FADE_FRAMES
    alpha = alpha.expand_as(times_in)
    parts.append(render_switch(before, after, times_in, alpha, dtype=dtype, batch=32))
    if over < seconds.shape[1]:
        parts.append(render(after, seconds[:, over:], dtype=dtype, batch=32))
    return torch.cat(parts, 1)


@dataclass(frozen=True)
class Piece:
    """A stretch of film: `frames` uint8 [B, T, 3, H, W], at `seconds` [B, T]."""

    frames: Tensor
    seconds: Tensor


def pieces_of(plan: Plan, before: Scenes, after: Scenes, start: Tensor) -> list[Piece]:
    """The pieces of film that a plan's clips are encoded from.

    `start`: [B] seconds at which a later piece begins. Every piece but one at the film's first
    frame has `WARM` frames before those that count.
    """
    dtype = render_dtype(start.device)
    total, first = CHUNKS * CHUNK_FRAMES, torch.zeros_like(start)
    opening = times(first, CHUNK_FRAMES)
    if plan.timing == "opening":
        return [Piece(render(before, opening, dtype=dtype, batch=128), opening)]
    changes = plan.kind == "switch"
    if plan.timing == "start":
        seconds, warm = times(first, total), 0
    elif plan.timing == "later":
        seconds, warm = times(start - WARM / RATE, total + WARM), WARM
    else:
        total -= CHUNK_FRAMES
        seconds, warm = times(start - WARM / RATE, total + WARM), WARM
    fade = warm + plan.border * CHUNK_FRAMES - (CHUNKS * CHUNK_FRAMES - total)
    rest = (
        film(before, after, seconds, fade)
        if changes
        else render(after, seconds, dtype=dtype, batch=32)
    )
    if plan.timing != "gap":
        return [Piece(rest, seconds)]
    return [Piece(render(before, opening, dtype=dtype, batch=32), opening), Piece(rest, seconds)]


def thing_cells(scenes: Scenes, seconds: Tensor, config: TinyCodecConfig) -> Tensor:
    """Which latents show the thing or its edge at times [B, T]: bool [B, T / temporal, h, w]."""
    where = pose(scenes, seconds)
    centre = config.spatial * (torch.arange(SIZE // config.spatial, device=seconds.device) + 0.5)
    x, y = (each[..., None, None] for each in (where.x, where.y))
    reach = 1.4 * where.radius[..., None, None] + config.spatial / 2
    near = torch.hypot(centre - x, centre[:, None] - y) < reach
    shown: Tensor = near.unflatten(1, (-1, config.temporal)).any(2)
    return shown


@torch.no_grad()
def encode(codec: TinyCodec, frames: Tensor, dtype: torch.dtype) -> Tensor:
    """Latents bfloat16 [B, channels, T / temporal, h, w] of uint8 frames."""
    with torch.autocast(frames.device.type, dtype, enabled=dtype != torch.float32):
        return codec.encode(as_float(frames)).to(torch.bfloat16)


def make_batch(
    codec: TinyCodec, size: int, seed: int, number: int, plan: Plan | None = None
) -> Clips:
    """One batch of clips, made from the seed and the batch's number alone; the plan is drawn."""
    device = next(codec.parameters()).device
    plan = plan or draw_plan(random.Random(f"{seed}/{rank()}/{number}"))
    draw = step_generator(seed, number, device)
    before = after = sample_scenes(size, draw)
    if plan.kind != "plain":
        chances = CAPTION_CHANGES if plan.style == CHANGE else SCENE_CHANGES
        after = change_scenes(before, draw_marks(size, draw, chances), draw)
    gap = 60 * torch.rand(size, generator=draw, device=device)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    latents, thing = [], []
    for piece in pieces_of(plan, before, after, START_SECONDS + gap):
        warm = WARM if piece.seconds.shape[1] % CHUNK_FRAMES else 0
        counted = slice(warm // codec.config.temporal, None)
        latents.append(encode(codec, piece.frames, dtype)[:, :, counted])
        cells = [thing_cells(scenes, piece.seconds, codec.config) for scenes in (before, after)]
        thing.append((cells[0] | cells[1])[:, counted])
    style = torch.full((size,), plan.style)
    border = torch.full((size,), plan.border)
    shown = torch.cat(thing, 1)
    return Clips(
        torch.cat(latents, 2), shown, before.attributes.cpu(), after.attributes.cpu(), style, border
    )


def clips_path(folder: Path, name: str) -> Path:
    """Where this rank keeps its "films" or its "openings"."""
    return folder / f"{name}.{rank()}.safetensors"


def make_clips(
    codec: TinyCodec, options: argparse.Namespace, clips: int, seconds: float, plan: Plan | None
) -> Clips:
    """Batches until there are enough clips or the time is spent."""
    config, grid = codec.config, SIZE // codec.config.spatial
    frames = (1 if plan else CHUNKS) * CHUNK_FRAMES // config.temporal
    shape = (clips, config.latent_channels, frames)
    latents = torch.empty(*shape, grid, grid, dtype=torch.bfloat16)
    thing = torch.empty(clips, frames, grid, grid, dtype=torch.bool)
    rows: dict[str, list[Tensor]] = {"before": [], "after": [], "style": [], "border": []}
    began, made = time.perf_counter(), 0
    # The two sets share no scenes.
    seed = options.seed + (1000 if plan else 0)
    for number in range(clips // options.batch):
        if time.perf_counter() - began > seconds:
            break
        batch = make_batch(codec, options.batch, seed, number, plan)
        latents[made : made + len(batch)].copy_(batch.latents)
        thing[made : made + len(batch)].copy_(batch.thing)
        for name, parts in rows.items():
            parts.append(getattr(batch, name))
        made += len(batch)
    joined = {name: torch.cat(parts) for name, parts in rows.items()}
    return Clips(latents[:made], thing[:made], **joined)


def build(options: argparse.Namespace) -> None:
    """Make both sets, and write a file for each."""
    torch.backends.cudnn.benchmark = True
    device = join_ranks(options)
    codec = load_codec(options.codec, device)
    codec.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    options.out.mkdir(parents=True, exist_ok=True)
    share = 0.35 * options.seconds
    openings = make_clips(codec, options, options.openings, share, OPENING)
    films = make_clips(codec, options, options.clips, options.seconds - share, None)
    openings.save(clips_path(options.out, "openings"))
    films.save(clips_path(options.out, "films"))
    std = round(float(films.latents[::16].float().std()), 4)
    print(json.dumps({"films": len(films), "openings": len(openings), "std": std}))


def parser() -> argparse.ArgumentParser:
    """The command line of this stage."""
    result = argparse.ArgumentParser(description=__doc__)
    result.add_argument("--out", type=Path, required=True, help="folder to write")
    result.add_argument("--codec", type=Path, required=True, help="folder of the codec stage")
    result.add_argument("--clips", type=int, default=72_000, help="films, at most")
    result.add_argument("--openings", type=int, default=200_000, help="openings, at most")
    result.add_argument("--batch", type=int, default=128, help="clips made at a time")
    result.add_argument("--seconds", type=float, default=150, help="stop making clips after this")
    result.add_argument("--seed", type=int, default=0)
    result.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return result


if __name__ == "__main__":
    build(parser().parse_args())
