"""The key-value cache against references that throw nothing away."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from longtake.models.video.kv_cache import CacheSettings
from longtake.models.video.radial import RadialSettings

CLOSE = {"rtol": 1e-4, "atol": 2e-5}
FAR = 100_000


@pytest.fixture(scope="module")
def transformer(cpu_kernels, make_transformer):
    return make_transformer(cpu_kernels)


@pytest.fixture(scope="module")
def text(transformer, make_text):
    return make_text(transformer)


def run(transformer, cache, latents, timestep, text):
    """One forward over the staged frames."""
    times = torch.full((1, latents.shape[2]), float(timestep))
    return transformer(latents, times, text, cache)


def add(transformer, cache, latents, frames, text):
    """Stage frames, run the clean pass, commit; gives the clean pass's output."""
    cache.stage(frames)
    out = run(transformer, cache, latents, 0, text)
    cache.commit()
    return out


@pytest.fixture
def filled(transformer, make_cache, make_latents, text):
    """Makes a cache that has taken some chunks, with frame numbers from ``start``."""

    def make(settings, chunks, start=0):
        cache = make_cache(transformer, settings)
        for index in range(chunks):
            first = start + index * settings.chunk
            frames = range(first, first + settings.chunk)
            add(transformer, cache, make_latents(settings.chunk, seed=index), frames, text)
        return cache

    return make


