"""Stage 3: films, rendered and encoded once, with all that their captions need.

A clip is what the generator has in view: the film's opening, which its sinks hold, and a window,
which in half of the clips comes after a gap, as in a long film. In a third the scene changes at a
chunk's border, and some show a film long after a change. Everything before `border` is given clean
to the generator.

Openings are a second, cheaper set: the first chunk of films, where the prompt alone says what is
to be seen.

Some of either are filmed at an hour between those that have a name, and their captions leave the
time out. Three times of day and four grounds are too few for a model to learn what the one does to
the other; from noon to midnight there is light enough of every kind.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from safetensors.torch import load_file, save_file
from torch import Tensor

from longtake.models.video.settings import StreamingConfig
from longtake.models.video.tiny_codec import TinyCodec
from longtake.training.codec import WARM, load_codec
from longtake.training.loop import half_precision, join_ranks, rank, step_generator
from longtake.training.pool import as_float, shoot
from longtake.training.valley.film import CELL, thing_cells, times
from longtake.training.valley.world import (
    HEIGHT,
    LAYOUT,
    RATE,
    TIME,
    WIDTH,
    Scenes,
    draw_change,
    sample_scenes,
)

SCENE, CHANGE, NAMELESS = 0, 1, 2
"""Caption styles: the whole scene, only what changed, or all but what it is that is seen."""
STYLE_CHANGES = {
    SCENE: (0.15, 0.18, 0.18, 0.15, 0.1, 0.09, 0.07, 0.05, 0.03),
    CHANGE: (0.6, 0.3, 0.1),
}
"""Chances of one, two, three... attributes changing, by caption style."""
PAST, AGAIN = 3, 0.35
"""How often a film may have changed between its opening and its window, and each time's chance."""
LONGEST_GAP = 60.0
"""Seconds between the opening and the window at most."""
PLAIN, SWITCH, SETTLED = 0, 1, 2
KINDS = (0.3, 0.55, 0.15)
"""Chances of a clip in which nothing changes, the scene does at `border`, or did before."""
BETWEEN = 0.5
"""How often the hour is drawn from wider than a time of day is, where the time does not change."""
EARLIEST, LATEST = -0.8, 1.7
"""Hours then: those of [0, 1) have a name, and the others are nearer to that time than to any."""


def streaming_config(described: Mapping[str, Any]) -> StreamingConfig:
    """What a model is to stream with, from its JSON description (see `bundled.json`)."""
    return TypeAdapter(StreamingConfig).validate_python(described["streaming"])


@dataclass(frozen=True)
class Clips:
    """Encoded clips.

    `latents`: bfloat16 [N, channels, F, h, w], normalised; `thing`: bool [N, F, h, w], where the
    thing or its companion is (F is sinks and window, of openings a chunk); `past`: attribute rows
    int64 [N, PAST, 11] from the opening on, as the next or `before` where nothing changed;
    `before`, `after`: int64 [N, 11], those of the window, equal where nothing changes; `style`: of
    the caption for that change, int64 [N]; `border`: chunks that are always clean context,
    int64 [N]; `switch`: whether the scene changes there, bool [N]; `between`: whether the hour has
    no name, so that no caption may tell the time, bool [N].
    """

    latents: Tensor
    thing: Tensor
    past: Tensor
    before: Tensor
    after: Tensor
    style: Tensor
    border: Tensor
    switch: Tensor
    between: Tensor

    def __len__(self) -> int:
        return len(self.latents)

    def rows(self) -> list[tuple[list[list[int]], int, bool]]:
        """What the clips' prompts are made from: the scenes in order, `style` and `between`."""
        scenes = torch.cat((self.past, self.before[:, None], self.after[:, None]), 1)
        columns = (scenes, self.style, self.between)
        return list(zip(*(column.tolist() for column in columns), strict=True))

    def save(self, path: Path) -> None:
        """Write a safetensors file."""
        save_file({name: value.cpu() for name, value in vars(self).items()}, path)

    @staticmethod
    def load(path: Path, device: torch.device | str) -> Clips:
        """Read a file that `save` wrote; what captions are made from stays on the CPU."""
        tensors = load_file(path)
        for name in ("latents", "thing", "border", "switch"):
            tensors[name] = tensors[name].to(device)
        return Clips(**tensors)

    def cpu(self) -> Clips:
        """The same clips in the host's memory."""
        return Clips(*(each.cpu() for each in vars(self).values()))

    @staticmethod
    def joined(parts: list[Clips]) -> Clips:
        """One set of several."""
        columns = zip(*(vars(part).values() for part in parts), strict=True)
        return Clips(*(torch.cat(column) for column in columns))


@dataclass(frozen=True)
class Plan:
    """What a batch of clips shows.

    `past`: the scenes from the openings on; `before`, `after`: of the windows, which begin at
    second `start` [B] and change at second `change` [B]; the others are as in `Clips`.
    """

    past: tuple[Scenes, ...]
    before: Scenes
    after: Scenes
    start: Tensor
    change: Tensor
    style: Tensor
    border: Tensor
    switch: Tensor
    between: Tensor


