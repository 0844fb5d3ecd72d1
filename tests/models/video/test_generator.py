"""Films: replayable, saved and continued, changed as they are made, safe when a forward fails."""

from __future__ import annotations

import gc
import json
import weakref
from itertools import pairwise

import pytest
import torch
from diffusers import AutoencoderKLWan
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from longtake.models.video import sampler
from longtake.models.video.kv_cache import CacheSettings
from longtake.models.video.radial import RadialSettings
from longtake.models.video.transformer import WanTransformer
from longtake.models.video.wan_codec import WanCodec
from longtake.streaming import Event, StreamError


@pytest.fixture(scope="module")
def film(make_generator, run_chunk):
    """Makes a film's frames, chunk by chunk; events apply before the chunk they are listed for."""

    def make(generator=None, *, seed=1, chunks=8, prompt="one", events=(), state=None, first=0):
        generator = generator or make_generator()
        state = state or generator.open(prompt, seed)
        frames = []
        for index in range(first, chunks):
            for at, field, value in events:
                if at == index:
                    generator.check(Event(field, value))
                    generator.apply(state, Event(field, value))
            frames.append(run_chunk(generator, state))
        return frames

    return make


def same(ours, theirs) -> bool:
    """Byte for byte."""
    return len(ours) == len(theirs) and all(map(torch.equal, ours, theirs))


EVENTS = (
    (2, "prompt", "two"),
    (4, "steps", 4),
    (5, "window", 6),
    (6, "prompt", "three"),
    (7, "sink", 1),
    (8, "switch", "flush"),
    (9, "prompt", "one"),
    (11, "switch", "recache"),
    (11, "prompt", "two"),
)


def test_frames_are_uint8_pictures_that_move(film, make_generator):
    generator = make_generator()
    frames = torch.cat(film(generator))
    config = generator.config
    assert frames.dtype == torch.uint8
    assert frames.shape == (8 * config.chunk * 2, config.height, config.width, 3)
    assert frames.is_contiguous()
    assert 5 < frames.float().mean() < 250
    assert all(not torch.equal(before, after) for before, after in pairwise(frames))


def test_same_seed_and_events_give_the_same_bytes(film):
    assert same(film(chunks=10, events=EVENTS), film(chunks=10, events=EVENTS))


RADIAL = RadialSettings(block=1, decay=0.5, dense_layers=1, dense_steps=1)


@pytest.mark.parametrize(
    ("steps", "radial", "chunks"), [(1, None, 2), (3, None, 2), (1, RADIAL, 5), (3, RADIAL, 5)]
)
def test_latents_are_those_of_the_sampler_spelt_out(
    steps, radial, chunks, film, make_generator, naive
):
    """Noise and flow by hand: each step's clean guess is noised anew, with noise of its own."""
    generator = make_generator(steps=steps, radial=radial, sink=1)
    state = generator.open("one", 7)
    config = generator.config
    sizes = CacheSettings(config.sink, config.window, config.chunk, radial=radial)
    twin = naive.NaiveFilm(generator.transformer, sizes)
    shape = (1, 4, 3, 4, 6)
    for chunk in range(chunks):
        film(generator, state=state, first=chunk, chunks=chunk + 1)
        frames = range(3 * chunk, 3 * chunk + 3)
        latents = sampler.noise(shape, 7, chunk, 0)
        for step in range(steps):
            even, next_even = 1 - step / steps, 1 - (step + 1) / steps
            sigma, following = (5 * s / (1 + 4 * s) for s in (even, next_even))
            dense = step < 1
            flow = twin.forward(latents, frames, 1000 * sigma, state.text, dense=dense)
            clean = latents - sigma * flow
            noise = sampler.noise(shape, 7, chunk, step + 1)
            latents = (1 - following) * clean + following * noise
        made = torch.cat([state.history[frame] for frame in frames], 2)
        torch.testing.assert_close(made, clean, rtol=1e-3, atol=1e-4)
        twin.forward(clean, frames, 0, state.text, commit=True)


