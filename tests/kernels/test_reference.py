"""The references themselves, against torch and against what they are defined to do."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from longtake.kernels import BlockMap, reference


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def rotation(positions, pairs):
    angles = positions[:, None].double() * 0.7 ** torch.arange(pairs).double()
    return torch.stack((angles.cos(), angles.sin()), -1).float()


def test_attention_equals_torchs():
    q, k, v = (torch.randn(2, length, 3, 8) for length in (5, 7, 7))
    heads_first = (each.transpose(1, 2) for each in (q, k, v))
    expected = F.scaled_dot_product_attention(*heads_first).transpose(1, 2)
    torch.testing.assert_close(reference.attention(q, k, v), expected)


def test_attention_does_not_depend_on_the_order_of_the_keys():
    q, k, v = (torch.randn(1, length, 2, 6) for length in (3, 9, 9))
    order = torch.randperm(9)
    shuffled = reference.attention(q, k[:, order], v[:, order])
    torch.testing.assert_close(shuffled, reference.attention(q, k, v))


def test_attention_to_a_single_key_is_its_value():
    q, k, v = (torch.randn(2, length, 3, 4) for length in (5, 1, 1))
    torch.testing.assert_close(reference.attention(q, k, v), v.expand(2, 5, 3, 4))


def blocks_of(*rows, size):
    """Each row the blocks that one block of queries sees; what pads them is out of range."""
    most = max(map(len, rows))
    keys = torch.tensor([[*row, *[99] * (most - len(row))] for row in rows], dtype=torch.int32)
    return BlockMap(keys, torch.tensor([len(row) for row in rows], dtype=torch.int32), size)


@pytest.mark.parametrize("size", [2, 5, 8])
def test_block_attention_to_all_blocks_is_attention(size):
    q, k, v = torch.randn(2, 10, 3, 8), torch.randn(2, 4, 5, 3, 8), torch.randn(2, 4, 5, 3, 8)
    in_frame = math.ceil(5 / size)
    blocks = blocks_of(*[range(4 * in_frame)] * 2 * in_frame, size=size)
    out = reference.block_attention(q, k, v, blocks)
    torch.testing.assert_close(out, reference.attention(q, k.flatten(1, 2), v.flatten(1, 2)))


def test_a_block_of_queries_sees_its_blocks_and_nothing_else():
    q, k, v = torch.randn(1, 5, 2, 8), torch.randn(1, 2, 5, 2, 8), torch.randn(1, 2, 5, 2, 8)
    # Frames of 5 in blocks of 3: tokens 0-2, 3-4 and 5-7, 8-9.
    out = reference.block_attention(q, k, v, blocks_of((0, 3), (2,), size=3))
    keys, values = k.flatten(1, 2), v.flatten(1, 2)
    for asking, seen in ((range(3), [0, 1, 2, 8, 9]), (range(3, 5), [5, 6, 7])):
        expected = reference.attention(q[:, asking], keys[:, seen], values[:, seen])
        torch.testing.assert_close(out[:, asking], expected)


def test_rope_keeps_the_norm_of_every_pair():
    x = torch.randn(2, 5, 3, 8)
    turned = reference.rope(x, rotation(torch.arange(5), 4))
    norms = (each.unflatten(-1, (-1, 2)).norm(dim=-1) for each in (turned, x))
    torch.testing.assert_close(*norms)


def test_scores_under_rope_depend_only_on_relative_position():
    q, k = torch.randn(1, 1, 1, 8), torch.randn(1, 1, 1, 8)

    def score(at, seen):
        turned = (
            reference.rope(each, rotation(torch.tensor([position]), 4))
            for each, position in ((q, at), (k, seen))
        )
        return math.prod(turned).sum()

    for shift in (1, 10, 1_000):
        torch.testing.assert_close(score(7 + shift, 3 + shift), score(7, 3), atol=1e-4, rtol=1e-4)
    assert not torch.isclose(score(8, 3), score(7, 3))


def test_rope_at_position_zero_changes_nothing():
    x = torch.randn(2, 3, 2, 6)
    assert torch.equal(reference.rope(x, rotation(torch.zeros(3), 3)), x)


def test_rope_turns_each_token_by_its_own_angle_whatever_the_head():
    x = torch.randn(2, 5, 3, 8)
    whole = reference.rope(x, table := rotation(torch.arange(5), 4))
    for token in range(5):
        for head in range(3):
            alone = reference.rope(
                x[:, token : token + 1, head : head + 1], table[token : token + 1]
            )
            assert torch.equal(whole[:, token : token + 1, head : head + 1], alone)


def test_rope_turns_a_pair_as_a_plane_rotation():
    quarter = torch.tensor([[[0.0, 1.0]]])
    turned = reference.rope(torch.tensor([[[[2.0, 3.0]]]]), quarter)
    torch.testing.assert_close(turned, torch.tensor([[[[-3.0, 2.0]]]]))


def test_rms_norm_equals_torchs_and_its_definition():
    x, weight = torch.randn(2, 5, 7), torch.randn(7)
    out = reference.rms_norm(x, weight, 1e-6)
    torch.testing.assert_close(out, F.rms_norm(x, (7,), weight, 1e-6))
    torch.testing.assert_close((out / weight).square().mean(-1), torch.ones(2, 5))


def test_layer_norm_has_mean_zero_and_variance_one_before_its_scale_and_bias():
    x, weight, bias = torch.randn(2, 5, 7) * 9 + 4, torch.randn(7), torch.randn(7)
    plain = (reference.layer_norm(x, weight, bias, 1e-6) - bias) / weight
    torch.testing.assert_close(plain.mean(-1), torch.zeros(2, 5), atol=1e-5, rtol=0)
    torch.testing.assert_close(plain.var(-1, correction=0), torch.ones(2, 5))


def test_modulation_by_nothing_is_a_plain_norm_and_a_shift_is_per_frame():
    x = torch.randn(2, 3, 5, 8)
    zeros, shift = torch.zeros(2, 3, 1, 8), torch.randn(2, 3, 1, 8)
    plain = reference.modulate(x, zeros, zeros, 1e-6)
    torch.testing.assert_close(plain, F.layer_norm(x, (8,), eps=1e-6))
    torch.testing.assert_close(reference.modulate(x, shift, zeros, 1e-6), plain + shift)
    doubled = reference.modulate(x, shift, zeros + 1, 1e-6)
    torch.testing.assert_close(doubled, 2 * plain + shift)


def test_a_gate_of_zero_leaves_the_residual_and_a_gate_of_one_adds_all():
    x, y = torch.randn(2, 3, 5, 8), torch.randn(2, 3, 5, 8)
    gate = torch.tensor([0.0, 1.0, -2.0]).expand(2, 3).reshape(2, 3, 1, 1).expand(2, 3, 1, 8)
    out = reference.gated_add(x, y, gate)
    expected = torch.stack((x[:, 0], x[:, 1] + y[:, 1], x[:, 2] - 2 * y[:, 2]), 1)
    torch.testing.assert_close(out, expected)


def test_gelu_equals_torchs_and_its_formula():
    x = torch.linspace(-6, 6, 101)
    out = reference.gelu(x)
    torch.testing.assert_close(out, F.gelu(x, approximate="tanh"))
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    torch.testing.assert_close(out, 0.5 * x * (1 + inner.tanh()))


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_a_convolution_over_time_reads_each_frame_and_the_two_before_it(frames):
    before, x = torch.randn(2, 2, 3, 4), torch.randn(2, frames, 3, 4)
    out = torch.full((2, frames, 3, 12), torch.nan)
    reference.write_taps(out, before, -2)
    reference.write_taps(out, x, 0)
    every = torch.cat((before, x), 1)
    assert torch.equal(out, torch.cat([every[:, tap : tap + frames] for tap in range(3)], -1))


def test_norm_and_silu_of_a_sum_are_written_behind_what_was_before():
    x, residual, bias, weight = (torch.randn(*s) for s in ((1, 3, 5, 8), (1, 3, 5, 8), (8,), (8,)))
    total = x + residual + bias
    expected = F.silu(F.normalize(total, dim=-1) * 8**0.5 * weight)
    out = torch.zeros(1, 3, 5, 24)
    assert reference.norm_silu_write(x, residual, bias, weight, 1e-24, out) is out
    torch.testing.assert_close(out[..., 16:], expected)
    torch.testing.assert_close(out[:, 2, :, :8], expected[:, 0])
    torch.testing.assert_close(x, total)
    assert not out[:, 0, :, :16].any()


def test_a_bias_alone_is_added_for_the_norm_only():
    x, bias = torch.randn(1, 1, 5, 8), torch.randn(8)
    kept, out = x.clone(), torch.zeros(1, 1, 5, 24)
    reference.norm_silu_write(x, None, bias, torch.ones(8), 1e-24, out)
    torch.testing.assert_close(out[..., 16:], F.silu(F.normalize(x + bias, dim=-1) * 8**0.5))
    assert torch.equal(x, kept)
