"""Films that begin with pictures: encoded, shown, remembered as clean context."""

from __future__ import annotations

import pytest
import torch
from diffusers import AutoencoderKLWan

from longtake.models.video.kv_cache import CacheSettings
from longtake.models.video.wan_codec import WanCodec
from longtake.streaming import Event, StreamError

NO_ENCODER = {"encoder_channels": (), "encoder_pool": (), "encoder_stride": ()}


@pytest.fixture
def pictures():
    """Random pictures of the tiny film's size: `pictures(time)`."""

    def make(time):
        seeded = torch.Generator().manual_seed(3)
        return torch.randint(0, 256, (time, 16, 24, 3), generator=seeded, dtype=torch.uint8)

    return make


def test_the_first_chunks_are_the_pictures_coded_and_decoded(make_generator, run_chunk, pictures):
    generator = make_generator()
    frames = pictures(generator.start_frames(2))
    state = generator.open("one", 1)
    generator.begin_with(state, frames)
    shown = torch.cat([run_chunk(generator, state) for _ in range(2)])
    codec = generator.codec
    decoded, _ = codec.decode(codec.encode(frames.permute(0, 3, 1, 2)[None] / 255))
    expected = decoded[0].mul(255).round().to(torch.uint8).permute(0, 2, 3, 1)
    assert shown.shape == frames.shape
    assert (shown.int() - expected.int()).abs().max() <= 1
    assert state.start is None
    assert (state.chunk, state.frame) == (2, 6)


def test_a_prompt_that_nothing_rewrites_is_read_once(make_generator, monkeypatch, pictures):
    """An encoder that is offloaded may have to be loaded for it each time."""
    generator, read = make_generator(), []
    real = generator._read
    monkeypatch.setattr(generator, "_read", lambda *told: read.append(told) or real(*told))
    state = generator.open("one", 1)
    generator.begin_with(state, pictures(generator.start_frames(1)))
    assert read == [(["one"], 1)]


def test_what_follows_is_made_with_the_pictures_as_clean_context(
    make_generator, run_chunk, pictures, naive
):
    """The chunk after the start, against a forward spelt out, at one denoising step."""
    generator = make_generator(steps=1)
    config = generator.config
    state = generator.open("one", 7)
    frames = pictures(generator.start_frames(1))
    generator.begin_with(state, frames)
    latents = generator.codec.encode(frames.permute(0, 3, 1, 2)[None] / 255)
    torch.testing.assert_close(state.start, latents, rtol=1e-4, atol=1e-5)
    twin = naive.NaiveFilm(
        generator.transformer, CacheSettings(config.sink, config.window, config.chunk)
    )
    twin.forward(latents, range(3), 0, state.text, commit=True)
    run_chunk(generator, state)
    noise = generator._noise(state, state.chunk, 0)
    clean = noise - twin.forward(noise, range(3, 6), 1000.0, state.text)
    run_chunk(generator, state)
    made = torch.cat([state.history[frame] for frame in range(3, 6)], 2)
    torch.testing.assert_close(made, clean, rtol=1e-3, atol=1e-4)


def test_a_film_saved_within_its_start_goes_on_byte_for_byte(make_generator, run_chunk, pictures):
    generator = make_generator()

    def begin():
        state = generator.open("one", 1)
        generator.begin_with(state, pictures(generator.start_frames(2)))
        return state, run_chunk(generator, state)

    whole, _ = begin()
    saved, _ = begin()
    again = generator.load(*generator.save(saved))
    for state in (whole, again):
        generator.apply(state, Event("prompt", "two"))
    for _ in range(4):
        assert torch.equal(run_chunk(generator, again), run_chunk(generator, whole))


def test_a_decoder_alone_takes_no_start(make_generator, make_codec, run_chunk, pictures):
    generator = make_generator(codec=make_codec(**NO_ENCODER))
    state = generator.open("one", 1)
    with pytest.raises(StreamError, match="a decoder alone") as caught:
        generator.begin_with(state, pictures(generator.start_frames(1)))
    assert caught.value.code == "bad_start"
    assert run_chunk(generator, state).float().std() > 1


@pytest.mark.parametrize("frames_to_trim", [0, 1, 3])
def test_a_tiny_codec_encodes_a_clip_latent_by_latent(frames_to_trim, make_codec):
    changes = {"encoder_pool": (2, 2), "decoder_grow": (2, 2), "frames_to_trim": frames_to_trim}
    codec = make_codec(**changes)
    clip = torch.rand(1, codec.frames_of(3), 3, 8, 12)
    held = torch.cat([clip, *[clip[:, -1:]] * frames_to_trim], 1)
    latents = codec.encode_clip(clip)
    torch.testing.assert_close(latents, codec.encode(held), rtol=1e-4, atol=1e-5)
    assert codec.decode(latents)[0].shape == clip.shape


def test_wans_codec_encodes_as_diffusers_does():
    torch.manual_seed(0)
    statistics = {"latents_mean": [0.1, -0.3, 0.2], "latents_std": [1.5, 0.5, 2.0]}
    vae = AutoencoderKLWan(base_dim=4, z_dim=3, num_res_blocks=1, **statistics).eval()
    codec = WanCodec(vae)
    assert [codec.frames_of(latents) for latents in (1, 2, 3)] == [1, 5, 9]
    clip = torch.rand(1, 9, 3, 16, 24)
    latents = codec.encode_clip(clip)
    raw = vae.encode(clip.transpose(1, 2) * 2 - 1).latent_dist.mode()
    mean, std = (torch.tensor(each).view(1, 3, 1, 1, 1) for each in statistics.values())
    torch.testing.assert_close(latents * std + mean, raw, rtol=1e-4, atol=1e-5)
    assert codec.decode(latents)[0].shape == clip.shape