def test_another_seed_prompt_or_event_gives_other_frames(film):
    plain = film(chunks=4)
    assert not same(plain, film(chunks=4, seed=2))
    assert not same(plain, film(chunks=4, prompt="two"))
    for event in ((2, "prompt", "two"), (2, "steps", 3), (2, "window", 3), (2, "sink", 0)):
        changed = film(chunks=4, events=[event])
        assert same(plain[:2], changed[:2])
        assert not torch.equal(plain[2], changed[2])


@pytest.mark.parametrize("seed", [0, -1, 2**40, 2**64 + 5])
def test_any_whole_number_is_a_seed(seed, film):
    assert same(film(chunks=1, seed=seed), film(chunks=1, seed=seed))


def test_two_films_of_one_generator_do_not_touch_each_other(film, make_generator, run_chunk):
    generator = make_generator()
    states = [generator.open(prompt, seed) for prompt, seed in (("one", 1), ("two", 2))]
    work = [[], []]
    while min(len(each) for each in work) < 40:  # forward by forward, in turn
        for state, done in zip(states, work, strict=True):
            done.extend(payload for payload, _ in generator.step(state).media)
    alone = [
        torch.cat(film(generator, prompt=prompt, seed=seed, chunks=14))
        for prompt, seed in (("one", 1), ("two", 2))
    ]
    for interleaved, frames in zip(work, alone, strict=True):
        made = torch.cat(interleaved)
        assert torch.equal(made, frames[: len(made)])


@pytest.mark.parametrize("chunk", [1, 2, 3])
def test_a_chunk_gives_its_frames_whatever_its_length(chunk, film, make_generator):
    generator = make_generator(chunk=chunk)
    assert generator.spec.chunk_units == 2 * chunk
    assert generator.spec.rate == 16
    assert [len(frames) for frames in film(generator)] == [2 * chunk] * 8


def test_first_chunk_is_shorter_where_the_codec_trims(film, make_generator, make_codec):
    generator = make_generator(make_codec(frames_to_trim=1))
    assert [len(frames) for frames in film(generator, chunks=3)] == [5, 6, 6]
    generator = make_generator(make_codec(frames_to_trim=3), chunk=1)
    state = generator.open("one", 1)
    counts = []
    while len(counts) < 3:
        units = 0
        while not (step := generator.step(state)).boundary:
            units += sum(units for _, units in step.media)
        counts.append(units)
    assert counts == [0, 1, 2]


def test_wan_codec_gives_one_frame_then_four_a_latent(film, make_generator):
    vae = AutoencoderKLWan(
        base_dim=4,
        z_dim=4,
        num_res_blocks=1,
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    )
    codec = WanCodec(vae.eval())
    generator = make_generator(codec, width=48, height=32)
    assert generator.spec.chunk_units == 12
    frames = film(generator, chunks=3)
    assert [len(each) for each in frames] == [9, 12, 12]
    assert frames[0].shape[1:] == (32, 48, 3)


@pytest.mark.parametrize("steps", [1, 4])
def test_a_step_is_one_forward_and_the_last_is_the_boundary(
    steps, make_generator, wrap_forwards, monkeypatch
):
    generator = make_generator(steps=steps)
    times, forwards = {}, []
    modulation = WanTransformer.modulation

    def noted(self, timesteps, dtype):
        made = modulation(self, timesteps, dtype)
        times[made.head.data_ptr()] = timesteps[0, 0].item()
        return made

    def forward(_, transformer, latents, modulation, *rest):
        forwards.append(times[modulation.head.data_ptr()])
        return latents

    monkeypatch.setattr(WanTransformer, "modulation", noted)
    wrap_forwards(monkeypatch, forward)
    state = generator.open("one", 1)
    for _ in range(2):
        kinds = []
        while True:
            before = len(forwards)
            step = generator.step(state)
            kinds.append((len(forwards) - before, len(step.media)))
            if step.boundary:
                break
        assert kinds == [(1, 0)] * steps + [(0, 1)] * generator.config.chunk + [(1, 0)]
    expected = [1000.0] if steps == 1 else [1000.0, 937.5, 2500 / 3, 625.0]
    assert forwards == pytest.approx([*expected, 0.0] * 2)