@pytest.mark.parametrize("chunk", [1, 2, 3])
@pytest.mark.parametrize("positions", ["relative", "absolute"])
def test_chunk_by_chunk_equals_one_block_causal_forward(
    chunk, positions, kernels, make_transformer, make_cache, make_latents, make_text, naive, tiny
):
    transformer = make_transformer(kernels)
    text, latents = make_text(transformer), make_latents(6)
    groups = [frame // chunk for frame in range(6)]
    cache = make_cache(transformer, CacheSettings(1, 6, chunk, positions))
    got = []
    for start in range(0, 6, chunk):
        part = latents[:, :, start : start + chunk]
        cache.stage(range(start, start + chunk))
        noisy = run(transformer, cache, part, 800, text)
        times = torch.zeros(1, start + chunk)
        times[:, start:] = 800
        plain = naive.PlainAttention(tiny.grid, range(start + chunk), groups[: start + chunk])
        expected = transformer(latents[:, :, : start + chunk], times, text, plain)
        torch.testing.assert_close(noisy, expected[:, :, start:], **CLOSE)
        got.append(run(transformer, cache, part, 0, text))
        cache.commit()
    plain = naive.PlainAttention(tiny.grid, range(6), groups)
    expected = transformer(latents, torch.zeros(1, 6), text, plain)
    torch.testing.assert_close(torch.cat(got, 2), expected, **CLOSE)
    unmasked = transformer(
        latents, torch.zeros(1, 6), text, naive.PlainAttention(tiny.grid, range(6))
    )
    assert (unmasked - expected)[:, :, :3].abs().max() > 0.01


@pytest.mark.parametrize("positions", ["relative", "absolute"])
@pytest.mark.parametrize("sink", [0, 1, 2, 3])
@pytest.mark.parametrize(("chunk", "window"), [(1, 1), (1, 4), (2, 4), (2, 5), (3, 3), (3, 7)])
def test_evicting_cache_equals_picking_from_every_frame_ever_made(
    chunk, window, sink, positions, transformer, text, make_cache, make_latents, naive
):
    settings = CacheSettings(sink, window, chunk, positions)
    cache, film = make_cache(transformer, settings), naive.NaiveFilm(transformer, settings)
    chunks = 8 + (sink + window) // chunk
    for index in range(chunks):
        latents = make_latents(chunk, seed=index)
        frames = range(index * chunk, (index + 1) * chunk)
        cache.stage(frames)
        for timestep in (800, 0):
            got = run(transformer, cache, latents, timestep, text)
            expected = film.forward(latents, frames, timestep, text, commit=timestep == 0)
            torch.testing.assert_close(got, expected, **CLOSE)
        cache.commit()
    last = chunks * chunk
    kept = [*range(sink), *range(last - window + chunk, last)]
    assert cache.frames == kept


@pytest.mark.parametrize("block", [1, 2, 4])
@pytest.mark.parametrize("dense_layers", [0, 1])
@pytest.mark.parametrize(("chunk", "sink", "window"), [(1, 0, 12), (2, 1, 9), (3, 3, 12)])
def test_radial_cache_equals_a_mask_over_every_frame_ever_made(
    chunk, sink, window, dense_layers, block, kernels, make_transformer, make_text, make_cache,
    make_latents, naive,
):  # fmt: skip
    transformer = make_transformer(kernels)
    text = make_text(transformer)
    radial = RadialSettings(block, 0.5, dense_layers, dense_steps=1)
    settings = CacheSettings(sink, window, chunk, radial=radial)
    cache, film = make_cache(transformer, settings), naive.NaiveFilm(transformer, settings)
    for index in range(16 // chunk + 2):
        latents, frames = make_latents(chunk, index), range(index * chunk, (index + 1) * chunk)
        cache.stage(frames)
        dense, banded = (
            run(transformer, cache.at_step(step), latents, 800, text) for step in (0, 1)
        )
        expected = film.forward(latents, frames, 800, text, dense=True)
        torch.testing.assert_close(dense, expected, **CLOSE)
        torch.testing.assert_close(banded, film.forward(latents, frames, 800, text), **CLOSE)
        clean = run(transformer, cache, latents, 0, text)
        expected = film.forward(latents, frames, 0, text, commit=True)
        torch.testing.assert_close(clean, expected, **CLOSE)
        cache.commit()
    assert (dense - banded).abs().max() > 0.001


def test_where_every_layer_is_dense_radial_changes_no_bit(transformer, text, make_latents, filled):
    radial = RadialSettings(block=1, dense_layers=2, dense_steps=0)
    caches = [filled(CacheSettings(2, 9, 3, radial=each), chunks=6) for each in (None, radial)]
    outputs = [
        add(transformer, cache, make_latents(3, seed=9), range(18, 21), text) for cache in caches
    ]
    assert torch.equal(*outputs)


@pytest.mark.parametrize("kept", [1, 2])
def test_retained_frames_alone_are_not_the_same_thing(
    kept, transformer, text, make_cache, make_latents, naive
):
    """Their keys saw frames that are gone now; the test above would not notice otherwise."""
    settings = CacheSettings(0, kept + 1, 1)
    film = naive.NaiveFilm(transformer, settings)
    for index in range(6):
        film.forward(make_latents(1, index), [index], 0, text, commit=True)
    fresh = naive.NaiveFilm(transformer, settings)
    for index in range(6 - kept, 6):
        fresh.forward(make_latents(1, index), [index], 0, text, commit=True)
    probe = make_latents(1, seed=99)
    outputs = [each.forward(probe, [6], 500, text) for each in (film, fresh)]
    assert (outputs[0] - outputs[1]).abs().max() > 0.005


@pytest.mark.parametrize("few", [1, 2])
def test_fewer_frames_than_a_chunk_see_only_what_is_held(
    few, transformer, text, make_cache, make_latents, naive
):
    """The slots that a whole chunk would have filled are skipped, wherever they are."""
    settings = CacheSettings(2, 7, 3)
    cache, film = make_cache(transformer, settings), naive.NaiveFilm(transformer, settings)
    for index in range(6):
        frames, latents = range(3 * index, 3 * index + 3), make_latents(3, seed=index)
        add(transformer, cache, latents, frames, text)
        film.forward(latents, frames, 0, text, commit=True)
    latents, frames = make_latents(few, seed=9), range(18, 18 + few)
    cache.stage(frames)
    film.settings = replace(settings, window=4 + few)
    got = run(transformer, cache, latents, 500, text)
    torch.testing.assert_close(got, film.forward(latents, frames, 500, text), **CLOSE)


@pytest.mark.parametrize("sink", [0, 2, 3])
@pytest.mark.parametrize("window", [3, 7])
def test_relative_positions_have_no_last_frame(
    sink, window, transformer, text, make_cache, make_latents
):
    settings = CacheSettings(sink, window, 3)
    near, far = make_cache(transformer, settings), make_cache(transformer, settings)
    for index in range(9):
        latents = make_latents(3, seed=index)
        outputs = []
        for cache, start in ((near, 0), (far, FAR)):
            first = start + 3 * index
            outputs.append(add(transformer, cache, latents, range(first, first + 3), text))
        torch.testing.assert_close(outputs[1], outputs[0], **CLOSE)


def test_absolute_positions_do_tell_far_sinks_from_near_ones(
    transformer, text, make_cache, make_latents, filled
):
    outputs = []
    for positions in ("relative", "absolute"):
        cache = filled(CacheSettings(2, 3, 1, positions), chunks=12)
        cache.stage([12])
        outputs.append(run(transformer, cache, make_latents(1, seed=99), 500, text))
    assert (outputs[0] - outputs[1]).abs().max() > 0.01


@pytest.mark.parametrize("chunks", [0, 1, 2, 9])
def test_staging_a_chunk_many_times_equals_staging_it_once(
    chunks, transformer, text, make_latents, filled
):
    settings = CacheSettings(2, 7, 3)
    once, often = filled(settings, chunks), filled(settings, chunks)
    frames = range(3 * chunks, 3 * chunks + 3)
    for attempt in range(5):
        often.stage(frames)
        for timestep in (1000, 625):
            run(transformer, often, make_latents(3, seed=50 + attempt), timestep, text)
    latents = make_latents(3, seed=60)
    outputs = [add(transformer, cache, latents, frames, text) for cache in (once, often)]
    assert torch.equal(outputs[0], outputs[1])
    for ours, theirs in zip(_contents(once), _contents(often), strict=True):
        assert torch.equal(ours, theirs)
    upcoming = range(frames.stop, frames.stop + 3)
    outputs = [add(transformer, cache, latents, upcoming, text) for cache in (once, often)]
    assert torch.equal(outputs[0], outputs[1])


@pytest.mark.parametrize("positions", ["relative", "absolute"])
@pytest.mark.parametrize("chunks", [0, 1, 2, 3, 9])
def test_roll_back_leaves_the_committed_cache_as_it_was(
    chunks, positions, transformer, text, make_latents, filled
):
    settings = CacheSettings(4, 7, 3, positions)
    untouched, staged = filled(settings, chunks), filled(settings, chunks)
    frames = range(3 * chunks, 3 * chunks + 3)
    for size in (3, 1):
        staged.stage(range(frames.start, frames.start + size))
        run(transformer, staged, make_latents(size, seed=70), 500, text)
        staged.roll_back()
    assert staged.frames == untouched.frames
    # Sinks may have been turned to the positions that the next chunk asks for; so both are asked.
    untouched.stage(frames)
    untouched.roll_back()
    assert staged.save()[1] == untouched.save()[1]
    for ours, theirs in zip(_contents(untouched), _contents(staged), strict=True):
        assert torch.equal(ours, theirs)
    latents = make_latents(3, seed=71)
    fresh = filled(settings, chunks)
    for index in range(3):
        upcoming = range(frames.start + 3 * index, frames.start + 3 * index + 3)
        outputs = [add(transformer, cache, latents, upcoming, text) for cache in (fresh, staged)]
        assert torch.equal(outputs[0], outputs[1])


def _contents(cache):
    """Keys and values of the committed frames, and the sinks' raw keys: all that is ever read."""
    tensors, numbers = cache.save()
    slots = [numbers["table"].index(frame) for frame in cache.frames]
    sinks = min(len(slots), cache.settings.sink)
    return (
        tensors["keys"][:, :, slots],
        tensors["values"][:, :, slots],
        tensors["raw_sinks"][:, :, :sinks],
    )


def test_values_of_committed_frames_are_untouched_by_what_is_staged(
    transformer, text, make_latents, filled
):
    cache = filled(CacheSettings(2, 6, 2), chunks=7)
    before = [tensor.clone() for tensor in _contents(cache)]
    cache.stage(range(14, 16))
    run(transformer, cache, make_latents(2, seed=80), 500, text)
    after = _contents(cache)
    assert torch.equal(before[1], after[1])
    assert torch.equal(before[2], after[2])
    windows = [contents[0][:, :, cache.settings.sink :] for contents in (before, after)]
    assert torch.equal(*windows)


def test_no_room_is_refused_and_nothing_is_staged(transformer, text, make_latents, filled):
    cache, untouched = (filled(CacheSettings(1, 4, 2), chunks=5) for _ in range(2))
    cache.stage([10])
    with pytest.raises(ValueError, match=r"3 frames do not fit in 2 free slots"):
        cache.stage(range(10, 13))
    cache.commit()
    assert cache.frames == untouched.frames
    latents = make_latents(2, seed=1)
    outputs = [add(transformer, each, latents, range(10, 12), text) for each in (cache, untouched)]
    assert torch.equal(*outputs)


def test_memory_neither_grows_nor_moves(transformer, text, make_cache, make_latents):
    cache = make_cache(transformer, CacheSettings(2, 6, 3))
    size = cache.bytes
    places = {name: tensor.data_ptr() for name, tensor in cache.save()[0].items()}
    assert size == sum(tensor.nbytes for tensor in cache.save()[0].values())
    for index in range(50):
        frames = range(3 * index, 3 * index + 3)
        add(transformer, cache, make_latents(3, seed=index), frames, text)
    assert cache.bytes == size
    assert {name: tensor.data_ptr() for name, tensor in cache.save()[0].items()} == places


@pytest.mark.parametrize("chunks", [0, 1, 9])
def test_saved_and_loaded_cache_continues_with_the_same_bits(
    chunks, transformer, text, make_cache, make_latents, filled
):
    settings = CacheSettings(2, 7, 3)
    cache = filled(settings, chunks)
    tensors, numbers = cache.save()
    copy = make_cache(transformer, settings)
    copy.load({name: tensor.clone() for name, tensor in tensors.items()}, numbers)
    assert copy.frames == cache.frames
    for index in range(chunks, chunks + 3):
        frames, latents = range(3 * index, 3 * index + 3), make_latents(3, seed=index)
        outputs = [add(transformer, each, latents, frames, text) for each in (cache, copy)]
        assert torch.equal(*outputs)


@pytest.mark.parametrize("radial", [None, RadialSettings(3, dense_layers=1)])
def test_in_fp8_half_the_bytes_hold_almost_the_same(
    radial, transformer, text, make_cache, make_latents
):
    settings = CacheSettings(2, 4, 2, radial=radial)
    plain, small = (make_cache(transformer, settings, fp8=fp8) for fp8 in (False, True))
    raw = plain._raw_sinks.nbytes
    assert small.bytes - raw == (plain.bytes - raw) / 4
    # Far enough that the sinks are rotated anew, and what came between is forgotten.
    for index in range(6):
        frames = range(2 * index, 2 * index + 2)
        exact, out = (
            add(transformer, cache, make_latents(2, seed=index), frames, text)
            for cache in (plain, small)
        )
        assert out.dtype == exact.dtype
        assert 0 < (out - exact).norm() / exact.norm() < 0.05
    again = make_cache(transformer, settings, fp8=True)
    tensors, numbers = small.save()
    assert tensors["keys"].dtype == torch.float8_e4m3fn
    again.load({name: tensor.clone() for name, tensor in tensors.items()}, numbers)
    last = make_latents(2, seed=9)
    outs = [add(transformer, cache, last, range(12, 14), text) for cache in (small, again)]
    assert torch.equal(*outs)


def test_keys_beyond_the_range_of_fp8_are_its_largest(transformer, text, make_cache, make_latents):
    cache = make_cache(transformer, CacheSettings(1, 2, 1), fp8=True)
    large = transformer.blocks[0].attn1.norm_k.weight
    kept = large.clone()
    with torch.no_grad():
        large.fill_(1e4)
        for index in range(4):  # the third is the first that moves the sink
            add(transformer, cache, make_latents(1, seed=index), [index], text)
        large.copy_(kept)
    keys = cache._keys[0].float()
    assert keys.isfinite().all()
    assert keys.abs().max() == 448


def test_clear_and_keep_sinks_forget_the_rest(filled):
    cache = filled(CacheSettings(2, 6, 3), chunks=6)
    assert cache.frames == [0, 1, 15, 16, 17]
    cache.keep_sinks()
    assert cache.frames == [0, 1]
    cache.clear()
    assert cache.frames == []


def test_cleared_cache_equals_a_new_one(transformer, text, make_cache, make_latents, filled):
    settings = CacheSettings(2, 6, 3)
    cleared, new = filled(settings, chunks=6), make_cache(transformer, settings)
    cleared.clear()
    for index in range(4):
        frames, latents = range(3 * index, 3 * index + 3), make_latents(3, seed=index)
        outputs = [add(transformer, each, latents, frames, text) for each in (cleared, new)]
        assert torch.equal(*outputs)


@pytest.mark.parametrize(
    ("change", "named"),
    [({"chunk": 0}, "chunk is 0"), ({"window": 2}, "window is 2"), ({"sink": -1}, "sink is -1")],
)
def test_impossible_sizes_are_refused(change, named):
    with pytest.raises(ValueError, match=named):
        replace(CacheSettings(1, 3, 3), **change)


@pytest.mark.parametrize("chunks", [0, 1, 6])
def test_remembering_writes_what_a_whole_forward_writes_and_stops_there(
    chunks, kernels, make_transformer, make_cache, make_latents, make_text
):
    transformer = make_transformer(kernels)
    text = make_text(transformer)
    settings = CacheSettings(sink=2, window=4, chunk=2)
    caches = [make_cache(transformer, settings) for _ in range(2)]
    for index in range(chunks):
        for cache in caches:
            add(transformer, cache, make_latents(2, seed=index), [2 * index, 2 * index + 1], text)
    whole, stopped = caches
    for cache in caches:
        cache.stage([2 * chunks, 2 * chunks + 1])
    latents = make_latents(2, seed=99)
    run(transformer, whole, latents, 0, text)
    # Beyond the last layer's keys there is nothing that it could use.
    last = transformer.blocks[-1]
    for unused in (last.attn1.to_q, last.attn1.to_out[0], last.ffn.net[2], transformer.proj_out):
        unused.weight.fill_(torch.nan)
    last.forward = None
    modulation = transformer.modulation(torch.zeros(1, 2), latents.dtype)
    transformer.remember(latents, modulation, text, stopped)
    for name, tensor in stopped.save()[0].items():
        assert torch.equal(tensor, whole.save()[0][name]), name
