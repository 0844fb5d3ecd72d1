"""The cache on its own: what is kept, where it stands, and in which dtype."""

from __future__ import annotations

import pytest
import torch

from longtake.models.vlm.cache import StreamingCache
from longtake.models.vlm.positions import text_positions
from longtake.models.vlm.rotation import Rotation

CPU = torch.device("cpu")
FREQUENCIES = 10_000.0 ** (-torch.arange(0, 16, 2).double() / 16)


@pytest.fixture
def make_cache():
    def make(tokens, dtype=torch.float32, start=0.0):
        """A cache of one layer that holds random keys, and those."""
        cache = StreamingCache(1, 2, Rotation(FREQUENCIES, (2, 3, 3)), CPU, dtype)
        cache.reserve(tokens + 4)
        keys = torch.randn(1, 2, tokens, 16, generator=torch.Generator().manual_seed(0)).to(dtype)
        cache.place(text_positions(tokens, start))
        cache.update(keys, 2 * keys, 0)
        return cache, keys

    return make


def test_keys_turned_many_times_are_as_turned_once(make_cache):
    cache, keys = make_cache(6, torch.bfloat16)
    for shift in range(1, 1001):
        cache.compact(list(range(6)), text_positions(6, -3.0 * shift))
    moved = torch.full((6, 3), -3000.0, dtype=torch.float64)
    once = Rotation(FREQUENCIES, (2, 3, 3)).turn(moved, CPU)(keys)
    assert torch.equal(cache.layers[0].keys[:, :, :6], once)


def test_what_keeps_its_place_keeps_its_bits(make_cache):
    cache, keys = make_cache(6)
    positions = text_positions(5)
    cache.compact([0, 1, 4, 3, 5], positions)
    layer = cache.layers[0]
    assert torch.equal(layer.keys[:, :, [0, 1, 3]], keys[:, :, [0, 1, 3]])
    assert torch.equal(layer.values[:, :, :5], 2 * keys[:, :, [0, 1, 4, 3, 5]])
    assert cache.length == cache.get_seq_length() == 5


def test_axes_turn_their_own_pairs():
    keys = torch.ones(1, 16)
    for axis, pairs in enumerate(((0, 1), (2, 3, 4), (5, 6, 7))):
        shift = torch.zeros(1, 3, dtype=torch.float64)
        shift[0, axis] = 5.0
        turned = Rotation(FREQUENCIES, (2, 3, 3)).turn(shift, CPU)(keys)
        changed = (turned != keys).nonzero()[:, 1].tolist()
        assert changed == sorted([*pairs, *(pair + 8 for pair in pairs)])


@pytest.mark.parametrize("sections", [(2, 3), (2, 3, 4), (8,)])
def test_sections_that_do_not_make_up_the_head_are_refused(sections):
    with pytest.raises(ValueError, match="does not make up 8 pairs"):
        Rotation(FREQUENCIES, sections)


def test_more_than_there_is_room_for_is_refused(make_cache):
    cache, keys = make_cache(6)
    with pytest.raises(ValueError, match="12 tokens do not fit in 10"):
        cache.update(keys, keys, 0)


def test_room_grows_with_what_is_held(make_cache):
    cache, keys = make_cache(6)
    cache.reserve(4)
    assert cache.get_max_length() == 10
    cache.reserve(40)
    assert torch.equal(cache.layers[0].keys[:, :, :6], keys)
    cache.compact([5], text_positions(1, 5.0))
    assert torch.equal(cache.layers[0].keys[:, :, :1], keys[:, :, 5:])


def test_tokens_aside_see_each_other_alone(make_cache):
    cache, keys = make_cache(6)
    cache.place(text_positions(2))
    with cache.aside():
        assert cache.get_mask_sizes(2, 0) == (2, 0)
        seen, _ = cache.update(keys[:, :, :2], keys[:, :, :2], 0)
    assert torch.equal(seen, keys[:, :, :2])
    assert cache.get_seq_length() == 8
