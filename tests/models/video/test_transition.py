"""A prompt that takes over from the one before, chunk by chunk."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from longtake.streaming import Event, StreamError


def prompt(text, chunks=0):
    return Event("prompt", text, transition=chunks)


# Chunk -> the prompt that is applied before it: one overtaken on its way, one ended by itself.
EVENTS = {2: prompt("two", 3), 3: prompt("three", 4), 8: prompt("one", 5), 10: prompt("one")}


@pytest.fixture
def make(make_generator, run_chunk):
    """Makes chunks, gives their frames: `make(events, chunks, switch)`."""

    def run(events, chunks=12, switch="recache"):
        generator = make_generator()
        state = generator.open("one", 1)
        generator.apply(state, Event("switch", switch))
        frames = []
        for chunk in range(chunks):
            if chunk in events:
                generator.apply(state, events[chunk])
            frames.append(run_chunk(generator, state))
        return frames

    return run


def test_embeddings_are_on_a_straight_line_and_end_as_the_new_prompts(make_generator, run_chunk):
    generator = make_generator()
    one, two, three = (generator.text_encoder([text]) for text in ("one", "two", "three"))
    state = generator.open("one", 1)
    seen = {}
    for chunk in range(12):
        if chunk in EVENTS:
            generator.apply(state, EVENTS[chunk])
        run_chunk(generator, state)
        seen[chunk] = state.embeddings
        expected = generator.transformer.encode_text(state.embeddings)
        for ours, theirs in zip(state.text, expected, strict=True):
            assert all(map(torch.equal, ours, theirs))
    third = one + (two - one) / 3
    torch.testing.assert_close(seen[2], third)
    torch.testing.assert_close(seen[3], third + (three - third) / 4)
    torch.testing.assert_close(seen[5], third + (three - third) * 3 / 4)
    torch.testing.assert_close(seen[9], three + (one - three) * 2 / 5)
    for chunk, exact in {1: one, 6: three, 7: three, 10: one, 11: one}.items():
        assert torch.equal(seen[chunk], exact)


@pytest.mark.parametrize("switch", ["recache", "keep", "flush"])
def test_over_one_chunk_it_is_a_switch(switch, make):
    plain, short = (make({3: prompt("two", chunks)}, 6, switch) for chunks in (0, 1))
    assert all(map(torch.equal, plain, short))


def test_before_the_first_chunk_there_is_nothing_to_take_over_from(make):
    plain, smooth = (make({0: prompt("two", chunks)}, 3) for chunks in (0, 4))
    assert all(map(torch.equal, plain, smooth))


def test_the_same_events_make_the_same_bytes_and_others_do_not(make):
    film = make(EVENTS)
    assert all(map(torch.equal, film, make(EVENTS)))
    sudden = make(EVENTS | {2: prompt("two")})
    assert all(map(torch.equal, film[:2], sudden[:2]))
    assert not any(map(torch.equal, film[2:], sudden[2:]))


@pytest.mark.parametrize(
    ("switch", "forwards"),
    [("recache", [3, 4, 4, 4, 3]), ("keep", [3, 3, 3, 3, 3]), ("flush", [3, 3, 3, 3, 3])],
)
def test_what_is_remembered_follows_at_every_chunk_where_it_is_run_again(
    switch, forwards, make_generator, run_chunk, wrap_forwards, monkeypatch
):
    """Two denoising forwards a chunk and one that remembers it; the recache is one more."""
    generator = make_generator()
    state = generator.open("one", 1)
    generator.apply(state, Event("switch", switch))
    for _ in range(3):
        run_chunk(generator, state)
    calls, origins = [], []
    wrap_forwards(monkeypatch, lambda real, *args: calls.append(1) or real(*args))
    counts = []
    for chunk in range(5):
        if chunk == 1:
            generator.apply(state, prompt("two", 3))
        calls.clear()
        run_chunk(generator, state)
        counts.append(len(calls))
        origins.append(state.origin)
    assert counts == forwards
    # It is forgotten once, when the transition begins.
    cut = 12 if switch == "flush" else 0
    assert origins == [0, cut, cut, cut, cut]


def test_a_film_saved_on_the_way_continues_with_the_same_bytes(
    make, make_generator, run_chunk, tmp_path
):
    expected = make(EVENTS)
    generator = make_generator()
    state = generator.open("one", 1)

    def reload():
        tensors, values = generator.save(state)
        save_file(tensors, tmp_path / "film.safetensors")
        values = json.loads(json.dumps(values, allow_nan=False))
        other = make_generator()
        return other, other.load(load_file(tmp_path / "film.safetensors"), values)

    for chunk in range(12):
        other, copy = reload()
        if event := EVENTS.get(chunk):
            other.apply(copy, event)
            generator.apply(state, event)
            again, late = reload()
            assert torch.equal(run_chunk(again, late), expected[chunk])
        assert torch.equal(run_chunk(other, copy), expected[chunk])
        assert torch.equal(run_chunk(generator, state), expected[chunk])


@pytest.mark.parametrize("failing", [1, 2, 3, 4])
def test_a_forward_that_fails_on_the_way_is_done_again(
    failing, make, make_generator, run_chunk, wrap_forwards, monkeypatch
):
    expected = make(EVENTS, chunks=6)
    generator = make_generator()
    state = generator.open("one", 1)
    calls = []

    def forward(real, *args):
        calls.append(1)
        if len(calls) == failing:
            raise MemoryError("the card is full")
        return real(*args)

    for chunk in range(6):
        if chunk in EVENTS:
            generator.apply(state, EVENTS[chunk])
        if chunk in {4, 5}:  # on the way, and at its end
            calls.clear()
            with monkeypatch.context() as patch:
                wrap_forwards(patch, forward)
                with pytest.raises(StreamError, match="ran out"):
                    run_chunk(generator, state)
        assert torch.equal(run_chunk(generator, state), expected[chunk])


@pytest.mark.parametrize(
    "event",
    [
        prompt("two", -1),
        prompt("two", 65),
        prompt("two", 1.5),
        prompt("two", True),
        Event("steps", 2, transition=1),
        Event("switch", "keep", transition=1),
    ],
    ids=str,
)
def test_what_cannot_be_a_transition_is_refused(event, make_generator):
    with pytest.raises(StreamError) as caught:
        make_generator().check(event)
    assert caught.value.code == "bad_setting"
    assert "transition" in str(caught.value)
