"""The radial map against the rule for tokens spelt out, and how it grows with memory."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from longtake.models.video.radial import RadialSettings, radial_map

CHUNK, SINK = 3, 3


def sees(query, key, sinks, chunk, frame_tokens, settings):
    """Whether a token (its frame, its place) sees another: the formula, one pair at a time."""
    (i, k), (j, l) = query, key  # noqa: E741
    distance = abs(i - j)
    if j in sinks or i // chunk == j // chunk or distance <= 1:
        return True
    bits = [len(f"{number:b}") for number in (frame_tokens, distance)]
    width = 2 ** bits[0] / 2 ** bits[1]
    if width < settings.block and distance % -(-settings.block // width) != 0:
        return False
    return abs(k - l) <= max(settings.block, settings.decay * width)


def steady(frames, newest=3000):
    """Sinks and a window that has slid far, the newest chunk in its last slots."""
    return [*range(SINK), *range(newest + CHUNK - frames + SINK, newest + CHUNK)]


def rows(blocks):
    """The keys that each block of queries sees."""
    return [
        set(keys[:count]) for keys, count in zip(blocks.keys.tolist(), blocks.counts, strict=True)
    ]


@given(
    frame_tokens=st.integers(1, 20),
    block=st.integers(1, 8),
    decay=st.sampled_from([0.2, 1.0, 2.5]),
    chunk=st.integers(1, 3),
    sink=st.integers(0, 2),
    back=st.integers(2, 40),
    order=st.randoms(use_true_random=False),
)
def test_a_block_is_seen_if_any_of_its_tokens_is(
    frame_tokens, block, decay, chunk, sink, back, order
):
    settings = RadialSettings(block, decay)
    newest = 60 // chunk * chunk
    held = [*range(sink), *sorted(order.sample(range(newest - back, newest), 2))]
    queries = list(range(newest, newest + chunk))
    slots = [*held, *queries, None]
    order.shuffle(slots)
    blocks = radial_map(queries, slots, range(sink), chunk, frame_tokens, settings)
    in_frame = -(-frame_tokens // block)
    for row, seen in enumerate(rows(blocks)):
        asking = [
            (queries[row // in_frame], place)
            for place in range(frame_tokens)
            if place // block == row % in_frame
        ]
        expected = {
            slot * in_frame + place // block
            for slot, frame in enumerate(slots)
            for place in range(frame_tokens)
            if frame is not None
            and any(
                sees(query, (frame, place), range(sink), chunk, frame_tokens, settings)
                for query in asking
            )
        }
        assert seen == expected


def test_what_is_seen_comes_once_and_in_the_order_of_the_slots():
    blocks = radial_map([9, 10, 11], steady(9, 9), range(3), 3, 50, RadialSettings(8))
    for keys, count in zip(blocks.keys.tolist(), blocks.counts, strict=True):
        assert all(before < after for before, after in pairwise(keys[:count]))
    assert blocks.keys.dtype == blocks.counts.dtype == torch.int32
    assert blocks.keys.shape == (3 * 7, 9 * 7)


def test_a_map_has_one_shape_whatever_is_held():
    full = radial_map([0, 1, 2], [0, 1, 2, None, None], (), 3, 50, RadialSettings(8))
    assert full.keys.shape == (3 * 7, 5 * 7)
    assert rows(full) == [set(range(21))] * 21


def count(frames, block=128):
    """Blocks seen by a block of queries on average, at Wan's size."""
    slots = steady(frames)
    blocks = radial_map(slots[-CHUNK:], slots, range(SINK), CHUNK, 1560, RadialSettings(block))
    return blocks.counts.float().mean().item()


@pytest.mark.parametrize("block", [64, 128])
def test_memory_costs_the_logarithm_of_its_length(block):
    """Every doubling adds about the same: 14 times the memory takes less than twice as much."""
    seen = [count(frames, block) for frames in (12, 42, 84, 168)]
    all_blocks = -(-1560 // block)
    assert seen[-1] < 2 * seen[0]
    assert seen[0] / (12 * all_blocks) == pytest.approx(0.72, abs=0.02)
    assert seen[-1] / (168 * all_blocks) < 0.1
    doublings = [after - before for before, after in pairwise(seen[1:])]
    assert doublings[1] == pytest.approx(doublings[0], rel=0.1)
    assert doublings[1] < 0.05 * 84 * all_blocks


@pytest.mark.parametrize(
    ("frames", "density"), [(12, 0.701), (21, 0.468), (42, 0.269), (84, 0.150), (168, 0.083)]
)
def test_the_share_of_tokens_seen_is_that_of_the_formula(frames, density):
    """Counted frame by frame from how far each is seen, whatever the blocks."""
    settings, slots, s = RadialSettings(128), steady(frames), 1560
    pairs = 0
    for query in slots[-CHUNK:]:
        for key in slots:
            whole = key in range(SINK) or key >= slots[-CHUNK]
            reach = s - 1 if whole else settings.reach(query - key, s)
            if reach is not None:
                pairs += s * (2 * reach + 1) - reach * (reach + 1)
    assert pairs / (CHUNK * frames * s**2) == pytest.approx(density, abs=0.002)


def test_a_larger_decay_sees_more():
    def total(decay):
        slots = steady(24)
        settings = RadialSettings(16, decay)
        return radial_map(slots[-3:], slots, range(3), 3, 300, settings).counts.sum()

    assert total(0.2) < total(1.0) < total(2.0)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"block": 0}, "block is 0"),
        ({"decay": 0.0}, "decay is 0.0"),
        ({"decay": float("nan")}, "decay is nan"),
        ({"dense_layers": -1}, "dense_layers -1"),
        ({"dense_steps": -1}, "dense_steps -1"),
    ],
)
def test_impossible_settings_are_refused(change, named):
    with pytest.raises(ValueError, match=named):
        RadialSettings(**change)
