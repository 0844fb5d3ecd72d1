"""Pacing, on seconds that pass only when told to."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtake.streaming import VirtualClock, WallClock
from longtake.streaming.clock import MARGIN, SMOOTHING

CHUNK = 1.0


class Playback:
    """Makes chunks one after another as a clock paces them; remembers when they came."""

    def __init__(self, fake_time):
        self.time = fake_time
        self.clock = WallClock(fake_time)
        self.made = 0.0
        self.waits: list[float] = []
        self.done: list[float] = []
        # When each chunk was due as its making began, and as it was finished.
        self.due_before: list[float] = []
        self.due: list[float] = []

    def run(self, cost, chunks=1, length=CHUNK):
        for _ in range(chunks):
            self.waits.append(self.clock.wait_before(self.made))
            self.time.advance(self.waits[-1])
            self.due_before.append(self.clock.deadline(self.made))
            self.time.advance(cost)
            self.clock.chunk_done(self.made, self.made + length, cost)
            self.done.append(self.time.now)
            self.due.append(self.clock.deadline(self.made))
            self.made += length
        return self


@pytest.fixture
def playback(fake_time):
    return Playback(fake_time)


def differences(values):
    return [after - before for before, after in pairwise(values)]


def test_a_virtual_clock_never_waits_and_is_never_due():
    clock = VirtualClock()
    clock.chunk_done(0.0, 1.0, 5.0)
    assert clock.wait_before(100.0) == 0.0
    assert clock.deadline(0.0) == math.inf
    assert clock.speed == 1.0


def test_the_first_chunk_starts_at_once_and_is_due_when_it_is_made(playback, fake_time):
    playback.run(cost=0.7)
    assert playback.waits == [0.0]
    assert playback.due == playback.done


def test_chunks_start_just_in_time(playback):
    playback.run(cost=0.2, chunks=50)
    starts = [done - 0.2 for done in playback.done[1:]]
    leads = [due - start for due, start in zip(playback.due[1:], starts, strict=True)]
    assert leads == pytest.approx([0.2 * (1 + MARGIN)] * 49)
    assert differences(playback.due) == pytest.approx([CHUNK] * 49)
    assert playback.clock.speed == 1.0


def test_a_margin_covers_chunks_that_cost_a_little_more_than_usual(playback):
    playback.run(cost=0.4, chunks=20).run(cost=0.4 * (1 + MARGIN), chunks=1).run(cost=0.4)
    assert all(done <= due + 1e-9 for done, due in zip(playback.done, playback.due, strict=True))
    assert differences(playback.due) == pytest.approx([CHUNK] * 21)


def test_a_slow_machine_slows_playback_evenly(playback):
    playback.run(cost=2.0, chunks=50)
    assert playback.clock.speed == pytest.approx(0.5)
    assert differences(playback.due) == pytest.approx([2.0] * 49)
    assert set(playback.waits) == {0.0}


@given(costs=st.lists(st.floats(0.01, 5.0), min_size=1, max_size=60))
def test_no_chunk_is_due_before_it_is_made_and_a_late_one_delays_only_what_follows(costs):
    now = [0.0]
    clock = WallClock(lambda: now[0])
    due = []
    for chunk, cost in enumerate(costs):
        now[0] += clock.wait_before(chunk * CHUNK) + cost
        clock.chunk_done(chunk * CHUNK, (chunk + 1) * CHUNK, cost)
        due.append(clock.deadline(chunk * CHUNK))
        assert due[-1] >= now[0] - 1e-9
        assert 0 < clock.speed <= 1
        # However many were late before, the next is due a chunk's playback from here, no sooner.
        assert clock.deadline((chunk + 1) * CHUNK) - due[-1] >= CHUNK - 1e-9
    assert all(step >= CHUNK - 1e-9 for step in differences(due))


def test_lateness_does_not_accumulate(playback):
    playback.run(cost=0.2, chunks=10).run(cost=5.0)
    assert playback.done[-1] > playback.due_before[-1]
    playback.run(cost=0.2, chunks=40)
    late = [done - due for done, due in zip(playback.done, playback.due_before, strict=True)]
    assert max(late[11:]) <= 1e-9


def test_a_session_that_stood_still_is_not_hurried_afterwards(playback, fake_time):
    playback.run(cost=0.2, chunks=10)
    fake_time.advance(60.0)
    playback.run(cost=0.2, chunks=10)
    assert playback.waits[10] == 0.0
    assert differences(playback.due)[10:] == pytest.approx([CHUNK] * 9)
    assert playback.clock.speed == 1.0


def test_a_slow_start_gives_way_to_full_speed(playback):
    playback.run(cost=3.0, chunks=10)
    assert playback.clock.speed == pytest.approx(1 / 3)
    playback.run(cost=0.2, chunks=30)
    assert playback.clock.speed == 1.0
    assert differences(playback.due)[-10:] == pytest.approx([CHUNK] * 10)


@given(slow=st.floats(1.0, 5.0), quick=st.floats(0.05, 0.95), slow_chunks=st.integers(1, 10))
def test_a_machine_that_becomes_quick_enough_returns_to_exactly_full_speed(
    slow, quick, slow_chunks
):
    now = [0.0]
    clock = WallClock(lambda: now[0])
    for chunk, cost in enumerate([slow] * slow_chunks + [quick] * 60):
        now[0] += clock.wait_before(chunk * CHUNK) + cost
        clock.chunk_done(chunk * CHUNK, (chunk + 1) * CHUNK, cost)
    assert clock.speed == 1.0


def test_small_changes_of_speed_are_not_passed_on(playback):
    playback.run(cost=2.0, chunks=20)
    before = playback.clock.speed
    playback.run(cost=1.98)
    assert playback.clock.speed == before


def test_the_estimate_follows_the_cost_smoothly(playback):
    playback.run(cost=0.2, chunks=10).run(cost=0.4).run(cost=0.2)
    lead = (0.2 + SMOOTHING * 0.2) * (1 + MARGIN)
    assert playback.done[-1] - 0.2 == pytest.approx(playback.due[-1] - lead)


def test_a_chunk_that_makes_nothing_leaves_speed_and_pace_as_they_were(playback):
    playback.run(cost=0.2, length=0.0)
    playback.run(cost=0.2, chunks=5).run(cost=0.2, length=0.0).run(cost=0.2, chunks=5)
    assert playback.clock.speed == 1.0
    assert max(done - due for done, due in zip(playback.done, playback.due, strict=True)) <= 1e-9


def test_speed_is_what_the_machine_reaches_when_chunks_have_different_lengths(playback):
    for _ in range(20):
        playback.run(cost=0.5, length=0.5).run(cost=1.0, length=1.0)
    assert playback.clock.speed == 1.0