@pytest.mark.parametrize(("steps", "opening"), [(2, 4), (4, 2), (3, None)])
def test_what_nothing_comes_before_has_steps_of_its_own(
    steps, opening, make_generator, run_chunk, wrap_forwards, monkeypatch
):
    forwards = []
    wrap_forwards(monkeypatch, lambda real, *args: forwards.append(args) or real(*args))
    generator = make_generator(steps=steps, opening=opening)
    state = generator.open("one", 1)
    events = {2: (Event("switch", "flush"), Event("prompt", "two"))}
    counts = []
    for chunk in range(4):
        generator.apply(state, *events.get(chunk, ()))
        before = len(forwards)
        run_chunk(generator, state)
        # The clean pass is one more.
        counts.append(len(forwards) - before - 1)
    assert counts == [opening or steps, steps] * 2


@pytest.mark.parametrize("codec", ["tiny", "tiny, trimmed"])
def test_saved_film_continues_with_the_same_bytes_from_every_boundary(
    codec, film, make_generator, make_codec, run_chunk, tmp_path
):
    """Also where an event waits, after eviction, after a flush, in a new process's generator."""
    parts = {"codec": make_codec(frames_to_trim=1 if "trimmed" in codec else 0)}
    expected = film(make_generator(**parts), chunks=12, events=EVENTS)
    generator = make_generator(**parts)
    state = generator.open("one", 1)

    def reload():
        tensors, values = generator.save(state)
        save_file(tensors, tmp_path / "film.safetensors")
        (tmp_path / "film.json").write_text(json.dumps(values, allow_nan=False))
        values = json.loads((tmp_path / "film.json").read_text())
        other = make_generator(**parts)
        return other, other.load(load_file(tmp_path / "film.safetensors"), values)

    for index in range(12):
        events = [Event(field, value) for at, field, value in EVENTS if at == index]
        other, copy = reload()
        for event in events:
            other.apply(copy, event)
            generator.apply(state, event)
        assert torch.equal(run_chunk(other, copy), expected[index])
        if events:
            other, copy = reload()
            assert torch.equal(run_chunk(other, copy), expected[index])
        assert torch.equal(run_chunk(generator, state), expected[index])


def test_saved_film_continues_for_long(film, make_generator):
    expected = film(chunks=14)
    generator = make_generator()
    state = generator.open("one", 1)
    assert same(film(generator, state=state, chunks=6), expected[:6])
    copy = generator.load(*generator.save(state))
    assert same(film(generator, state=copy, first=6, chunks=14), expected[6:])


def test_radial_film_differs_repeats_and_goes_on_after_it_was_saved(film, make_generator):
    long = {"window": 12, "sink": 1}
    generator = make_generator(radial=RADIAL, **long)
    expected = film(generator, chunks=9, events=[(6, "prompt", "two")])
    assert same(film(generator, chunks=9, events=[(6, "prompt", "two")]), expected)
    plain = film(make_generator(**long), chunks=9)
    assert same(plain[:1], expected[:1])
    assert not same(plain[:6], expected[:6])
    state = generator.open("one", 1)
    film(generator, state=state, chunks=6)
    generator.apply(state, Event("prompt", "two"))
    copy = generator.load(*generator.save(state))
    assert same(film(generator, state=copy, first=6, chunks=9), expected[6:])


def test_saving_copies_so_that_a_branch_does_not_disturb_its_origin(film, make_generator):
    expected = film(chunks=10)
    generator = make_generator()
    state = generator.open("one", 1)
    film(generator, state=state, chunks=5)
    saved = generator.save(state)
    branch = generator.load(*saved)
    film(generator, state=branch, first=5, chunks=10, events=[(5, "prompt", "two")])
    assert same(film(generator, state=generator.load(*saved), first=5, chunks=10), expected[5:])
    assert same(film(generator, state=state, first=5, chunks=10), expected[5:])


