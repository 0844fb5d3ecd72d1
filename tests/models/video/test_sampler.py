"""Noise levels, the steps between them, and noise that can be replayed."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from itertools import pairwise, product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from longtake.models.video import sampler


def test_four_steps_at_shift_5_are_the_published_timesteps():
    timesteps = [1000 * sigma for sigma in sampler.sigmas(4, 5.0)]
    assert timesteps == pytest.approx([1000, 937.5, 833.3333, 625])


@settings(deadline=None)
@given(st.integers(1, 50), st.floats(0.5, 12))
def test_levels_fall_from_one_and_stay_above_zero(steps, shift):
    levels = sampler.sigmas(steps, shift)
    assert len(levels) == steps
    assert levels[0] == pytest.approx(1)
    assert all(before > after > 0 for before, after in pairwise(levels))


def test_shift_of_one_leaves_the_levels_even():
    assert sampler.sigmas(4, 1.0) == pytest.approx((1, 0.75, 0.5, 0.25))


@pytest.mark.parametrize("steps", [0, -3])
def test_no_steps_are_refused(steps):
    with pytest.raises(ValueError, match=f"steps is {steps}"):
        sampler.sigmas(steps, 5.0)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_along_a_straight_flow_the_first_noise_alone_decides(steps):
    latents, noise = torch.randn(2, 3, 4)
    schedule = sampler.Schedule(sampler.sigmas(steps, 3.0), renoised=False)
    noisy = noise
    for step, sigma in enumerate(schedule.levels):
        torch.testing.assert_close(noisy, torch.lerp(latents, noise, sigma))
        noisy = schedule.after(step, noisy, noise - latents, {}.__getitem__)
    torch.testing.assert_close(noisy, latents)


def test_renoised_latents_come_to_the_next_level_by_that_steps_noise():
    latents, noise, other = torch.randn(3, 3, 4)
    schedule = sampler.Schedule((1.0, 0.25), renoised=True)
    noisy = schedule.after(0, noise, noise - latents, {1: other}.__getitem__)
    torch.testing.assert_close(noisy, 0.75 * latents + 0.25 * other)
    last = schedule.after(1, noisy, torch.ones(3, 4), {}.__getitem__)
    torch.testing.assert_close(last, noisy - 0.25)


@pytest.mark.parametrize("sigma", [0.0, 0.3, 1.0])
def test_clean_undoes_renoise_where_the_flow_is_known(sigma):
    latents, noise = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    noisy = sampler.renoise(latents, noise, sigma)
    torch.testing.assert_close(sampler.clean(noisy, noise - latents, sigma), latents)


def test_the_ends_of_the_noise_scale():
    latents, noise = torch.randn(5), torch.randn(5)
    assert torch.equal(sampler.renoise(latents, noise, 0.0), latents)
    assert torch.equal(sampler.renoise(latents, noise, 1.0), noise)
    assert torch.equal(sampler.clean(latents, noise, 0.0), latents)


def test_noise_depends_on_seed_chunk_and_step_and_on_nothing_else():
    keys = list(product((0, 1, -1, 2**63), (0, 1, 12), (0, 1, 12)))
    first = [sampler.noise((3, 5), *key) for key in keys]
    torch.manual_seed(123)
    torch.rand(7)
    again = [sampler.noise((3, 5), *key) for key in reversed(keys)][::-1]
    assert all(map(torch.equal, first, again))
    assert len({tuple(noise.flatten().tolist()) for noise in first}) == len(keys)


def test_noise_leaves_the_global_generator_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    sampler.noise((100,), 1, 2, 3)
    assert torch.equal(torch.rand(3), expected)


def test_noise_is_the_same_in_another_process_and_with_other_threads():
    code = (
        "import torch; torch.set_num_threads(2)\n"
        "from longtake.models.video.sampler import noise\n"
        "print(noise((1, 4, 3, 8, 8), 7, 3, 1).numpy().tobytes().hex())"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    ours = sampler.noise((1, 4, 3, 8, 8), 7, 3, 1)
    assert other.stdout.strip() == ours.numpy().tobytes().hex()


def test_noise_is_standard_normal_within_and_across_chunks():
    many = torch.stack([sampler.noise((64, 64), 7, chunk, 0) for chunk in range(50)])
    assert many.dtype == torch.float32
    assert abs(many.mean()) < 0.01
    assert abs(many.std() - 1) < 0.01
    assert abs((many**3).mean()) < 0.05
    assert abs((many**4).mean() - 3) < 0.1
    flat = many.flatten(1)
    correlation = flat @ flat.T / flat.shape[1]
    assert (correlation - torch.eye(50)).abs().max() < 0.15


@pytest.mark.parametrize("renoised", [True, False])
def test_a_folder_says_whether_noise_is_renewed_after_an_opening(make_generator, renoised):
    config = replace(make_generator(opening=6).config, renoised=renoised)
    assert not config.schedule(3, opening=True).renoised
    assert config.schedule(3, opening=False).renoised == renoised
    assert replace(config, opening=None).schedule(3, opening=True).renoised == renoised
