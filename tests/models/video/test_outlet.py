"""Frames that arrive while the next work goes on: later, and the same."""

from __future__ import annotations

import pytest
import torch

from longtake.models.video.transfer import Outlet, Sent
from longtake.streaming import Event, StreamError

CPU = torch.device("cpu")
EVENTS = {2: ("prompt", "two"), 4: ("steps", 3), 5: ("window", 6), 6: ("switch", "flush")}


class Beside(Outlet):
    """As on a GPU: every chunk's frames are waited for when its last forward has been started."""

    runs_beside = True


@pytest.fixture
def make_late(make_generator):
    """A generator with that outlet."""

    def make(**changes):
        generator = make_generator(**changes)
        generator.outlet = Beside(CPU)
        return generator

    return make


def make_frames(generator, run_chunk, chunks=9, state=None, first=0):
    state = state or generator.open("one", 1)
    frames = []
    for index in range(first, chunks):
        if index in EVENTS:
            generator.apply(state, Event(*EVENTS[index]))
        frames.append(run_chunk(generator, state))
    return frames


def test_a_film_whose_frames_come_later_has_the_same(make_late, make_generator, run_chunk):
    late, plain = make_frames(make_late(), run_chunk), make_frames(make_generator(), run_chunk)
    assert all(map(torch.equal, late, plain))


def test_frames_are_waited_for_behind_the_last_forward(make_late, wrap_forwards, monkeypatch):
    generator = make_late()
    state = generator.open("one", 1)
    order = []
    wrap_forwards(monkeypatch, lambda real, *given: order.append("forward") or real(*given))
    media = Sent.media
    monkeypatch.setattr(Sent, "media", lambda sent: order.append("wait") or media(sent))
    while not generator.step(state).boundary:
        pass
    assert order == ["forward"] * 3 + ["wait"] * 3


def test_noise_drawn_ahead_is_not_saved_and_not_missed(make_late, run_chunk):
    expected = make_frames(make_late(), run_chunk)
    generator = make_late()
    state = generator.open("one", 1)
    made = make_frames(generator, run_chunk, 3, state)
    assert state.noise is not None
    restored = generator.load(*generator.save(state))
    assert restored.noise is None
    made += make_frames(generator, run_chunk, 9, restored, first=3)
    assert all(map(torch.equal, made, expected))


def test_where_frames_do_not_arrive_the_film_is_at_its_last_boundary(
    make_late, run_chunk, monkeypatch
):
    expected = make_frames(make_late(), run_chunk)
    generator = make_late()
    state = generator.open("one", 1)
    made = make_frames(generator, run_chunk, 3, state)

    def fail(sent):
        raise torch.OutOfMemoryError("the card is full")

    with monkeypatch.context() as patch:
        patch.setattr(Sent, "media", fail)
        with pytest.raises(StreamError, match="ran out"):
            run_chunk(generator, state)
    made += make_frames(generator, run_chunk, 9, state, first=3)
    assert all(map(torch.equal, made, expected))


def test_on_a_cpu_frames_are_there_when_they_are_sent():
    outlet = Outlet(CPU)
    assert not outlet.runs_beside
    with outlet.decoding():
        sent = outlet.send(torch.tensor([0.0, 0.5, 1.0]).view(1, 1, 3, 1, 1))
    ((frames, units),) = sent.media()
    assert (frames.flatten().tolist(), units) == ([0, 128, 255], 1)
    assert outlet.send(torch.empty(1, 0, 3, 2, 2)).media() == ()