def test_far_film_equals_a_near_one(film, make_generator):
    """Relative positions have no end: the clean latents are the same to rounding."""
    films = []
    for start in (0, 99_999):
        generator = make_generator()
        state = generator.open("one", 1)
        state.frame = state.origin = start
        film(generator, state=state, chunks=8, events=[(6, "prompt", "two")])
        films.append(torch.cat(list(state.history.values())[3:], 2))
    torch.testing.assert_close(films[1], films[0], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("chunk", "event", "forwards"),
    [
        (0, None, 3),
        (4, None, 3),
        (5, ("prompt", "two"), 4),
        (5, ("window", 6), 4),
        (5, ("sink", 1), 4),
    ],
    ids=str,
)
def test_failed_forward_leaves_the_film_at_its_last_boundary(
    chunk, event, forwards, film, make_generator, run_chunk, wrap_forwards, monkeypatch
):
    """With two steps a chunk has three forwards; a recache is one more, before them."""
    events = [(chunk, *event)] if event else []
    expected = film(chunks=chunk + 2, events=events)
    for failing in range(1, forwards + 1):
        generator = make_generator()
        state = generator.open("one", 1)
        made = film(generator, state=state, chunks=chunk)
        if event:
            generator.apply(state, Event(*event))
        calls = []

        def forward(real, *args, calls=calls, failing=failing):
            out = real(*args)
            calls.append(args)
            if len(calls) == failing:
                raise MemoryError("the card is full")
            return out

        wrap_forwards(monkeypatch, forward)
        with pytest.raises(StreamError, match="ran out"):
            run_chunk(generator, state)
        monkeypatch.undo()
        assert (state.work, state.chunk, state.frame) == (None, chunk, 3 * chunk)
        made += film(generator, state=state, first=chunk, chunks=chunk + 2)
        assert same(made, expected)


@pytest.mark.parametrize("steps_done", range(7))
def test_a_closed_chunk_leaves_the_film_at_its_last_boundary(
    steps_done, film, make_generator, run_chunk
):
    """Closed after any step: the recache's, the two of denoising, the three of decoding."""
    events = [(5, "prompt", "two")]
    expected = film(chunks=7, events=events)
    generator = make_generator()
    state = generator.open("one", 1)
    made = film(generator, state=state, chunks=5)
    generator.apply(state, Event("prompt", "two"))
    for _ in range(steps_done):
        assert not generator.step(state).boundary
    generator.close(state)
    assert state.work is None
    copy = generator.load(*generator.save(state))
    assert torch.equal(run_chunk(generator, copy), expected[5])
    assert same(made + film(generator, state=state, first=5, chunks=7), expected)


@pytest.mark.parametrize("chunks", [0, 1])
def test_a_closed_film_frees_its_memory_without_waiting_for_the_collector(
    chunks, film, make_generator
):
    generator = make_generator()
    state = generator.open("one", 1)
    film(generator, state=state, chunks=chunks)
    generator.step(state)
    cache = weakref.ref(state.cache)
    gc.collect()
    gc.disable()
    try:
        generator.close(state)
        del state
        assert cache() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("most", [1, 2, 3])
def test_the_newest_prompts_are_read_together(most, make_generator, run_chunk):
    generator = make_generator(prompts=most)
    state = generator.open("a b", 5)
    told = ["a b"]
    for prompt in ("c", "d", "e"):
        run_chunk(generator, state)
        generator.apply(state, Event("prompt", prompt))
        told.append(prompt)
        assert torch.equal(state.embeddings, generator.text_encoder(told[-most:]))
    copy = generator.load(*generator.save(state))
    for each in (state, copy):
        generator.apply(each, Event("prompt", "f"))
    assert torch.equal(copy.embeddings, state.embeddings)


