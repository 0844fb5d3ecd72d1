from __future__ import annotations

from itertools import groupby, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtake.app.sampling import Gap, Resized, Sample, Sampler


def frame(index, size=(2, 2)):
    return np.full((*size, 3), (*divmod(index, 256), 0), np.uint8)


def sample(times, fps=2.0, per_round=2, durations=None):
    """Everything a sampler makes of frames at times, numbered."""
    sampler = Sampler(fps, per_round)
    durations = durations or [0.0] * len(times)
    made = []
    for index, (time, duration) in enumerate(zip(times, durations, strict=True)):
        made += sampler.push(time, lambda index=index: frame(index), duration)
    return [*made, *sampler.finish()]


def shown(made):
    """Times and numbers of the samples."""
    found = [(each.time, each.pixels[0, 0].tolist()) for each in made if isinstance(each, Sample)]
    return [(time, 256 * high + low) for time, (high, low, _) in found]


@pytest.mark.parametrize("rate", [7, 24000 / 1001, 25, 30000 / 1001, 60])
def test_the_frames_of_a_second_are_different_ones_at_their_own_times_at_any_rate(rate):
    times = [index / rate for index in range(int(10 * rate))]
    samples = shown(sample(times))
    assert len(samples) == 20
    assert len({number for _, number in samples}) == 20
    for slot, (time, number) in enumerate(samples):
        assert time == times[number]
        assert slot / 2 <= time < (slot + 1) / 2


def test_eight_frames_a_second_in_rounds_of_half_a_second():
    samples = shown(sample([index / 25 for index in range(25)], fps=8, per_round=4))
    assert [number for _, number in samples] == [0, 4, 7, 10, 13, 16, 19, 22]


def test_where_there_are_too_few_frames_the_one_on_show_is_shown_again():
    assert shown(sample([0.0, 1.7, 2.0])) == [
        *((0.0, 0), (0.5, 0), (1.0, 0)),
        *((1.7, 1), (2.0, 2), (2.5, 2)),
    ]


def test_a_video_that_begins_within_a_round_shows_its_first_frame_from_the_rounds_start():
    assert shown(sample([0.7, 1.0, 1.5])) == [(0.0, 0), (0.7, 0), (1.0, 1), (1.5, 2)]


def test_a_gap_leaves_whole_rounds_out_and_is_told_of():
    made = sample([0.0, 0.5, 1.0, 7.6, 8.0, 8.5])
    assert shown(made) == [
        *((0.0, 0), (0.5, 1), (1.0, 2), (1.5, 2)),
        *((7.0, 3), (7.6, 3), (8.0, 4), (8.5, 5)),
    ]
    assert [each for each in made if isinstance(each, Gap)] == [Gap(1.0, 7.6)]


def test_a_frame_known_to_be_shown_for_long_makes_no_gap():
    made = sample([0.0, 4.0], durations=[4.0, 2.0])
    assert [number for _, number in shown(made)] == [0] * 8 + [1] * 4
    assert not any(isinstance(each, Gap) for each in made)


def test_the_last_round_is_whole():
    assert shown(sample([0.0, 0.5, 1.0])) == [(0.0, 0), (0.5, 1), (1.0, 2), (1.5, 2)]


def test_nothing_makes_nothing():
    assert sample([]) == []


def test_times_that_jump_back_go_on_behind_what_there_was():
    first = [index / 4 for index in range(400, 408)]
    samples = shown(sample([*first, *(index / 4 for index in range(8))]))
    times = [time for time, _ in samples]
    assert times == sorted(times)
    assert times[0] == 100.0
    assert samples[-1][1] > 8
    assert 103 <= times[-1] <= 104


def test_a_frame_out_of_order_is_left_out():
    assert shown(sample([0.0, 0.5, 0.3, 1.0, 1.5])) == [(0.0, 0), (0.5, 1), (1.0, 3), (1.5, 4)]


def test_another_size_is_told_of_before_the_frame_that_has_it():
    sampler = Sampler(2, 2)
    made = [*sampler.push(0.0, lambda: frame(0)), *sampler.push(0.5, lambda: frame(1, (4, 6)))]
    assert made[1] == Resized(0.5, width=6, height=4)
    assert made[2].pixels.shape == (4, 6, 3)


def test_frames_that_are_not_looked_at_are_not_even_made():
    read = []
    sampler = Sampler(2, 2)
    for index in range(60):
        list(sampler.push(index / 30, lambda index=index: read.append(index) or frame(index)))
    assert read == [0, 15, 30, 45]


@given(
    # In 64ths of a second, whose sums are exact: none is next to a slot's border by rounding alone.
    st.lists(st.tuples(st.integers(-192, 576), st.integers(0, 320)), max_size=40),
    st.sampled_from([(2.0, 2), (8.0, 4), (2.0, 4), (0.5, 1), (3.0, 3)]),
)
def test_whatever_the_times_rounds_are_whole_and_in_order(steps, form):
    fps, per_round = form
    time, times = 0.0, []
    for step, _ in steps:
        time = max(0.0, time + step / 64)
        times.append(time)
    samples = shown(sample(times, fps, per_round, [duration / 64 for _, duration in steps]))
    moments = [moment for moment, _ in samples]
    assert all(before < after for before, after in pairwise(moments))
    rounds = [int(moment * fps + 1e-6) // per_round for moment in moments]
    assert all(len(list(group)) == per_round for _, group in groupby(rounds))