def draw_hours(scenes: Scenes, may: Tensor, draw: torch.Generator) -> tuple[Scenes, Tensor]:
    """Some of the scenes at wider hours (`BETWEEN`), and bool [B] which of them have no name.

    `may`: bool [B], which scenes may be.
    """
    device = draw.device
    share, u = torch.rand(2, len(scenes), generator=draw, device=device)
    hour = EARLIEST + (LATEST - EARLIEST) * u
    between = may & (share < BETWEEN) & ((hour < 0) | (hour >= 1))
    layout, column = scenes.layout.clone(), LAYOUT.index("hour")
    layout[between, column] = hour[between]
    return replace(scenes, layout=layout), between


def _where(marks: Tensor, some: Scenes, others: Scenes) -> Scenes:
    """`some` where marked, else `others`, of the same layouts."""
    rows = torch.where(marks[:, None], some.attributes, others.attributes)
    return Scenes(rows, others.layout)


def draw_plan(size: int, streaming: StreamingConfig, temporal: int, draw: torch.Generator) -> Plan:
    """A random plan in the shares that the generator is trained with."""
    device = draw.device

    def uniform() -> Tensor:
        return torch.rand(size, generator=draw, device=device, dtype=torch.float64)

    shares = torch.tensor(KINDS, device=device)
    kind = torch.multinomial(shares, size, replacement=True, generator=draw)
    switch, settled = kind == SWITCH, kind == SETTLED
    by_change = uniform() < torch.where(settled, 0.65, 0.5)
    style = torch.where(by_change & (kind != PLAIN), CHANGE, SCENE)
    before = sample_scenes(size, draw)
    changed = _where(
        style == CHANGE,
        draw_change(before, STYLE_CHANGES[CHANGE], draw),
        draw_change(before, STYLE_CHANGES[SCENE], draw),
    )
    after = _where(kind != PLAIN, changed, before)
    # Where the scene changed before the window, there has to have been time for it.
    apart = (uniform() < 0.6) | settled
    gap = LONGEST_GAP * uniform() * apart
    past = [before]
    for _ in range(PAST):
        other = draw_change(past[0], STYLE_CHANGES[CHANGE], draw)
        past.insert(0, _where(apart & (uniform() < AGAIN), other, past[0]))

    sinks, chunks = streaming.sink, (streaming.sink + streaming.window) // streaming.chunk
    opening = streaming.sink // streaming.chunk
    # What comes right after a gap is never asked for: a film that runs has no gaps, and a model
    # that had learned to jump after the opening would.
    least = opening + apart.long()
    border = least + (uniform() * (chunks - least)).long()
    border = torch.where(kind == PLAIN, least * apart, border)
    start = sinks * temporal / RATE + gap
    at_border = start + (border - opening) * streaming.chunk * temporal / RATE
    # Half of what changed before has only just done so.
    ago = torch.where(uniform() < 0.5, 3 * uniform(), gap)
    change = torch.where(switch, at_border, start - torch.minimum(gap, ago * uniform()))
    filmed = (*past[:PAST], before, after)
    hours = torch.stack([scenes.attributes[:, TIME] for scenes in filmed], 1)
    held, between = draw_hours(before, (hours == hours[:, :1]).all(1), draw)
    *past, before, after = (replace(scenes, layout=held.layout) for scenes in filmed)
    return Plan(tuple(past), before, after, start, change, style, border, switch, between)


@torch.no_grad()
def encode(codec: TinyCodec, frames: Tensor) -> Tensor:
    """Latents bfloat16 [B, channels, T / temporal, h, w] of uint8 frames, some clips at a time."""
    with half_precision(frames.device):
        parts = [codec.encode(as_float(part)).to(torch.bfloat16) for part in frames.split(32)]
    return torch.cat(parts).contiguous()


def latent_cells(thing: Tensor, temporal: int) -> Tensor:
    """Cells of frames [B, T, h, w] to those of latent frames."""
    cells: Tensor = thing.unflatten(1, (-1, temporal)).any(2)
    return cells