def test_prompts_that_come_together_take_over_as_one(
    make_generator, run_chunk, wrap_forwards, monkeypatch
):
    """Read once, over as many chunks as the last one says, with one recache a chunk."""
    together = [Event("prompt", "c", transition=9), Event("prompt", "d", transition=2)]
    films = {}
    for name, events in {"all": together, "last": together[1:]}.items():
        generator = make_generator(prompts=3)
        state = generator.open("a b", 5)
        run_chunk(generator, state)
        before = state.embeddings
        read, real = [], generator.text_encoder.__call__

        def encoder(prompts, draws, real=real, read=read):
            read.append(tuple(prompts))
            return real(prompts, draws)

        encoder.rewriter = None
        monkeypatch.setattr(generator, "text_encoder", encoder)
        generator.apply(state, *events)
        told = ("a b", *(event.value for event in events))
        assert read == [told]
        halfway = torch.lerp(before, real(told), 0.5)
        assert torch.equal(state.embeddings, halfway)
        calls = []
        with monkeypatch.context() as patch:
            wrap_forwards(patch, lambda real, *args, calls=calls: calls.append(1) or real(*args))
            films[name] = [run_chunk(generator, state) for _ in range(3)]
        films[name].append(torch.tensor(len(calls)))
        assert torch.equal(state.embeddings, real(told))
    assert films["all"][-1] == films["last"][-1]
    assert not torch.equal(films["all"][1], films["last"][1])


def test_of_prompts_that_come_together_a_flush_is_kept(make_generator, run_chunk):
    generator = make_generator(prompts=3)
    state = generator.open("a b", 5)
    run_chunk(generator, state)
    keep, flush = (Event("switch", name) for name in ("keep", "flush"))
    generator.apply(state, flush, Event("prompt", "c"), keep, Event("prompt", "d"))
    assert state.pending == "flush"


def test_failed_decode_leaves_the_film_at_its_last_boundary(
    film, make_generator, run_chunk, monkeypatch
):
    expected = film(chunks=4)
    generator = make_generator()
    state = generator.open("one", 1)
    made = film(generator, state=state, chunks=2)
    real = generator.codec.decode
    calls = []

    def decode(*args):
        calls.append(args)
        if len(calls) == 3:
            raise MemoryError("the card is full")
        return real(*args)

    monkeypatch.setattr(generator.codec, "decode", decode)
    with pytest.raises(StreamError, match="ran out"):
        run_chunk(generator, state)
    monkeypatch.undo()
    made += film(generator, state=state, first=2, chunks=4)
    assert same(made, expected)


def test_memory_of_a_film_neither_grows_nor_moves(film, make_generator):
    generator = make_generator(steps=1)
    state = generator.open("one", 1)
    sizes = set()
    cache = state.cache
    places = {name: tensor.data_ptr() for name, tensor in cache.save()[0].items()}
    for index in range(50):
        events = [(index, "prompt", f"{index}")] if index % 7 == 0 else []
        film(generator, state=state, first=index, chunks=index + 1, events=events)
        tensors, _ = generator.save(state)
        if index > 4:
            sizes.add(sum(tensor.nbytes for tensor in tensors.values()))
    assert len(sizes) == 1
    assert state.cache is cache
    assert {name: tensor.data_ptr() for name, tensor in cache.save()[0].items()} == places


@settings(max_examples=40, deadline=None)
@given(data=st.data(), sinks=st.sampled_from(["kept", "shifted", "rewritten"]))
def test_any_order_of_events_leaves_the_cache_sound(data, sinks, film, make_generator):
    """The sinks, then a run without a gap up to the newest frame, all in the room there is."""
    generator = make_generator(steps=1, chunk=2, sink=2, window=4, sinks=sinks, recache="causal")
    # Only the books are looked at.
    generator.transformer.flow = generator.transformer.remember = lambda latents, *_: latents
    state = generator.open("one", 1)
    event = st.one_of(
        st.tuples(st.just("prompt"), st.sampled_from(["one", "two", "three"])),
        st.tuples(st.just("window"), st.integers(2, 9)),
        st.tuples(st.just("sink"), st.integers(0, 4)),
        st.tuples(st.just("switch"), st.sampled_from(["recache", "keep", "flush"])),
    )
    for index in range(8):
        events = [(index, *each) for each in data.draw(st.lists(event, max_size=3))]
        film(generator, state=state, first=index, chunks=index + 1, events=events)
        held, sizes = state.cache.frames, state.settings
        assert state.cache.settings.slots == sizes.sink + sizes.window
        assert len(held) <= sizes.sink + sizes.window - 2
        assert held == sorted(set(held))
        run = held[sizes.sink :]
        assert run == list(range(state.frame - len(run), state.frame))
        if sinks != "shifted":  # then the first frames are kept for a resize, not those shifted to
            assert set(held) <= set(state.history)
        assert len(state.history) <= 2 * sizes.sink + sizes.window
        assert state.pending is None


