"""What a new prompt, window or sink does to the cache, against naive forwards."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from longtake.models.video.kv_cache import CacheSettings
from longtake.streaming import Event

CLOSE = {"rtol": 1e-4, "atol": 5e-5}
SINKS = ["kept", "shifted", "rewritten"]


class Take:
    """A film in the making and its naive twin, kept in step with it."""

    def __init__(self, generator, run_chunk, naive, settings):
        self.generator, self._run_chunk = generator, run_chunk
        self.state = generator.open("one", seed=5)
        self.naive = naive.NaiveFilm(generator.transformer, settings)
        self.latents = {}

    def run(self, chunks):
        """Make chunks; the twin runs each one's clean latents under the prompt in force."""
        for _ in range(chunks):
            frames = range(self.state.frame, self.state.frame + self.generator.config.chunk)
            self._run_chunk(self.generator, self.state)
            self.latents |= {frame: self.state.history[frame] for frame in frames}
            self.twin(frames)

    def twin(self, frames, groups=None):
        """Run frames again in the twin."""
        if frames:
            latents = torch.cat([self.latents[frame] for frame in frames], 2)
            self.naive.forward(latents, frames, 0, self.state.text, commit=True, groups=groups)

    def apply(self, **changes):
        """Events at a chunk boundary."""
        for field, value in changes.items():
            self.generator.check(Event(field, value))
            self.generator.apply(self.state, Event(field, value))

    def probe(self):
        """What the next chunk would look like, from the cache and from the twin."""
        state, chunk = self.state, self.generator.config.chunk
        latents = torch.randn(1, 4, chunk, 4, 6, generator=torch.Generator().manual_seed(3))
        frames = range(state.frame, state.frame + chunk)
        state.cache.stage(frames)
        times = torch.full((1, chunk), 500.0)
        cached = self.generator.transformer(latents, times, state.text, state.cache)
        state.cache.roll_back()
        return cached, self.naive.forward(latents, frames, 500, state.text)

    def check(self):
        """The cache holds what the twin picks."""
        torch.testing.assert_close(*self.probe(), **CLOSE)


@pytest.fixture
def make_take(make_generator, run_chunk, naive):
    def make(**config):
        generator = make_generator(steps=1, **config)
        config = generator.config
        settings = CacheSettings(config.sink, config.window, config.chunk, config.positions)
        return Take(generator, run_chunk, naive, settings)

    return make