def encode_opening(
    codec: TinyCodec, scenes: Scenes, latents: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """The first latents of films, and their cells with a thing."""
    zero = torch.zeros(len(scenes), device=device)
    seconds = times(zero, latents * codec.temporal)
    frames = shoot(scenes, scenes, seconds, zero)
    cells = thing_cells(scenes, scenes, seconds, zero)
    return encode(codec, frames), latent_cells(cells, codec.temporal)


def make_clips(codec: TinyCodec, streaming: StreamingConfig, plan: Plan) -> Clips:
    """The clips of a plan. The window is encoded with `WARM` frames before it."""
    device = plan.start.device
    first, first_cells = encode_opening(codec, plan.past[0], streaming.sink, device)
    seconds = times(plan.start - WARM / RATE, WARM + streaming.window * codec.temporal)
    frames = shoot(plan.before, plan.after, seconds, plan.change)
    cells = latent_cells(thing_cells(plan.before, plan.after, seconds, plan.change), codec.temporal)
    warm = WARM // codec.temporal
    latents = torch.cat((first, encode(codec, frames)[:, :, warm:]), 2)
    thing = torch.cat((first_cells, cells[:, warm:]), 1)
    past = torch.stack([scenes.attributes for scenes in plan.past], 1)
    rows = (past, plan.before.attributes, plan.after.attributes)
    return Clips(latents, thing, *rows, plan.style, plan.border, plan.switch, plan.between)


def make_openings(
    codec: TinyCodec, streaming: StreamingConfig, scenes: Scenes, between: Tensor
) -> Clips:
    """The first chunks of films of scenes, whose captions name the whole scene."""
    encoded = encode_opening(codec, scenes, streaming.chunk, scenes.attributes.device)
    return openings_of(*encoded, scenes.attributes, SCENE, between)


def openings_of(latents: Tensor, thing: Tensor, rows: Tensor, style: int, between: Tensor) -> Clips:
    """First chunks of films of attribute rows int64 [N, 11], in which nothing has changed yet."""
    past = rows[:, None].repeat(1, PAST, 1)
    zero = torch.zeros_like(rows[:, 0])
    return Clips(latents, thing, past, rows, rows, zero + style, zero, zero.bool(), between)


def make_batch(
    codec: TinyCodec, streaming: StreamingConfig, size: int, seed: int, number: int, name: str
) -> Clips:
    """One batch of "films" or "openings", made from the seed and its number alone, on the CPU."""
    draw = step_generator(seed, number, next(codec.parameters()).device)
    if name == "openings":
        scenes = sample_scenes(size, draw)
        anywhere = torch.ones(size, dtype=torch.bool, device=draw.device)
        clips = make_openings(codec, streaming, *draw_hours(scenes, anywhere, draw))
    else:
        clips = make_clips(codec, streaming, draw_plan(size, streaming, codec.temporal, draw))
    return clips.cpu()


def clips_path(folder: Path, name: str) -> Path:
    """Where this rank keeps its "films" or its "openings"."""
    return folder / f"{name}.{rank()}.safetensors"


def begin(
    options: argparse.Namespace, described: Mapping[str, Any]
) -> tuple[TinyCodec, StreamingConfig]:
    """The codec, on the device that films are made on, and what they are for; makes the folder.

    `options`: of `add_arguments`; `described`: of the model. Raises `ValueError` where one does not
    fit the world.
    """
    torch.backends.cudnn.benchmark = True
    codec = load_codec(options.codec, join_ranks(options))
    codec.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if codec.spatial != CELL:
        raise ValueError(f"the codec folds {codec.spatial} pixels, the world's cells have {CELL}")
    streaming = streaming_config(described)
    if (streaming.width, streaming.height, streaming.rate) != (WIDTH, HEIGHT, RATE):
        raise ValueError(f"the world is {WIDTH}x{HEIGHT} at {RATE} frames a second")
    options.out.mkdir(parents=True, exist_ok=True)
    return codec, streaming


def build(options: argparse.Namespace) -> None:
    """Make both sets, each until there are enough clips or its time is spent."""
    codec, streaming = begin(options, json.loads(options.config.read_text()))
    share = 0.25 * options.seconds
    # The two sets share no scenes; openings are short, and made four times as many at once.
    sets = (
        ("openings", options.openings, share, options.seed + 1000, 4 * options.batch),
        ("films", options.clips, options.seconds - share, options.seed, options.batch),
    )
    for name, most, seconds, seed, batch in sets:
        began, parts = time.perf_counter(), list[Clips]()
        size = min(batch, most)
        for number in range(most // size):
            # A set without a clip is none.
            if parts and time.perf_counter() - began > seconds:
                break
            parts.append(make_batch(codec, streaming, size, seed, number, name))
        clips = Clips.joined(parts)
        clips.save(clips_path(options.out, name))
        std = round(float(clips.latents[::16].float().std()), 4)
        print(json.dumps({"set": name, "clips": len(clips), "std": std}), flush=True)


def add_arguments(parser: argparse.ArgumentParser, batch: int, seconds: float) -> None:
    """The options of a stage that makes films."""
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--codec", type=Path, required=True, help="folder of the codec stage")
    parser.add_argument("--config", type=Path, default=Path(__file__).with_name("bundled.json"))
    parser.add_argument("--batch", type=int, default=batch, help="films made at a time")
    parser.add_argument("--seconds", type=float, default=seconds, help="stop making films after it")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")


def parser() -> argparse.ArgumentParser:
    """The command line of this stage."""
    result = argparse.ArgumentParser(description=__doc__)
    add_arguments(result, batch=512, seconds=150)
    result.add_argument("--clips", type=int, default=72_000, help="films, at most")
    result.add_argument("--openings", type=int, default=200_000, help="openings, at most")
    return result


if __name__ == "__main__":
    build(parser().parse_args())