def test_events_change_what_follows_and_nothing_before(film):
    plain, changed = film(chunks=10), film(chunks=10, events=EVENTS)
    assert same(plain[:2], changed[:2])
    assert not torch.equal(plain[2], changed[2])


@pytest.mark.parametrize("switch", ["recache", "keep", "flush"])
def test_each_switch_gives_its_own_film(switch, film):
    films = {
        each: film(chunks=7, events=[(5, "switch", each), (5, "prompt", "two")])
        for each in ("recache", "keep", "flush")
    }
    others = [frames for name, frames in films.items() if name != switch]
    assert not any(torch.equal(films[switch][5], frames[5]) for frames in others)


def test_a_generator_watches_nothing(make_generator):
    generator = make_generator()
    assert generator.demand(generator.open("one", 1)) == 0


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("", "the prompt is empty"),
        (" \t\n\u00a0\u3000 ", "the prompt is empty"),
        ("x" * 100_000, "the prompt has 100,000 characters"),
        ("x" * 2001, "the prompt has 2,001 characters"),
        (None, "the prompt is no text"),
        (5, "the prompt is no text"),
        (["a"], "the prompt is no text"),
        (b"a", "the prompt is no text"),
        ("half a pair \ud800", "the prompt is no valid Unicode"),
    ],
    ids=["empty", "blank", "100 kB", "a little long", "None", "int", "list", "bytes", "surrogate"],
)
def test_bad_prompts_are_refused_in_one_sentence(value, said, make_generator):
    generator = make_generator()
    for attempt in (
        lambda: generator.check(Event("prompt", value)),
        lambda: generator.open(value, 1),
    ):
        with pytest.raises(StreamError) as caught:
            attempt()
        assert caught.value.code == "bad_prompt"
        assert caught.value.message == said
        assert caught.value.hint
        assert len(str(caught.value)) < 200
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "prompt", ["a", "x" * 2000, "雪が降る", "🌧️ rain", "a\x00b", "<pad></s>", "a" + " " * 1900]
)
def test_odd_but_sound_prompts_make_sound_frames(prompt, film, make_generator):
    generator = make_generator()
    generator.check(Event("prompt", prompt))
    state = generator.open(prompt, 1)
    film(generator, state=state, chunks=1)
    assert all(latent.isfinite().all() for latent in state.history.values())


BAD_SETTINGS = [
    ("steps", 0),
    ("steps", -1),
    ("steps", 51),
    ("steps", True),
    ("steps", 2.0),
    ("steps", "4"),
    ("steps", None),
    ("steps", float("nan")),
    ("window", 2),
    ("window", 0),
    ("window", 1025),
    ("window", [9]),
    ("sink", -1),
    ("sink", 10**20),
    ("sink", False),
    ("switch", "cut"),
    ("switch", None),
    ("switch", ["keep"]),
    ("switch", {}),
    ("seed", 3),
    ("chunk", 1),
    ("", 1),
    ("__class__", 1),
]


@pytest.mark.parametrize(("field", "value"), BAD_SETTINGS, ids=str)
def test_bad_settings_are_refused_in_one_sentence(field, value, make_generator):
    with pytest.raises(StreamError) as caught:
        make_generator().check(Event(field, value))
    error = caught.value
    assert error.code == "bad_setting"
    assert repr(value) in error.message or repr(field) in error.message
    assert error.hint
    assert len(str(error)) < 200
    assert "\n" not in str(error)


def test_a_huge_bad_value_is_not_echoed_whole(make_generator):
    for field, value in (("steps", "9" * 100_000), ("x" * 100_000, 1), ("switch", ["k"] * 50_000)):
        with pytest.raises(StreamError) as caught:
            make_generator().check(Event(field, value))
        assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("field", "value"),
    [("steps", 1), ("steps", 50), ("window", 3), ("sink", 0), ("switch", "keep"), ("prompt", "x")],
)
def test_good_values_pass(field, value, make_generator):
    make_generator().check(Event(field, value))
