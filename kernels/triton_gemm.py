"""A Triton kernel for int8 matrix products, scales and bias in its epilogue."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from longtake.kernels.reference import Quantized

# Rows, columns and depth of a tile, warps, stages: what an H100 tries for a shape it first meets.
_TILES = (
    (128, 128, 128, 8, 3),
    (128, 128, 128, 4, 4),
    (128, 256, 128, 8, 3),
    (256, 128, 128, 8, 3),
    (128, 128, 64, 4, 5),
    (64, 256, 128, 4, 4),
    (64, 128, 128, 4, 4),
)


def _configurations() -> list[triton.Config]:
    """All, or in the interpreter, where there is nothing to measure, one that is small."""
    tiles = ((32, 32, 32, 4, 1),) if triton.knobs.runtime.interpret else _TILES
    return [
        triton.Config(
            {"ROWS": rows, "COLUMNS": columns, "DEPTH": depth},
            num_warps=warps,
            num_stages=stages,
        )
        for rows, columns, depth, warps, stages in tiles
    ]


# Sums of int8 products are exact, so which tile wins changes the speed and no bit.
@triton.autotune(_configurations(), key=["outputs", "INPUTS"])
@triton.jit
def _linear(
    x: tl.tensor,
    x_scale: tl.tensor,
    weight: tl.tensor,
    weight_scale: tl.tensor,
    bias: tl.tensor,
    out: tl.tensor,
    tokens: int,
    outputs: int,
    INPUTS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
    GROUP: tl.constexpr,
) -> None:
    """out = (x @ weight.T) * x_scale * weight_scale + bias, one tile a program."""
    # Groups of rows go through the columns together, so that both operands stay in the L2 cache.
    tall, wide = tl.cdiv(tokens, ROWS), tl.cdiv(outputs, COLUMNS)
    group = tl.program_id(0) // (GROUP * wide)
    within = tl.program_id(0) % (GROUP * wide)
    height = tl.minimum(tall - group * GROUP, GROUP)
    row = (group * GROUP + within % height) * ROWS + tl.arange(0, ROWS)
    column = within // height * COLUMNS + tl.arange(0, COLUMNS)
    deep = tl.arange(0, DEPTH)
    # Past the edge the first rows are read again: their products are never stored.
    x += (row % tokens).to(tl.int64)[:, None] * INPUTS + deep[None, :]
    weight += (column % outputs).to(tl.int64)[None, :] * INPUTS + deep[:, None]
    products = tl.zeros((ROWS, COLUMNS), tl.int32)
    for start in range(0, INPUTS, DEPTH):
        inside = deep < INPUTS - start
        left = tl.load(x + start, inside[None, :], 0)
        right = tl.load(weight + start, inside[:, None], 0)
        products = tl.dot(left, right, products, out_dtype=tl.int32)
    scaled = products.to(tl.float32) * tl.load(x_scale + row, row < tokens, 0.0)[:, None]
    scaled *= tl.load(weight_scale + column, column < outputs, 0.0)[None, :]
    scaled += tl.load(bias + column, column < outputs, 0.0).to(tl.float32)[None, :]
    at = row.to(tl.int64)[:, None] * outputs + column[None, :]
    inside = (row < tokens)[:, None] & (column < outputs)[None, :]
    tl.store(out + at, scaled.to(out.dtype.element_ty), inside)


def int8_linear(x: Quantized, weight: Tensor, weight_scale: Tensor, bias: Tensor) -> Tensor:
    """See :func:`reference.int8_linear`."""
    outputs, inputs = weight.shape
    tokens = x.scale.numel()
    out = torch.empty((*x.values.shape[:-1], outputs), device=bias.device, dtype=bias.dtype)

    def grid(tile: dict[str, int]) -> tuple[int]:
        return (triton.cdiv(tokens, tile["ROWS"]) * triton.cdiv(outputs, tile["COLUMNS"]),)

    _linear[grid](
        x.values.contiguous(),
        x.scale.contiguous(),
        weight.contiguous(),
        weight_scale.contiguous(),
        bias.contiguous(),
        out,
        tokens,
        outputs,
        INPUTS=inputs,
        GROUP=8,
    )
    return out
