"""Films in which something comes into the picture, leaves it, and comes back; and is never named.

No prompt says what it is, so only who remembers it can show the same thing again. What `dataset` is
for the bundled model this stage is for one with another memory, which is to be tuned for it: the
same files, and beside them the `config.json` of a model that looks back so far.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor

from longtake.models.video.radial import RadialSettings
from longtake.models.video.settings import StreamingConfig
from longtake.models.video.tiny_codec import TinyCodec
from longtake.training.dataset import (
    NAMELESS,
    PAST,
    Clips,
    add_arguments,
    begin,
    clips_path,
    encode,
    latent_cells,
    openings_of,
)
from longtake.training.loop import step_generator
from longtake.training.pool import shoot
from longtake.training.valley.film import thing_cells, times
from longtake.training.valley.script import changing
from longtake.training.valley.world import (
    ATTRIBUTES,
    CAMERA,
    COMPANION,
    HEIGHT,
    LAYOUT,
    MOTION,
    NAMES,
    RATE,
    WEATHER,
    WIDTH,
    Scenes,
    sample_scenes,
)

FILM_SECONDS = 16.0
WAITS = ((0.75, 2.0), (1.5, 4.0), (3.0, 11.0))
"""The least and the most seconds until the thing comes, that it stays, and that it is away."""
TIMES = (0.15, 0.2, 0.65)
"""Chances that it comes, that it leaves again, and that it is back by the end."""
AT_HOME = ("rests", "bounces")
"""What it does where it is seen: what brings it to one place."""
GONE = "flies away"
"""What it is said to do where it is not."""
OUTSIDE = (-0.9, 1.9)
"""The `x` of a layout then, to the left and to the right of the picture."""


@dataclass(frozen=True)
class Departures:
    """Films of one scene each, `scenes`, whose thing is away at first, and then comes and goes.

    `changes`: float64 [B, 3], the seconds at which it comes, leaves and comes back; infinite where
    it does not.
    """

    scenes: Scenes
    changes: Tensor

    def __len__(self) -> int:
        return len(self.scenes)

    @property
    def rows(self) -> Tensor:
        """Attributes int64 [B, 2, 11], as they are told where the thing is away and where not."""
        here = self.scenes.attributes
        away = here.clone()
        away[:, MOTION] = ATTRIBUTES["motion"].index(GONE)
        return torch.stack((away, here), 1)

    def filmed(self, clock: Tensor) -> tuple[Scenes, Scenes, Tensor]:
        """Of every frame at the seconds [B, T]: the scenes [B * T] before and after the change
        that it is of, and float64 [B * T], when that begins.
        """
        number, begin = changing(self.changes, clock)
        film = torch.arange(len(self), device=clock.device).repeat_interleave(clock.shape[1])
        scenes, column = self.scenes[film], LAYOUT.index("x")
        side = (scenes.layout[:, LAYOUT.index("direction")] < 0.5).long()
        outside = scenes.layout.clone()
        outside[:, column] = outside.new_tensor(OUTSIDE)[side]
        comes = (number.flatten() % 2 == 0)[:, None]
        before = replace(scenes, layout=torch.where(comes, outside, scenes.layout))
        after = replace(scenes, layout=torch.where(comes, scenes.layout, outside))
        return before, after, begin.flatten()

    def shoot(self, clock: Tensor) -> Tensor:
        """Frames at the seconds [B, T], uint8 [B, T, 3, H, W]."""
        before, after, begin = self.filmed(clock)
        frames = shoot(before, after, clock.reshape(-1, 1), begin)
        return frames.view(*clock.shape, 3, HEIGHT, WIDTH)

    def cells(self, clock: Tensor) -> Tensor:
        """Where the thing is at the seconds [B, T], bool [B, T, h, w]; see `thing_cells`."""
        before, after, begin = self.filmed(clock)
        shown = thing_cells(before, after, clock.reshape(-1, 1), begin)
        return shown.view(*clock.shape, *shown.shape[2:])


def draw_departures(n: int, step: float, draw: torch.Generator) -> Departures:
    """`n` random films, in which all changes are at multiples of `step` seconds.

    Nothing else changes in them, and there is nothing beside the thing.
    """
    device = draw.device
    scenes = sample_scenes(n, draw)
    rows = scenes.attributes.clone()
    for column, value in ((CAMERA, "still"), (WEATHER, "clear"), (COMPANION, "none")):
        rows[:, column] = ATTRIBUTES[NAMES[column]].index(value)
    u = torch.rand(n, 4, generator=draw, device=device, dtype=torch.float64)
    home = torch.tensor([ATTRIBUTES["motion"].index(name) for name in AT_HOME], device=device)
    rows[:, MOTION] = home[(u[:, 3] * len(home)).long()]
    waits = (least + (most - least) * u[:, k] for k, (least, most) in enumerate(WAITS))
    changes = (torch.stack(tuple(waits), 1).cumsum(1) / step).round() * step
    # Of what comes back there is something to be seen.
    changes[:, 2] = changes[:, 2].clamp(max=FILM_SECONDS - 2 * step)
    shares = torch.tensor(TIMES, device=device)
    count = 1 + torch.multinomial(shares, n, replacement=True, generator=draw)
    changes[torch.arange(3, device=device) >= count[:, None]] = torch.inf
    return Departures(replace(scenes, attributes=rows), changes)


@dataclass(frozen=True)
class Films:
    """Encoded films: `latents` and `thing` as in `Clips`, and what they are of."""

    latents: Tensor
    thing: Tensor
    departures: Departures


@torch.no_grad()
def encode_films(codec: TinyCodec, departures: Departures, seconds: float) -> Films:
    """Films from their first frame on."""
    zero = torch.zeros(len(departures), device=departures.changes.device)
    clock = times(zero, round(seconds * RATE))
    latents = encode(codec, departures.shoot(clock))
    return Films(latents, latent_cells(departures.cells(clock), codec.temporal), departures)


def cut(films: Films, streaming: StreamingConfig, temporal: int, draw: torch.Generator) -> Clips:
    """From each film a clip: its sinks, and a window that ends somewhere in it.

    What is asked for is what comes after the last change before that.
    """
    n, chunk = len(films.departures), streaming.chunk
    opening, window = streaming.sink // chunk, streaming.window // chunk
    total = films.latents.shape[2] // chunk
    places = torch.rand(n, generator=draw, device=draw.device)
    starts = opening + (places * (total - opening - window + 1)).long()
    ends = starts + window
    changes = films.departures.changes * RATE / (chunk * temporal)
    count = (changes < ends[:, None]).sum(1)
    last = changes.gather(1, (count - 1).clamp(min=0)[:, None])[:, 0]
    last = torch.where(count > 0, last, 0.0).round().long()
    # What comes right after a gap is never asked for; see `dataset`.
    border = opening + torch.maximum(last - starts, (starts > opening).long())
    switch = (count > 0) & (border == opening + last - starts)
    sinks = torch.arange(streaming.sink, device=draw.device).expand(n, -1)
    newest = starts[:, None] * chunk + torch.arange(streaming.window, device=draw.device)
    frames, film = torch.cat((sinks, newest), 1), torch.arange(n, device=draw.device)[:, None]
    # The scenes in their order, the first one again where there were fewer.
    order = torch.arange(-PAST - 1, 1, device=draw.device)
    told = films.departures.rows[film, (count[:, None] + order).clamp(min=0) % 2]
    return Clips(
        films.latents.transpose(1, 2)[film, frames].transpose(1, 2),
        films.thing[film, frames],
        *(told[:, :PAST], told[:, PAST], told[:, PAST + 1]),
        *(torch.full_like(border, NAMELESS), border, switch, torch.zeros_like(switch)),
    )


def build(options: argparse.Namespace) -> None:
    """Make openings, and films until there are enough of them or the time is spent."""
    began, described = time.perf_counter(), json.loads(options.config.read_text())
    if options.window:
        described["streaming"]["window"] = options.window
    if options.radial:
        radial = RadialSettings(options.radial, dense_layers=0, dense_steps=0)
        described["streaming"]["radial"] = asdict(radial)
    codec, streaming = begin(options, described)
    device = next(codec.parameters()).device
    if (longest := streaming.sink + streaming.window) * codec.temporal > FILM_SECONDS * RATE:
        raise ValueError(f"{longest} latent frames are more than films of {FILM_SECONDS:g} s have")
    (options.out / "config.json").write_text(json.dumps(described, indent=1) + "\n")
    step = streaming.chunk * codec.temporal / RATE
    opening, parts = list[Clips](), list[Clips]()

    def filmed(size: int, number: int, seconds: float) -> tuple[Films, torch.Generator]:
        draw = step_generator(options.seed, number, device)
        return encode_films(codec, draw_departures(size, step, draw), seconds), draw

    # The two sets share no scenes.
    size = min(options.openings, round(options.batch * FILM_SECONDS / step))
    for number in range(options.openings // size):
        films, _ = filmed(size, options.films + number, step)
        rows = films.departures.rows[:, 0]
        named = torch.zeros_like(rows[:, 0]).bool()
        opening.append(openings_of(films.latents, films.thing, rows, NAMELESS, named).cpu())
    size = min(options.films, options.batch)
    for number in range(options.films // size):
        if parts and time.perf_counter() - began > options.seconds:
            break
        films, draw = filmed(size, number, FILM_SECONDS)
        for _ in range(options.cuts):
            parts.append(cut(films, streaming, codec.temporal, draw).cpu())
    for name, clips in (("openings", Clips.joined(opening)), ("films", Clips.joined(parts))):
        clips.save(clips_path(options.out, name))
        print(json.dumps({"set": name, "clips": len(clips)}), flush=True)


def parser() -> argparse.ArgumentParser:
    """The command line of this stage."""
    result = argparse.ArgumentParser(description=__doc__)
    add_arguments(result, batch=32, seconds=90)
    result.add_argument("--window", type=int, help="latent frames of another window")
    result.add_argument("--radial", type=int, help="tokens of a block of radial attention")
    result.add_argument("--cuts", type=int, default=1, help="clips cut from each film")
    result.add_argument("--films", type=int, default=12_000, help="films, at most")
    result.add_argument("--openings", type=int, default=40_000, help="openings of other films")
    return result


if __name__ == "__main__":
    build(parser().parse_args())
