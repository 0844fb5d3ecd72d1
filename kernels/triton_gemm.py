"""A Triton kernel for int8 matrix products, scales and bias in its epilogue."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from longtake.kernels.descriptors import described, moves_tiles, whole_rows
from longtake.kernels.reference import Quantized

# Rows, columns and depth of a tile, in three stages by four warps: what an H100 is fastest with, as
# a unit has room for two programs, one of which multiplies while the other ends. Fixed, as tuned
# where it runs it is at times a tile that is a fifth slower; older GPUs have room for it too.
_SIDE = 128
_GROUP = 4
"""Rows of tiles that go through the columns together."""


@triton.jit
def _linear(
    x: tl.tensor_descriptor,
    x_scale: tl.tensor,
    weight: tl.tensor_descriptor,
    weight_scale: tl.tensor,
    bias: tl.tensor,
    out: tl.tensor_descriptor,
    tokens: int,
    outputs: int,
    INPUTS: tl.constexpr,
    WIDTH: tl.constexpr,
    SIDE: tl.constexpr,
    GROUP: tl.constexpr,
    DESCRIBED: tl.constexpr,
) -> None:
    """out = (x @ weight.T) * x_scale * weight_scale + bias, one tile a program."""
    if not DESCRIBED:
        x = tl.make_tensor_descriptor(x, [tokens, INPUTS], [INPUTS, 1], [SIDE, SIDE])
        weight = tl.make_tensor_descriptor(weight, [outputs, INPUTS], [INPUTS, 1], [SIDE, SIDE])
        out = tl.make_tensor_descriptor(out, [tokens, WIDTH], [WIDTH, 1], [SIDE, SIDE])
    # Groups of rows go through the columns together, so that both operands stay in the L2 cache.
    tall, wide = tl.cdiv(tokens, SIDE), tl.cdiv(outputs, SIDE)
    group = tl.program_id(0) // (GROUP * wide)
    within = tl.program_id(0) % (GROUP * wide)
    height = tl.minimum(tall - group * GROUP, GROUP)
    top, left = (group * GROUP + within % height) * SIDE, within // height * SIDE
    row, column = top + tl.arange(0, SIDE), left + tl.arange(0, SIDE)
    # Before the products, so that nothing is waited for after them.
    by_row = tl.load(x_scale + row, row < tokens, 0.0)
    by_column = tl.load(weight_scale + column, column < outputs, 0.0)
    added = tl.load(bias + column, column < outputs, 0.0)
    products = tl.zeros((SIDE, SIDE), tl.int32)
    for start in range(0, INPUTS, SIDE):
        # One after the other, so that they are waited for together.
        rows, columns = x.load([top, start]), weight.load([left, start])
        products = tl.dot(rows, columns.T, products, out_dtype=tl.int32)
    scaled = products.to(tl.float32) * by_row[:, None] * by_column[None, :]
    out.store([top, left], (scaled + added.to(tl.float32)[None, :]).to(out.dtype))


def int8_linear(x: Quantized, weight: Tensor, weight_scale: Tensor, bias: Tensor) -> Tensor:
    """See :func:`reference.int8_linear`."""
    outputs, tokens = len(weight), x.scale.numel()
    values, rows = whole_rows(x.values), whole_rows(weight)
    out = whole_rows(bias.new_empty(*x.values.shape[:-1], outputs))

    tile = (_SIDE, _SIDE)
    _linear[(triton.cdiv(tokens, _SIDE) * triton.cdiv(outputs, _SIDE),)](
        described(values.flatten(0, -2), tile),
        x.scale.contiguous(),
        described(rows, tile),
        weight_scale.contiguous(),
        bias.contiguous(),
        described(out.flatten(0, -2), tile),
        tokens,
        outputs,
        INPUTS=rows.shape[1],
        WIDTH=out.shape[-1],
        SIDE=_SIDE,
        GROUP=_GROUP,
        DESCRIBED=moves_tiles(out.device),
        num_warps=4,
        num_stages=3,
    )
    return out[..., :outputs].contiguous()
