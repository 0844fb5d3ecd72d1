"""The tiny codec: a stream equals the whole clip, and the layout is TAEHV's."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from longtake.models.video.tiny_codec import TinyCodec, TinyCodecConfig

LAYOUTS = {
    "grow first": {},
    "grow in both stages": {"encoder_pool": (2, 2), "decoder_grow": (2, 2)},
    "grow last, two blocks": {"decoder_grow": (1, 4), "encoder_pool": (4, 1), "blocks": 2},
    "no blocks": {"blocks": 0},
    "one stage": {
        "encoder_channels": (8, 6),
        "encoder_pool": (2,),
        "encoder_stride": (2,),
        "decoder_channels": (8, 6),
        "decoder_scale": (2,),
        "decoder_grow": (2,),
    },
    "three stages, no time": {
        "encoder_channels": (4, 5, 6, 7),
        "encoder_pool": (1, 1, 1),
        "encoder_stride": (1, 2, 1),
        "decoder_channels": (7, 6, 5, 4),
        "decoder_scale": (1, 2, 1),
        "decoder_grow": (1, 1, 1),
    },
}
LATENTS = 6


def stream(codec, latents, cuts, save=False):
    """Decode piece by piece; ``save`` puts the state through its saved form every time."""
    bounds = sorted({0, *cuts, latents.shape[2]})
    state, pieces = codec.start(), []
    for start, stop in pairwise(bounds):
        if save:
            state = codec.load(*codec.save(state))
        pictures, state = codec.decode(latents[:, :, start:stop], state)
        pieces.append(pictures)
    return torch.cat(pieces, 1)


def frame_by_frame(layers, frames):
    """TAEHV spelt out: a list of frames in, a list of frames out, layer after layer."""
    for layer in layers:
        if isinstance(layer, nn.Conv2d | nn.ReLU | nn.Upsample):
            frames = [layer(frame) for frame in frames]
        elif not list(layer.parameters()):
            frames = [3 * torch.tanh(frame / 3) for frame in frames]
        elif isinstance(layer.conv, nn.Sequential):
            before = [torch.zeros_like(frames[0]), *frames]
            frames = [
                torch.relu(layer.conv(torch.cat((frame, past), 1)) + frame)
                for frame, past in zip(frames, before[:-1], strict=True)
            ]
        else:
            channels = frames[0].shape[1]
            pool = layer.conv.in_channels // channels
            folded = [
                torch.cat(frames[start : start + pool], 1) for start in range(0, len(frames), pool)
            ]
            frames = [part for each in folded for part in layer.conv(each).split(channels, 1)]
    return frames


@pytest.mark.parametrize("layout", LAYOUTS)
def test_coding_is_that_of_taehv(layout, make_codec):
    codec = make_codec(**LAYOUTS[layout], latents_mean=(), latents_std=(), frames_to_trim=1)
    clip = torch.rand(2, 4 * codec.temporal, 3, 2 * codec.spatial, 3 * codec.spatial)
    folded = [functional.pixel_unshuffle(frame, 2) for frame in clip.unbind(1)]
    expected = torch.stack(frame_by_frame(codec.encoder, folded), 2)
    torch.testing.assert_close(codec.encode(clip), expected, rtol=1e-4, atol=1e-5)
    latents = 5 * torch.randn(2, 4, 3, 2, 3)
    grown = frame_by_frame(codec.decoder, latents.unbind(2))
    expected = torch.stack([functional.pixel_shuffle(frame, 2) for frame in grown], 1).clamp(0, 1)
    torch.testing.assert_close(codec.decode(latents)[0], expected[:, 1:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("patch_size", [1, 2])
@pytest.mark.parametrize("frames_to_trim", [0, 1, 3])
def test_streamed_decode_equals_whole_clip_decode(layout, patch_size, frames_to_trim, make_codec):
    codec = make_codec(**LAYOUTS[layout], patch_size=patch_size, frames_to_trim=frames_to_trim)
    latents = torch.randn(2, 4, LATENTS, 3, 5)
    whole, _ = codec.decode(latents)
    frames, pixels = LATENTS * codec.temporal - frames_to_trim, codec.spatial
    assert whole.shape == (2, frames, 3, 3 * pixels, 5 * pixels)
    assert whole.std() > 0.01
    for cuts in ([1, 2, 3, 4, 5], [3], [1], [5], [2, 4]):
        torch.testing.assert_close(stream(codec, latents, cuts), whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_settled_decoder_gives_the_same_pictures_and_has_the_same_weights(layout, make_codec):
    codec = make_codec(**LAYOUTS[layout], frames_to_trim=1)
    latents = torch.randn(2, 4, LATENTS, 3, 5)
    whole, _ = codec.decode(latents)
    weights = {name: each.clone() for name, each in codec.state_dict().items()}
    calls = []
    for module in codec.decoder:
        module.register_forward_hook(lambda module, given, out: calls.append(type(module)))
    codec.settle(torch.device("cpu"))
    torch.testing.assert_close(stream(codec, latents, [1, 3]), whole, rtol=1e-4, atol=1e-5)
    assert nn.Upsample not in calls
    assert codec.state_dict().keys() == weights.keys()
    assert all(torch.equal(each, weights[name]) for name, each in codec.state_dict().items())


@settings(deadline=None)
@given(cuts=st.sets(st.integers(1, LATENTS - 1)), save=st.booleans(), seed=st.integers(0, 9))
def test_any_split_of_a_stream_gives_the_same_pictures(cuts, save, seed, make_codec):
    codec = make_codec(frames_to_trim=3)
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn(1, 4, LATENTS, 2, 3, generator=generator)
    whole, _ = codec.decode(latents)
    streamed = stream(codec, latents, cuts, save)
    torch.testing.assert_close(streamed, whole, rtol=1e-4, atol=1e-5)


def test_saved_state_continues_with_the_same_bits(make_codec):
    codec = make_codec()
    latents = torch.randn(1, 4, LATENTS, 2, 3)
    cuts = range(1, LATENTS)
    assert torch.equal(stream(codec, latents, cuts, save=True), stream(codec, latents, cuts))


def test_decode_does_not_change_the_state_it_is_given(make_codec):
    codec = make_codec(frames_to_trim=1)
    latents = torch.randn(1, 4, 3, 2, 3)
    _, state = codec.decode(latents[:, :, :1])
    kept = [memory.clone() for memory in state.memory], state.trim
    first, _ = codec.decode(latents[:, :, 1:], state)
    assert all(map(torch.equal, kept[0], state.memory))
    assert kept[1] == state.trim
    assert torch.equal(codec.decode(latents[:, :, 1:], state)[0], first)


def test_state_does_not_grow(make_codec):
    codec = make_codec(frames_to_trim=3)
    state, sizes = codec.start(), set()
    for _ in range(20):
        _, state = codec.decode(torch.randn(1, 4, 2, 2, 3), state)
        sizes.add(sum(memory.nbytes for memory in state.memory))
        for memory in state.memory:  # not a view of all that was decoded
            assert memory.untyped_storage().nbytes() == memory.nbytes
    assert len(sizes) == 1
    assert state.trim == 0


def test_later_frames_never_reach_back(make_codec):
    codec = make_codec()
    latents = torch.randn(1, 4, 4, 2, 3)
    changed = latents.clone()
    changed[:, :, 2:] += 1
    before, after = codec.decode(latents)[0], codec.decode(changed)[0]
    assert torch.equal(before[:, :4], after[:, :4])
    assert (before[:, 4:] - after[:, 4:]).abs().max() > 0.01


@pytest.mark.parametrize("layout", LAYOUTS)
def test_encode_of_a_whole_clip_has_the_latents_shape(layout, make_codec):
    codec = make_codec(**LAYOUTS[layout])
    frames = torch.rand(2, 3 * codec.temporal, 3, 4 * codec.spatial, 2 * codec.spatial)
    assert codec.encode(frames).shape == (2, 4, 3, 4, 2)


def test_clips_of_a_batch_are_coded_apart(make_codec):
    codec = make_codec()
    frames = torch.rand(3, 4, 3, 8, 8)
    together = codec.encode(frames)
    alone = torch.cat([codec.encode(clip[None]) for clip in frames])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    pictures = codec.decode(together)[0]
    alone = torch.cat([codec.decode(clip[None])[0] for clip in together])
    torch.testing.assert_close(pictures, alone, rtol=1e-4, atol=1e-5)


def test_latents_are_normalised_by_the_statistics_of_the_config(make_codec):
    statistics = {"latents_mean": (1.0, 2.0, 3.0, 4.0), "latents_std": (0.5, 1.0, 2.0, 4.0)}
    plain, scaled = (
        make_codec(**each) for each in ({"latents_mean": (), "latents_std": ()}, statistics)
    )
    frames = torch.rand(1, 4, 3, 8, 8)
    mean, std = (torch.tensor(each).view(1, 4, 1, 1, 1) for each in statistics.values())
    raw = plain.encode(frames)
    torch.testing.assert_close(scaled.encode(frames), (raw - mean) / std)
    decoded = scaled.decode((raw - mean) / std)[0]
    torch.testing.assert_close(decoded, plain.decode(raw)[0], rtol=1e-4, atol=1e-5)


def test_default_layout_is_that_of_taehv():
    with torch.device("meta"):
        shapes = {
            name: tuple(each.shape)
            for name, each in TinyCodec(TinyCodecConfig()).state_dict().items()
        }
    expected = {}

    def conv(at, inputs, outputs, kernel=3, bias=True):
        expected[f"{at}.weight"] = (outputs, inputs, kernel, kernel)
        if bias:
            expected[f"{at}.bias"] = (outputs,)

    def blocks(part, places, width):
        for place in places:
            for layer, inputs in ((0, 2 * width), (2, width), (4, width)):
                conv(f"{part}.{place}.conv.{layer}", inputs, width)

    conv("encoder.0", 3, 64)
    for pool, place, stride in ((2, 2, 3), (2, 7, 8), (1, 12, 13)):
        conv(f"encoder.{place}.conv", 64 * pool, 64, kernel=1, bias=False)
        conv(f"encoder.{stride}", 64, 64, bias=False)
        blocks("encoder", range(stride + 1, stride + 4), 64)
    conv("encoder.17", 64, 16)
    conv("decoder.1", 16, 256)
    stages = ((256, 128, 1, 7), (128, 64, 2, 13), (64, 64, 2, 19))
    for width, after, grow, place in stages:
        blocks("decoder", range(place - 4, place - 1), width)
        conv(f"decoder.{place}.conv", width, width * grow, kernel=1, bias=False)
        conv(f"decoder.{place + 1}", width, after, bias=False)
    conv("decoder.22", 64, 3)
    assert shapes == expected


def test_default_sizes_are_those_of_wan():
    config = TinyCodecConfig()
    assert (config.temporal, config.spatial) == (4, 8)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"encoder_pool": (2,)}, "encoder"),
        ({"encoder_stride": (2, 1, 1)}, "encoder"),
        ({"decoder_grow": (2, 1, 1)}, "decoder"),
        ({"decoder_scale": ()}, "decoder"),
        ({"latents_mean": (0.0,)}, "latents_mean"),
        ({"latents_std": (1.0,) * 5}, "latents_std"),
        ({"encoder_pool": (4, 1)}, "frames"),
        ({"encoder_stride": (2, 2)}, "pixels"),
    ],
)
def test_sizes_that_do_not_fit_together_are_refused(change, named, tiny):
    with pytest.raises(ValueError, match=named):
        replace(tiny.codec, **change)


def test_a_codec_with_channels_last_decodes_with_channels_last_all_through(make_codec):
    """A layer that falls out of the layout costs a slow copy of every frame."""
    codec = TinyCodec(TinyCodecConfig()).eval().to(memory_format=torch.channels_last)
    strides = []

    def note(module, arguments):
        strides.append(arguments[0].stride(1))

    first, *later = (each for each in codec.decoder.modules() if isinstance(each, nn.Conv2d))
    assert first.in_channels == codec.channels  # latents come as they like, and are small
    for each in later:
        each.register_forward_pre_hook(note)
    state = codec.start()
    for _ in range(2):
        _, state = codec.decode(torch.rand(1, codec.channels, 1, 4, 6), state)
    assert strides == [1] * 2 * len(later)
