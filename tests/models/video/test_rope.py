"""Rotary positions: the split of the channels, and no last position."""

from __future__ import annotations

import pytest
import torch
from diffusers.models.transformers.transformer_wan import WanRotaryPosEmbed

from longtake.models.video.rope import RotaryEmbedding


@pytest.mark.parametrize("head_dim", [4, 10, 14, 16, 64, 128])
@pytest.mark.parametrize("grid", [(3, 5, 2), (1, 1, 1), (4, 2, 7)])
def test_equals_diffusers_table(head_dim, grid):
    frames, rows, columns = grid
    theirs = WanRotaryPosEmbed(head_dim, (1, 1, 1), 32)(torch.zeros(1, 1, *grid))
    ours = RotaryEmbedding(head_dim)(range(frames), rows, columns)
    assert ours.shape == (frames * rows * columns, head_dim // 2, 2)
    for index, table in enumerate(theirs):  # each number stands twice there
        torch.testing.assert_close(ours[..., index], table[0, :, 0, ::2].float())


def test_wan_shares_64_pairs_as_22_21_21():
    assert [len(each) for each in RotaryEmbedding(128).frequencies] == [22, 21, 21]


def test_far_positions_keep_the_same_distances_as_near_ones(kernels):
    embed = RotaryEmbedding(16)
    q, k = torch.randn(2, 1, 6, 1, 16)
    products = []
    for start in (0, 1_000_000):
        rotation = embed([start, start + 7], 1, 3)
        turned = [kernels.rope(each, rotation)[0, :, 0] for each in (q, k)]
        products.append(turned[0] @ turned[1].T)
    torch.testing.assert_close(products[1], products[0], rtol=1e-5, atol=1e-4)


def test_positions_may_come_in_any_order_and_leave_gaps():
    embed = RotaryEmbedding(12)
    together = embed([5, 0, 900], 2, 2).unflatten(0, (3, 4))
    for index, frame in enumerate((5, 0, 900)):
        assert torch.equal(together[index], embed([frame], 2, 2))