def run_again_by_hand(take, case):
    """Recache the twin as the case says; gives the groups of frames the model should run."""
    config, film = take.generator.config, list(range(take.state.frame))
    sink, window = config.sink, config.window
    kept = []
    if len(film) <= sink + window:
        again = film
    elif case == "kept":
        kept, again = film[:sink], film[len(film) - window :]
    elif case == "shifted":
        again = film[len(film) - sink - window :]
    else:
        again = film[:sink] + film[len(film) - window :]
    take.naive.forget(but=kept)
    if config.recache == "full":
        take.twin(again)
        return [again]
    numbers = [frame // config.chunk for frame in again]
    take.twin(again, groups=numbers)
    return [[f for f in again if f // config.chunk == number] for number in sorted(set(numbers))]


@pytest.mark.parametrize("positions", ["relative", "absolute"])
@pytest.mark.parametrize("recache", ["full", "causal"])
@pytest.mark.parametrize("sinks", SINKS)
@pytest.mark.parametrize(
    ("chunk", "sink", "window", "before"),
    [
        pytest.param(3, 3, 9, 8, id="film longer than the cache"),
        pytest.param(3, 3, 9, 5, id="film one chunk longer than the cache"),
        pytest.param(3, 3, 9, 4, id="film as long as the cache"),
        pytest.param(3, 3, 9, 2, id="film shorter than the cache"),
        pytest.param(3, 2, 7, 6, id="sink and window no multiples of a chunk"),
        pytest.param(2, 3, 5, 7, id="chunks of two"),
        pytest.param(1, 0, 4, 7, id="chunks of one, no sink"),
    ],
)
def test_recache_equals_one_plain_forward_under_the_new_prompt(
    sinks, recache, positions, chunk, sink, window, before, make_take
):
    take = make_take(
        sinks=sinks, recache=recache, positions=positions, chunk=chunk, sink=sink, window=window
    )
    take.run(before)
    take.check()
    old = take.probe()[0]
    for prompt in ("two", "three"):
        take.apply(prompt=prompt)
        groups = run_again_by_hand(take, sinks)
        for _ in groups:  # one forward a step
            step = take.generator.step(take.state)
            assert not step.media
            assert not step.boundary
        take.check()
        assert (take.probe()[0] - old).abs().max() > 0.01
        take.run(3)
        take.check()


@pytest.mark.parametrize("sinks", SINKS)
def test_sink_cases_differ_once_the_film_is_longer_than_the_cache(sinks, make_take):
    """Or else the test above could not tell them apart."""
    takes = [make_take(sinks=case) for case in (sinks, SINKS[SINKS.index(sinks) - 1])]
    outputs = []
    for take in takes:
        take.run(7)
        take.apply(prompt="two")
        take.generator.step(take.state)
        outputs.append(take.probe()[0])
    assert (outputs[0] - outputs[1]).abs().max() > 0.005


def test_full_and_causal_recache_differ(make_take):
    outputs = []
    for recache in ("full", "causal"):
        take = make_take(recache=recache)
        take.run(4)
        take.apply(prompt="two")
        for _ in range(1 if recache == "full" else 4):
            take.generator.step(take.state)
        outputs.append(take.probe()[0])
    assert (outputs[0] - outputs[1]).abs().max() > 0.005


def test_kept_sinks_hold_the_old_prompts_values_bit_for_bit(make_take):
    take = make_take()
    take.run(7)
    before, numbers = take.state.cache.save()
    slots = [numbers["table"].index(frame) for frame in range(3)]
    values = before["values"][:, :, slots].clone()
    raw = before["raw_sinks"].clone()
    take.apply(prompt="two")
    take.run(2)
    after, numbers = take.state.cache.save()
    assert [numbers["table"].index(frame) for frame in range(3)] == slots
    assert torch.equal(after["values"][:, :, slots], values)
    assert torch.equal(after["raw_sinks"], raw)


def test_switch_before_the_first_chunk_equals_opening_with_that_prompt(make_take, run_chunk):
    for switch in ("recache", "keep", "flush"):
        take, plain = make_take(), make_take()
        take.apply(switch=switch, prompt="two")
        plain.state = plain.generator.open("two", seed=5)
        for _ in range(2):
            frames = [run_chunk(each.generator, each.state) for each in (take, plain)]
            assert torch.equal(*frames)


def test_keep_changes_only_the_text(make_take):
    take = make_take()
    take.run(6)
    old = take.probe()[0]
    tensors, numbers = take.generator.save(take.state)
    take.apply(switch="keep", prompt="two")
    after, numbers_after = take.generator.save(take.state)
    assert all(torch.equal(after[name], tensor) for name, tensor in tensors.items())
    changed = {name for name, value in numbers.items() if numbers_after[name] != value}
    assert changed == {"prompts", "settings"}
    assert (take.probe()[0] - old).abs().max() > 0.01
    take.check()
    take.run(4)
    take.check()


def test_flush_forgets_all(make_take):
    take = make_take()
    take.run(6)
    take.apply(switch="flush", prompt="two")
    take.naive.forget()
    take.run(1)
    assert take.state.cache.frames == [18, 19, 20]
    assert list(take.state.history) == [18, 19, 20]
    take.check()
    take.run(5)
    take.check()
    assert take.state.cache.frames[:3] == [18, 19, 20]


@pytest.mark.parametrize("sinks", SINKS)
@pytest.mark.parametrize("after", [2, 4, 6])
def test_recache_after_a_flush_counts_the_film_from_there(sinks, after, make_take):
    take = make_take(sinks=sinks)
    take.run(6)
    take.apply(switch="flush", prompt="two")
    take.naive.forget()
    take.run(after)
    take.apply(switch="recache", prompt="three")
    film = list(range(18, take.state.frame))
    kept, again = [], film
    if len(film) > 12:
        parts = {"kept": (film[:3], film[-9:]), "shifted": ([], film[-12:])}
        kept, again = parts.get(sinks, ([], film[:3] + film[-9:]))
    take.naive.forget(but=kept)
    take.twin(again)
    take.run(2)
    take.check()


@pytest.mark.parametrize(
    ("changes", "again"),
    [
        pytest.param({"window": 6}, [0, 1, 2, *range(18, 24)], id="smaller window"),
        pytest.param({"window": 20}, [0, 1, 2, *range(12, 24)], id="larger window"),
        pytest.param({"sink": 1}, [0, *range(15, 24)], id="smaller sink"),
        pytest.param({"sink": 0}, [*range(15, 24)], id="no sink"),
        pytest.param({"sink": 5}, [0, 1, 2, 12, 13, *range(15, 24)], id="larger sink"),
        pytest.param({"sink": 1, "window": 20}, [0, *range(12, 24)], id="both"),
        pytest.param({"sink": 2, "window": 4}, [0, 1, *range(20, 24)], id="both smaller"),
    ],
)
@pytest.mark.parametrize("recache", ["full", "causal"])
def test_resize_runs_what_is_at_hand_again(recache, changes, again, make_take):
    """At hand are the first three and the last twelve of 24 frames; a gap is no frame to keep."""
    take = make_take(recache=recache)
    take.run(8)
    take.apply(**changes)
    take.naive.settings = replace(take.naive.settings, **changes)
    take.naive.forget()
    take.twin(again, groups=[frame // 3 for frame in again] if recache == "causal" else None)
    take.run(1)
    take.check()
    take.run(6)
    take.check()


@pytest.mark.parametrize("sinks", SINKS)
def test_recache_soon_after_a_larger_window_skips_the_gap(sinks, make_take):
    """The sinks are in the history beside a window that is not full yet."""
    take = make_take(sinks=sinks)
    take.run(8)
    take.apply(window=20)
    take.naive.settings = replace(take.naive.settings, window=20)
    take.naive.forget()
    take.twin([0, 1, 2, *range(12, 24)])
    take.run(1)
    take.check()
    take.apply(prompt="two")
    run = list(range(12, 27))
    kept, again = {"kept": ([0, 1, 2], run), "shifted": ([], run)}.get(sinks, ([], [0, 1, 2, *run]))
    take.naive.forget(but=kept)
    take.twin(again)
    take.run(1)
    assert len(set(take.state.cache.frames)) == len(take.state.cache.frames)
    take.check()
    take.run(5)
    take.check()


def test_resize_and_new_prompt_at_once_run_the_latents_under_the_new_prompt(make_take):
    for changes in ({"window": 6, "prompt": "two"}, {"prompt": "two", "window": 6}):
        take = make_take()
        take.run(8)
        take.apply(**changes)
        take.naive.settings = replace(take.naive.settings, window=6)
        take.naive.forget()
        take.twin([0, 1, 2, *range(18, 24)])
        take.run(2)
        take.check()


def test_resize_and_flush_at_once_forget_all(make_take):
    for changes in (
        {"switch": "flush", "window": 6, "prompt": "two"},
        {"switch": "flush", "prompt": "two", "window": 6},
    ):
        take = make_take()
        take.run(8)
        take.apply(**changes)
        take.naive.settings = replace(take.naive.settings, window=6)
        take.naive.forget()
        take.run(1)
        assert take.state.cache.frames == [24, 25, 26]
        take.run(4)
        take.check()


@pytest.mark.parametrize("field", ["window", "sink", "steps", "prompt", "switch"])
def test_setting_a_field_to_what_it_is_changes_nothing(field, make_take, run_chunk):
    takes = [make_take() for _ in range(2)]
    for take in takes:
        take.run(6)
    state = takes[0].state
    value = "one" if field == "prompt" else getattr(state.settings, field)
    takes[0].apply(**{field: value})
    assert state.pending is None
    assert torch.equal(*(run_chunk(take.generator, take.state) for take in takes))


def test_history_holds_the_first_and_the_last_frames_only(make_take):
    take = make_take()
    for chunks in range(1, 9):
        take.run(1)
        film = list(range(3 * chunks))
        assert list(take.state.history) == film[:3] + film[3:][-12:]
