"""A Triton kernel for attention over a cache, block by block.

Its tile is the map's block, so that a block that is not seen is never read. Softmax goes on the
way (FlashAttention, algorithm 1), in powers of two. Tiles and warps are fixed and not tuned where
it runs: others would add up in another order, and a film has to repeat.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from longtake.kernels.reference import BlockMap

# The least side of a tile that tensor cores multiply.
_LEAST_SIDE = 16


@triton.jit
def _attend(
    q: tl.tensor,
    k: tl.tensor,
    v: tl.tensor,
    block_keys: tl.tensor,
    counts: tl.tensor,
    out: tl.tensor,
    tokens: int,
    cache_tokens: int,
    most: int,
    heads: int,
    frame_tokens: int,
    size: int,
    softmax_scale: float,
    HEAD: tl.constexpr,
    WIDTH: tl.constexpr,
    TILE: tl.constexpr,
) -> None:
    """One block of queries of one head: out = softmax(q @ k.T * softmax_scale) @ v."""
    block = tl.program_id(0)
    batch, head = tl.program_id(1).to(tl.int64) // heads, tl.program_id(1) % heads
    apart, channel = tl.arange(0, TILE), tl.arange(0, WIDTH)
    in_head = channel < HEAD
    # Whatever may be beyond 31 bits is in where a block begins; from there on it is near.
    along = apart * heads
    by_row = along[:, None] * HEAD + channel[None, :]
    by_column = along[None, :] * HEAD + channel[:, None]
    blocks_a_frame = tl.cdiv(frame_tokens, size)
    start = block % blocks_a_frame * size
    asking = apart < tl.minimum(size, frame_tokens - start)
    first = batch * tokens + block // blocks_a_frame * frame_tokens + start
    first = first * heads + head
    wanted = asking[:, None] & in_head[None, :]
    query = tl.load(q + first * HEAD + by_row, wanted, 0.0)
    largest = tl.full((TILE,), float("-inf"), tl.float32)
    total = tl.zeros((TILE,), tl.float32)
    summed = tl.zeros((TILE, WIDTH), tl.float32)
    for index in range(tl.load(counts + block)):
        seen = tl.load(block_keys + block * most + index)
        start = seen % blocks_a_frame * size
        there = apart < tl.minimum(size, frame_tokens - start)
        begin = batch * cache_tokens + seen // blocks_a_frame * frame_tokens + start
        begin = begin * heads + head
        key = tl.load(k + begin * HEAD + by_column, there[None, :] & in_head[:, None], 0.0)
        scores = tl.dot(query, key, input_precision="ieee")
        scores = tl.where(there[None, :], scores, float("-inf"))
        new_largest = tl.maximum(largest, tl.max(scores, 1))
        # The scale is above 0, so the largest may be found first: this is one multiply-add.
        level = new_largest * softmax_scale
        weights = tl.exp2(scores * softmax_scale - level[:, None])
        shrunk = tl.exp2(largest * softmax_scale - level)
        total = total * shrunk + tl.sum(weights, 1)
        value = tl.load(v + begin * HEAD + by_row, there[:, None] & in_head[None, :], 0.0)
        summed = tl.dot(
            weights.to(value.dtype), value, summed * shrunk[:, None], input_precision="ieee"
        )
        largest = new_largest
    out += first * HEAD + by_row
    tl.store(out, (summed / total[:, None]).to(out.dtype.element_ty), wanted)


def block_attention(q: Tensor, k: Tensor, v: Tensor, blocks: BlockMap) -> Tensor:
    """See :func:`reference.block_attention`."""
    batch, slots, frame_tokens, heads, head_dim = k.shape
    out = torch.empty(q.shape, device=q.device, dtype=v.dtype)
    _attend[(len(blocks.counts), batch * heads)](
        q.contiguous(),
        k.contiguous(),
        v.contiguous(),
        blocks.keys.contiguous(),
        blocks.counts,
        out,
        q.shape[1],
        slots * frame_tokens,
        blocks.keys.shape[1],
        heads,
        frame_tokens,
        blocks.size,
        # In powers of two, e^x being 2^(x / ln 2).
        1 / (math.log(2) * math.sqrt(head_dim)),
        HEAD=head_dim,
        WIDTH=max(triton.next_power_of_2(head_dim), _LEAST_SIDE),
        TILE=max(triton.next_power_of_2(blocks.size), _LEAST_SIDE),
        num_warps=8,
        num_stages=2,
    )
    return out
