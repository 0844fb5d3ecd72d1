"""Films in which something comes, goes, and comes back, unnamed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from longtake.models.video.settings import StreamingConfig
from longtake.training import departures
from longtake.training.codec import load_codec
from longtake.training.dataset import NAMELESS, Clips, encode, streaming_config
from longtake.training.denoiser import load_denoiser
from longtake.training.prompts import nameless
from longtake.training.valley.film import times
from longtake.training.valley.world import ATTRIBUTES, GROUND, MOTION, RATE, is_held_out

TOY = Path(__file__).parents[1] / "toy.json"
TEMPORAL, STEP = 4, 0.5
STREAMING = StreamingConfig(**json.loads(TOY.read_text())["streaming"])
RunStage = Callable[..., None]


def _drawn(films: int) -> departures.Departures:
    return departures.draw_departures(films, STEP, torch.Generator().manual_seed(0))


def test_a_thing_comes_leaves_and_comes_back_in_that_order() -> None:
    drawn = _drawn(2000)
    changes, there = drawn.changes, drawn.changes.isfinite()
    assert torch.equal(changes[there] % STEP, torch.zeros(int(there.sum())).double())
    assert there[:, 0].all()
    assert not (there[:, 1:] & ~there[:, :-1]).any()
    assert (changes[:, 1:] > changes[:, :-1])[there[:, 1:]].all()
    assert changes[:, 0].min() > STREAMING.sink * TEMPORAL / RATE
    # Away for more than ten seconds, too, and back for some.
    away = (changes[:, 2] - changes[:, 1])[there[:, 2]]
    assert away.min() < 4
    assert away.max() > 10
    assert changes[there].max() <= departures.FILM_SECONDS - 2 * STEP
    assert there[:, 2].float().mean() == pytest.approx(departures.TIMES[2], abs=0.04)
    assert not is_held_out(drawn.scenes.attributes).any()


def test_a_thing_is_in_the_picture_where_it_is_told_to_be() -> None:
    drawn = _drawn(12)
    changes = torch.tensor([1.0, 4.0, 10.0], dtype=torch.float64).repeat(12, 1)
    drawn = replace(drawn, changes=changes)
    # A change takes 1.2 seconds.
    clock = torch.tensor([0.0, 1.0, 2.5, 4.0, 5.5, 10.0, 11.5, 15.0], dtype=torch.float64)
    clock = clock.expand(12, -1)
    shown = drawn.cells(clock).flatten(2).any(2)
    assert torch.equal(shown, torch.tensor([0, 0, 1, 1, 0, 0, 1, 1]).bool().expand(12, -1))
    frames = drawn.shoot(clock)
    assert frames.shape == (12, 8, 3, 144, 256)
    # What rests is back where it was, but for what flickers of it; what is away is not there.
    rests = drawn.scenes.attributes[:, MOTION] == ATTRIBUTES["motion"].index("rests")
    dry = drawn.scenes.attributes[:, GROUND] != ATTRIBUTES["ground"].index("water")
    below = frames[rests & dry][..., 90:, :].float()
    assert len(below)
    assert torch.equal(below[:, 0], below[:, 5])
    again, away = ((below[:, 3] - below[:, k]).abs().mean((1, 2, 3)) for k in (7, 5))
    assert (again < 0.1 * away).all()


def test_prompts_tell_all_but_what_it_is() -> None:
    away, here = _drawn(1).rows[0].tolist()
    away[:2] = here[:2] = [1, 2]
    here[MOTION] = ATTRIBUTES["motion"].index("bounces")
    told = ["flies away and back on the snow, at sunset", "bounces on the snow, at sunset"]
    assert nameless([away, away, here, away]) == [*told, told[0]]


def _films(films: int, frames: int, changes: list[list[float]]) -> departures.Films:
    """Films whose latents are their own numbers, in chunks of two from 0 on."""
    drawn = replace(_drawn(films), changes=torch.tensor(changes, dtype=torch.float64))
    numbers = torch.arange(frames).float().expand(films, 1, frames)[..., None, None]
    return departures.Films(numbers, numbers[:, 0] > 4, drawn)


def test_a_clip_of_a_whole_film_asks_for_what_comes_after_the_last_change() -> None:
    never = float("inf")
    changes = [[1.0, never, never], [1.5, 2.0, never], [1.0, 1.5, 3.0]]
    films = _films(3, 8, changes)
    clips = departures.cut(films, STREAMING, TEMPORAL, torch.Generator().manual_seed(0))
    # Four chunks of half a second: what comes with their end or later is not in them.
    assert torch.equal(clips.latents[:, 0, :, 0, 0], torch.arange(8).float().expand(3, -1))
    assert clips.border.tolist() == [2, 3, 3]
    assert clips.switch.all()
    assert (clips.style == NAMELESS).all()
    scenes = torch.cat((clips.past, clips.before[:, None], clips.after[:, None]), 1)
    for film, told in enumerate(([0, 0, 0, 0, 1], [0, 0, 0, 0, 1], [0, 0, 0, 1, 0])):
        assert torch.equal(scenes[film], films.departures.rows[film, told])


def test_a_clip_after_a_gap_never_asks_for_what_comes_right_after_it() -> None:
    never = float("inf")
    films = _films(400, 32, [[1.0, 4.0, never]] * 400)
    clips = departures.cut(films, STREAMING, TEMPORAL, torch.Generator().manual_seed(0))
    starts = (clips.latents[:, 0, 2, 0, 0] / 2).long()
    assert torch.equal(clips.latents[:, 0, :2, 0, 0], torch.arange(2).float().expand(400, -1))
    assert set(starts.tolist()) == set(range(1, 14))
    last = torch.where(starts + 3 > 8, 8, torch.where(starts + 3 > 2, 2, 0))
    inside = last - starts
    least = (starts > 1).long()
    assert torch.equal(clips.border, 1 + torch.maximum(inside, least))
    assert torch.equal(clips.switch, inside >= least)
    shows = clips.after[:, MOTION] != ATTRIBUTES["motion"].index(departures.GONE)
    assert torch.equal(shows, last == 2)


def test_a_model_is_tuned_for_a_longer_memory(
    built: Path, tmp_path: Path, run_stage: RunStage
) -> None:
    data = tmp_path / "data"
    given = ("--out", data, "--codec", built / "codec", "--config", TOY, "--device", "cpu")
    sizes = ("--window", 10, "--radial", 8, "--films", 2, "--openings", 3, "--batch", 2)
    arguments = [str(each) for each in (*given, *sizes, "--cuts", 2)]
    departures.build(departures.parser().parse_args(arguments))
    clips = Clips.load(data / "films.0.safetensors", "cpu")
    assert clips.latents.shape == (4, 8, 12, 9, 16)
    assert len(Clips.load(data / "openings.0.safetensors", "cpu")) == 3
    more = ("--data", data, "--config", data / "config.json", "--batch", 1)
    run_stage(built, "generator", tmp_path / "tuned", *map(str, more))
    _, described = load_denoiser(tmp_path / "tuned", torch.device("cpu"))
    streaming = streaming_config(described)
    assert (streaming.window, streaming.sink) == (10, 2)
    assert streaming.radial is not None
    assert (streaming.radial.block, streaming.radial.dense_layers) == (8, 0)


def test_a_memory_longer_than_a_film_is_refused(built: Path, tmp_path: Path) -> None:
    given = ("--out", tmp_path, "--codec", built / "codec", "--config", TOY, "--window", 64)
    options = departures.parser().parse_args([*map(str, given), "--device", "cpu"])
    with pytest.raises(ValueError, match="66 latent frames are more than films of 16 s have"):
        departures.build(options)


def test_films_are_encoded_from_their_first_frame_on(built: Path) -> None:
    coder = load_codec(built / "codec").to(memory_format=torch.channels_last)
    drawn = _drawn(2)
    films = departures.encode_films(coder, drawn, 2.0)
    clock = times(torch.zeros(2), 32)
    assert torch.equal(films.latents, encode(coder, drawn.shoot(clock)))
    assert torch.equal(films.thing[:, 4], drawn.cells(clock)[:, 16:20].any(1))
