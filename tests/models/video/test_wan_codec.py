"""Wan's own codec as a stream, against diffusers' decode of the whole clip."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from diffusers import AutoencoderKLWan
from torch.nn import functional as F

from longtake.models.video import wan_decoder
from longtake.models.video.wan_codec import WanCodec

LATENTS = 5


@pytest.fixture(scope="module")
def vae():
    torch.manual_seed(0)
    made = AutoencoderKLWan(
        base_dim=4,
        z_dim=3,
        num_res_blocks=1,
        latents_mean=[0.1, -0.3, 0.2],
        latents_std=[1.5, 0.5, 2.0],
    )
    for name, parameter in made.named_parameters():
        if name.endswith("gamma"):  # which are 1 before training
            parameter.data.uniform_(0.5, 1.5)
    return made.eval().requires_grad_(requires_grad=False)


@pytest.fixture(scope="module")
def codec(vae):
    return WanCodec(vae)


@pytest.fixture(scope="module")
def latents():
    return torch.randn(1, 3, LATENTS, 2, 3, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def whole(vae, latents):
    """Pictures that diffusers makes of the whole clip."""
    mean, std = (
        torch.tensor(each).view(1, 3, 1, 1, 1)
        for each in (vae.config.latents_mean, vae.config.latents_std)
    )
    with torch.no_grad():
        pictures = vae.decode(latents * std + mean).sample
    return (pictures.transpose(1, 2) + 1) / 2


def stream(codec, latents, cuts, between=lambda state: state):
    """Decode piece by piece."""
    state, pieces = codec.start(), []
    for start, stop in pairwise((0, *cuts, latents.shape[2])):
        pictures, state = codec.decode(latents[:, :, start:stop], between(state))
        pieces.append(pictures)
    return torch.cat(pieces, 1)


@pytest.mark.parametrize("cuts", [(), (1,), (2,), (4,), (1, 3), (1, 2, 3, 4)], ids=str)
def test_streamed_decode_equals_whole_clip_decode(cuts, codec, latents, whole):
    streamed = stream(codec, latents, cuts)
    assert streamed.shape == (1, 4 * LATENTS - 3, 3, 16, 24)
    torch.testing.assert_close(streamed, whole, rtol=1e-4, atol=1e-5)
    assert whole.std() > 0.01


@pytest.mark.parametrize("cuts", [(), (1, 2, 3, 4), (3,)], ids=str)
def test_films_side_by_side_are_decoded_each_as_if_alone(cuts, codec, latents, whole):
    pictures = stream(codec, torch.cat((latents.flip(2), latents)), cuts)
    torch.testing.assert_close(pictures[1:], whole, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(pictures[:1], whole, atol=0.01)


def test_weights_keep_their_values_when_they_are_laid_out(vae):
    before = {name: each.clone() for name, each in vae.state_dict().items()}
    WanCodec(vae)
    assert vae.decoder.conv_in.weight.permute(wan_decoder.FOLDED).is_contiguous()
    assert all(torch.equal(each, before[name]) for name, each in vae.state_dict().items())


def test_enlarging_is_a_convolution_over_four_pixels_for_each():
    x, weight, bias = torch.randn(2, 3, 5, 4, 6), torch.randn(7, 6, 3, 3), torch.randn(7)
    wide = F.interpolate(x.flatten(0, 1).movedim(-1, 1), scale_factor=2.0, mode="nearest")
    expected = F.conv2d(wide, weight, bias, padding=1).movedim(1, -1).unflatten(0, (2, 3))
    torch.testing.assert_close(wan_decoder.enlarge(x, weight, bias), expected, rtol=1e-4, atol=1e-5)


def test_saved_state_continues_with_the_same_bits(codec, latents):
    cuts = range(1, LATENTS)
    saved = stream(codec, latents, cuts, between=lambda state: codec.load(*codec.save(state)))
    assert torch.equal(saved, stream(codec, latents, cuts))


def test_two_streams_of_one_codec_do_not_touch_each_other(codec, latents, whole):
    states = [codec.start(), codec.start()]
    pieces = [[], []]
    for index in range(LATENTS):
        for which, part in enumerate((latents, latents.flip(2))):
            pictures, states[which] = codec.decode(part[:, :, index : index + 1], states[which])
            pieces[which].append(pictures)
        codec.start()
    torch.testing.assert_close(torch.cat(pieces[0], 1), whole, rtol=1e-4, atol=1e-5)


def test_decode_does_not_change_the_state_it_is_given(codec, latents):
    _, state = codec.decode(latents[:, :, :2])
    again = [codec.decode(latents[:, :, 2:], state)[0] for _ in range(2)]
    assert torch.equal(*again)


def test_state_does_not_grow(codec, latents):
    state, sizes = codec.start(), []
    for index in range(8):
        _, state = codec.decode(latents[:, :, index % LATENTS][:, :, None], state)
        tensors, _ = codec.save(state)
        sizes.append(sum(tensor.untyped_storage().nbytes() for tensor in tensors.values()))
    assert len(set(sizes[2:])) == 1


def test_sizes_are_those_of_the_config(codec):
    assert (codec.temporal, codec.spatial) == (4, 8)
    small = AutoencoderKLWan(
        base_dim=4, z_dim=3, num_res_blocks=1, dim_mult=[1, 1, 1],
        temperal_downsample=[True, False],
        latents_mean=[0.0] * 3, latents_std=[1.0] * 3,
    )  # fmt: skip
    codec = WanCodec(small.eval())
    pictures, _ = codec.decode(torch.randn(1, 3, 3, 2, 2))
    assert pictures.shape == (1, 1 + 2 * codec.temporal, 3, 2 * codec.spatial, 2 * codec.spatial)


@pytest.mark.parametrize(
    "other",
    [{"patch_size": 2, "in_channels": 12, "out_channels": 12}, {"is_residual": True}],
    ids=["patch_size", "is_residual"],
)
def test_another_architecture_is_refused(other):
    statistics = {"latents_mean": [0.0] * 3, "latents_std": [1.0] * 3}
    vae = AutoencoderKLWan(base_dim=4, z_dim=3, num_res_blocks=1, **other, **statistics)
    with pytest.raises(ValueError, match=next(iter(other))):
        WanCodec(vae)
