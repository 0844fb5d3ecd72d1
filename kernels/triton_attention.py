"""A Triton kernel for attention over a cache, block by block.

Its tiles are of the map's blocks, so that a block that is not seen is never read. Softmax goes on
the way (FlashAttention, algorithm 1), in powers of two. Tiles and warps are fixed and not tuned
where it runs: others would add up in another order, and a film has to repeat.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from longtake.kernels.descriptors import described, moves_tiles, whole_rows
from longtake.kernels.reference import FP8, BlockMap, result_dtype

# The least side of a tile that tensor cores multiply, and along which they multiply 8 bits.
_LEAST_SIDE, _LEAST_DEPTH = 16, 32
# The most keys of a block that are multiplied at a time: two programs fit on a unit of an H100, and
# one multiplies while the other computes its softmax.
_MOST_KEYS = 64


@triton.jit
def _described(
    x: tl.tensor,
    frames: int,
    heads: int,
    frame_tokens: int,
    STEP: tl.constexpr,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
) -> tl.tensor_descriptor:
    """As the host describes it: [all frames, tokens, all heads' channels]."""
    every, channels = tl.num_programs(0) // heads * frames, heads * STEP
    return tl.make_tensor_descriptor(
        x,
        [every, frame_tokens, channels],
        [frame_tokens * channels, channels, 1],
        [1, ROWS, WIDTH],
    )


@triton.jit
def _attend(
    q: tl.tensor_descriptor,
    k: tl.tensor_descriptor,
    v: tl.tensor_descriptor,
    block_keys: tl.tensor,
    counts: tl.tensor,
    out: tl.tensor,
    frames: int,
    held: int,
    most: int,
    heads: int,
    frame_tokens: int,
    size: int,
    softmax_scale: float,
    HEAD: tl.constexpr,
    STEP: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    KEYS: tl.constexpr,
    EVEN: tl.constexpr,
    DESCRIBED: tl.constexpr,
) -> None:
    """One block of queries of one head: out = softmax(q @ k.T * softmax_scale) @ v."""
    if not DESCRIBED:
        q = _described(q, frames, heads, frame_tokens, STEP, ROWS, WIDTH)
        k = _described(k, held, heads, frame_tokens, STEP, KEYS, WIDTH)
        v = _described(v, held, heads, frame_tokens, STEP, KEYS, WIDTH)
    # Heads side by side: they see the same blocks.
    batch, head = tl.program_id(0) // heads, tl.program_id(0) % heads
    block = tl.program_id(1)
    blocks_a_frame = tl.cdiv(frame_tokens, size)
    frame, first = block // blocks_a_frame, block % blocks_a_frame * size
    query = q.load([batch * frames + frame, first, head * STEP]).reshape(ROWS, WIDTH)
    apart, channel = tl.arange(0, KEYS), tl.arange(0, WIDTH)
    if STEP < WIDTH:
        # Beside a head narrower than its tile lie another's channels.
        query = tl.where((channel < STEP)[None, :], query, 0.0)
    largest = tl.full((ROWS,), float("-inf"), tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    summed = tl.zeros((ROWS, WIDTH), tl.float32)
    parts: tl.constexpr = ROWS // KEYS
    for index in range(tl.load(counts + block) * parts):
        seen = tl.load(block_keys + block * most + index // parts)
        slot = batch * held + seen // blocks_a_frame
        start, within = seen % blocks_a_frame * size, index % parts * KEYS
        there = apart < tl.minimum(size, frame_tokens - start) - within
        tile = [slot, start + within, head * STEP]
        key = k.load(tile).reshape(KEYS, WIDTH)
        scores = tl.dot(query, key.T, input_precision="ieee")
        if EVEN:
            # Beyond a frame the descriptor gives 0: a sum is a little faster than a choice.
            scores += tl.where(there, 0.0, float("-inf"))[None, :]
        else:
            # There lies what is not seen, whatever it is.
            scores = tl.where(there[None, :], scores, float("-inf"))
        new_largest = tl.maximum(largest, tl.max(scores, 1))
        # The scale is above 0, so the largest may be found first: this is one multiply-add.
        level = new_largest * softmax_scale
        weights = tl.exp2(scores * softmax_scale - level[:, None])
        shrunk = tl.exp2(largest * softmax_scale - level)
        total = total * shrunk + tl.sum(weights, 1)
        value = v.load(tile).reshape(KEYS, WIDTH)
        if value.dtype.primitive_bitwidth == 8:
            # Of 8 bits a product takes columns only, and these are rows.
            value = value.to(tl.float16)
        if not EVEN:
            value = tl.where(there[:, None], value, 0.0)
        summed = tl.dot(
            weights.to(value.dtype), value, summed * shrunk[:, None], input_precision="ieee"
        )
        largest = new_largest
    row = tl.arange(0, ROWS)
    asking = row < tl.minimum(size, frame_tokens - first)
    # Whatever may be beyond 31 bits is in where a block begins; from there on it is near.
    begin = (batch * frames + frame).to(tl.int64) * frame_tokens + first
    out += (begin * heads + head) * HEAD + row[:, None] * heads * HEAD + channel[None, :]
    inside = asking[:, None] & (channel < HEAD)[None, :]
    tl.store(out, (summed / total[:, None]).to(out.dtype.element_ty), inside)


def block_attention(q: Tensor, k: Tensor, v: Tensor, blocks: BlockMap) -> Tensor:
    """See :func:`reference.block_attention`."""
    batch, held, frame_tokens, heads, head_dim = k.shape
    out = torch.empty(q.shape, device=q.device, dtype=result_dtype(v.dtype))
    least = _LEAST_DEPTH if q.dtype == FP8 else _LEAST_SIDE
    width = max(triton.next_power_of_2(head_dim), least)
    rows = max(triton.next_power_of_2(blocks.size), _LEAST_SIDE)
    keys = min(rows, _MOST_KEYS)
    # [all frames, tokens, all heads' channels].
    queries, *seen = (
        whole_rows(each).flatten(-2).flatten(0, -2).unflatten(0, (-1, frame_tokens))
        for each in (q, k, v)
    )
    _attend[(batch * heads, len(blocks.counts))](
        described(queries, (1, rows, width)),
        *(described(each, (1, keys, width)) for each in seen),
        blocks.keys.contiguous(),
        blocks.counts,
        out,
        q.shape[1] // frame_tokens,
        held,
        blocks.keys.shape[1],
        heads,
        frame_tokens,
        blocks.size,
        # In powers of two, e^x being 2^(x / ln 2).
        1 / (math.log(2) * math.sqrt(head_dim)),
        HEAD=head_dim,
        STEP=queries.shape[-1] // heads,
        WIDTH=width,
        ROWS=rows,
        KEYS=keys,
        EVEN=blocks.size % keys == 0,
        DESCRIBED=moves_tiles(q.device),
        num_warps=4,
        num_stages=2,
    )
    return out
