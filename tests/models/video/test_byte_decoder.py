"""The tiny decoder with bytes gives nearly the pictures that it gives with floats."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from longtake.kernels import Steps, multiplies_bytes
from longtake.models.video.byte_decoder import squares
from longtake.models.video.byte_layers import ByteEnlarging
from longtake.models.video.load import load_generator
from longtake.weights import GENERATOR

CPU = torch.device("cpu")
pytestmark = pytest.mark.skipif(not multiplies_bytes(), reason="this CPU multiplies no bytes")


@pytest.fixture(scope="module")
def codecs():
    """The bundled one twice, the second with bytes."""
    return [
        load_generator(GENERATOR, CPU, torch.float32).codec.settle(CPU, int8=int8)
        for int8 in (False, True)
    ]


@pytest.fixture(scope="module")
def latents(codecs):
    """Of pictures that were in no calibration: a colour that fades into another, and a disc."""
    codec, _ = codecs
    height, width = 8 * codec.spatial, 12 * codec.spatial
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    frames = []
    for time in range(6 * codec.temporal):
        sky = torch.stack((rows / height, 0.4 + 0 * rows, 1 - rows / height))
        disc = (rows - 60) ** 2 + (columns - 40 - 3 * time) ** 2 < 400
        frames.append(torch.where(disc, torch.tensor([0.9, 0.2, 0.1])[:, None, None], sky))
    with torch.inference_mode():
        return codec.encode(torch.stack(frames)[None])


def psnr(a, b):
    return -10 * (a - b).square().mean().log10().item()


@torch.inference_mode()
def test_pictures_are_nearly_the_same(codecs, latents):
    plain, small = codecs
    assert (plain.int8, small.int8) == (False, True)
    frames = [codec.decode(latents)[0] for codec in codecs]
    assert psnr(*frames) > 38


@torch.inference_mode()
def test_a_stream_is_the_whole_clip_and_its_state_goes_through_a_file(codecs, latents):
    _, codec = codecs
    whole, _ = codec.decode(latents)
    state, pieces = codec.start(), []
    for piece in latents.split((1, 2, 3), dim=2):
        frames, state = codec.decode(piece, codec.load(*codec.save(state)))
        pieces.append(frames)
    assert torch.equal(torch.cat(pieces, 1), whole)


@torch.inference_mode()
@pytest.mark.parametrize("first", [0, 1])
def test_a_film_goes_on_with_the_other_kind(codecs, latents, first):
    before, after = codecs[first], codecs[1 - first]
    whole, _ = after.decode(latents)
    _, state = before.decode(latents[:, :, :3])
    rest, _ = after.decode(latents[:, :, 3:], after.load(*before.save(state)))
    assert psnr(rest, whole[:, 3 * after.temporal :]) > 38


@torch.inference_mode()
def test_enlarging_is_the_transposed_convolution():
    draw = torch.Generator().manual_seed(1)
    given = Steps.between(-1.0, 2.0)
    x = torch.randint(0, 256, (3, 5, 4, 6), generator=draw, dtype=torch.uint8)
    x = x.contiguous(memory_format=torch.channels_last)
    # Whole numbers, and in each of the four convolutions the largest: none is rounded.
    kernel = torch.randint(-127, 128, (5, 2 * 7, 4, 4), generator=draw).float()
    kernel[0, :, 1:3, 1:3] = 127
    found = F.conv_transpose2d(given.values(x), kernel, stride=2, padding=1)
    wanted = found.unflatten(1, (2, 7)).flatten(0, 1).relu()
    out = Steps.between(0.0, wanted.max().item())
    layer = ByteEnlarging(kernel, 2, given, out, relu=True)
    made = layer(x)
    assert made.is_contiguous(memory_format=torch.channels_last)
    assert (out.values(made) - wanted).abs().max() <= 0.51 * out.step


def test_it_is_served_for_whole_codecs_on_cpus(codecs, make_codec, monkeypatch):
    assert codecs[0].serves_int8(CPU)
    assert not codecs[0].serves_int8(torch.device("cuda"))
    twice = {"decoder_scale": (2, 2), "encoder_stride": (2, 2)}
    assert make_codec(**twice).serves_int8(CPU)
    assert not make_codec().serves_int8(CPU)
    alone = {"encoder_channels": (), "encoder_pool": (), "encoder_stride": ()}
    assert not make_codec(**twice | alone).serves_int8(CPU)
    assert not make_codec(**twice, blocks=0).serves_int8(CPU)
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"avx2": True})
    assert not codecs[0].serves_int8(CPU)


def test_what_it_is_set_by_is_the_same_at_every_start(codecs):
    codec, _ = codecs
    pictures = squares(codec)
    assert torch.equal(pictures, squares(codec))
    assert pictures.shape[3] % codec.spatial == pictures.shape[4] % codec.spatial == 0
    assert pictures.shape[1] % codec.temporal == 0
