"""Recorded forwards against those that run as they come.

Without a GPU a recording is a list of the operations and of the very tensors they ran on, as a CUDA
graph is one of kernels and addresses: a replay knows nothing of Python's variables.
"""

from __future__ import annotations

import logging

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from longtake.kernels import bind
from longtake.kernels.registry import OPERATIONS
from longtake.models.video.generator import VideoGenerator
from longtake.models.video.radial import RadialSettings
from longtake.models.video.recorded import RecordedForwards, describe, recorder_for
from longtake.streaming import Event

CPU = torch.device("cpu")


class Tape(TorchDispatchMode):
    """Takes down operations, their arguments and where their results are."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        assert "_local_scalar_dense" not in str(func), "a recording cannot read a number"
        out = func(*args, **kwargs)
        self.calls.append((func, args, kwargs, out))
        return out

    def play(self):
        for func, args, kwargs, out in self.calls:
            for was, now in zip(tree_leaves(out), tree_leaves(func(*args, **kwargs)), strict=True):
                if isinstance(was, torch.Tensor) and was.data_ptr() != now.data_ptr():
                    was.copy_(now)


class Recorder:
    """Stands in for CUDA graphs; counts."""

    def __init__(self):
        self.recorded, self.replayed = 0, 0

    def __call__(self, run):
        self.recorded += 1
        with Tape() as tape:
            out = run()
        if out is not None:
            out.fill_(torch.nan)  # a recording has computed nothing yet

        def replay():
            self.replayed += 1
            tape.play()

        return out, replay


@pytest.fixture
def make_film(make_generator, make_transformer, make_text_encoder, make_codec):
    """A generator whose kernels read no number back, with a recorder or none."""
    kernels = bind(CPU, torch.float32, dict.fromkeys(OPERATIONS, "reference"))

    def make(recorder=None, **changes):
        config = make_generator(**changes).config
        transformer = make_transformer(kernels)
        parts = (transformer, make_codec(), make_text_encoder(), config, kernels)
        generator = VideoGenerator(*parts, CPU, torch.float32)
        generator.recorder = lambda: recorder
        return generator

    return make


EVENTS = {
    6: ("prompt", "two"),
    8: ("steps", 3),
    9: ("window", 6),
    13: ("switch", "flush"),
    14: ("prompt", "three"),
    19: ("switch", "keep"),
    20: ("prompt", "four"),
}


def make_frames(generator, run_chunk, chunks, events=EVENTS, state=None, first=0):
    state = state or generator.open("one", 1)
    frames = []
    for index in range(first, chunks):
        if index in events:
            generator.apply(state, Event(*events[index]))
        frames.append(run_chunk(generator, state))
    return frames


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"positions": "absolute"},
        {"recache": "causal"},
        {"radial": RadialSettings(block=2, dense_layers=1, dense_steps=1)},
    ],
    ids=str,
)
def test_a_recorded_film_has_the_bytes_of_a_plain_one(changes, make_film, run_chunk):
    recorder = Recorder()
    plain = make_frames(make_film(**changes), run_chunk, 22)
    recorded = make_frames(make_film(recorder, **changes), run_chunk, 22)
    assert all(map(torch.equal, plain, recorded))
    assert recorder.replayed > 20


def test_a_steady_film_is_recorded_once_and_then_replayed(make_film, run_chunk):
    recorder = Recorder()
    generator = make_film(recorder)
    make_frames(generator, run_chunk, 5, {})
    # Four chunks fill the cache; the fourth and fifth are the first that do, as it is full with
    # the chunk itself. The first call of each kind runs as it is.
    assert recorder.recorded == 2
    before = recorder.replayed
    state = generator.open("one", 1)
    make_frames(generator, run_chunk, 10, {7: ("prompt", "two"), 8: ("steps", 4)}, state)
    assert recorder.recorded == 4  # another film's memory is its own
    replayed = recorder.replayed - before
    # In a chunk as many as there are steps, and the clean pass; less the first of each kind.
    assert replayed == 5 * 3 + 2 * 5 - 2


def test_another_cache_is_recorded_anew(make_film, run_chunk):
    recorder = Recorder()
    make_frames(make_film(recorder), run_chunk, 12, {6: ("window", 6)})
    assert recorder.recorded == 4


def test_another_prompt_stays_in_the_memory_that_is_read(make_film, run_chunk):
    generator = make_film(Recorder())
    state = generator.open("one", 1)
    before = [tensor.data_ptr() for pair in state.text for tensor in pair]
    generator.apply(state, Event("prompt", "two"))
    assert [tensor.data_ptr() for pair in state.text for tensor in pair] == before
    two = generator.open("two", 1).text
    assert all(map(torch.equal, tree_leaves(state.text), tree_leaves(two)))


def test_text_in_other_memory_is_recorded_anew(make_film, run_chunk):
    """As a restored film's is; here it is moved by hand."""
    recorder = Recorder()
    generator = make_film(recorder)
    state = generator.open("one", 1)
    make_frames(generator, run_chunk, 6, {}, state)
    state.text = [(k.clone(), v.clone()) for k, v in state.text]
    expected = make_frames(make_film(), run_chunk, 9, {})[6:]
    made = make_frames(generator, run_chunk, 9, {}, state, first=6)
    assert all(map(torch.equal, made, expected))
    assert recorder.recorded == 4


def test_what_cannot_be_recorded_runs_as_it_is_and_says_so(make_film, run_chunk, caplog):
    asked = []

    def refuse(run):
        asked.append(run)
        raise RuntimeError("operation not permitted when stream is capturing\nand more")

    with caplog.at_level(logging.WARNING):
        made = make_frames(make_film(refuse), run_chunk, 8, {})
    assert all(map(torch.equal, made, make_frames(make_film(), run_chunk, 8, {})))
    assert len(asked) == 1
    assert "cannot be recorded (operation not permitted" in caplog.text


def test_a_failed_replay_leaves_the_film_at_its_last_boundary(make_film, run_chunk):
    recorder = Recorder()
    generator = make_film(recorder)
    state = generator.open("one", 1)
    made = make_frames(generator, run_chunk, 6, {}, state)
    real, recorder_replay = state.forwards._recorded["remember"], []

    def fail():
        recorder_replay.append(1)
        raise MemoryError("the card is full")

    state.forwards._recorded["remember"] = (*real[:2], fail)
    with pytest.raises(Exception, match="ran out"):
        run_chunk(generator, state)
    state.forwards._recorded["remember"] = real
    made += make_frames(generator, run_chunk, 8, {}, state, first=6)
    assert recorder_replay
    assert all(map(torch.equal, made, make_frames(make_film(), run_chunk, 8, {})))


def test_on_a_cpu_nothing_is_recorded_and_it_is_said_why():
    assert recorder_for(CPU) is None
    assert describe(None) == "one kernel after the other: CUDA graphs need an NVIDIA GPU"
    assert describe(Recorder()).startswith("CUDA graphs")
    plain = RecordedForwards(None)
    assert plain("flow", lambda *given: given, 1, 2, 3, 4) == (1, 2)
