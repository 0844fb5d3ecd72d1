"""A Triton kernel for int8 matrix products, scales and bias in its epilogue."""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from longtake.kernels.descriptors import described, moves_tiles, whole_rows
from longtake.kernels.reference import Quantized

# Rows, columns and depth of a tile, warps, stages: what an H100 tries for a shape it first meets. A
# unit has room for two programs of the first, so that one multiplies while the other ends.
_TILES = (
    (128, 128, 128, 4, 3),
    (128, 256, 128, 8, 3),
    (128, 128, 64, 4, 4),
    (64, 128, 128, 4, 3),
    (64, 64, 128, 4, 3),
)


def _configurations() -> list[triton.Config]:
    """All, or in the interpreter, where there is nothing to measure, one that is small."""
    tiles = ((32, 32, 32, 4, 1),) if triton.knobs.runtime.interpret else _TILES
    return [
        triton.Config(
            {"ROWS": rows, "COLUMNS": columns, "DEPTH": depth},
            num_warps=warps,
            num_stages=stages,
            pre_hook=_cut,
        )
        for rows, columns, depth, warps, stages in tiles
    ]


def _cut(arguments: dict[str, Any]) -> None:
    """Into tiles of the sizes that are tried."""
    if not arguments["DESCRIBED"]:
        return
    rows, columns, depth = (arguments[name] for name in ("ROWS", "COLUMNS", "DEPTH"))
    arguments["x"].block_shape = [rows, depth]
    arguments["weight"].block_shape = [columns, depth]
    arguments["out"].block_shape = [rows, columns]


# Sums of int8 products are exact, so which tile wins changes the speed and no bit.
@triton.autotune(_configurations(), key=["outputs", "INPUTS"])
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
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
    GROUP: tl.constexpr,
    DESCRIBED: tl.constexpr,
) -> None:
    """out = (x @ weight.T) * x_scale * weight_scale + bias, one tile a program."""
    if not DESCRIBED:
        x = tl.make_tensor_descriptor(x, [tokens, INPUTS], [INPUTS, 1], [ROWS, DEPTH])
        weight = tl.make_tensor_descriptor(weight, [outputs, INPUTS], [INPUTS, 1], [COLUMNS, DEPTH])
        out = tl.make_tensor_descriptor(out, [tokens, WIDTH], [WIDTH, 1], [ROWS, COLUMNS])
    # Groups of rows go through the columns together, so that both operands stay in the L2 cache.
    tall, wide = tl.cdiv(tokens, ROWS), tl.cdiv(outputs, COLUMNS)
    group = tl.program_id(0) // (GROUP * wide)
    within = tl.program_id(0) % (GROUP * wide)
    height = tl.minimum(tall - group * GROUP, GROUP)
    top, left = (group * GROUP + within % height) * ROWS, within // height * COLUMNS
    row, column = top + tl.arange(0, ROWS), left + tl.arange(0, COLUMNS)
    # Before the products, so that nothing is waited for after them.
    by_row = tl.load(x_scale + row, row < tokens, 0.0)
    by_column = tl.load(weight_scale + column, column < outputs, 0.0)
    added = tl.load(bias + column, column < outputs, 0.0)
    products = tl.zeros((ROWS, COLUMNS), tl.int32)
    for start in range(0, INPUTS, DEPTH):
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

    def grid(tile: dict[str, int]) -> tuple[int]:
        return (triton.cdiv(tokens, tile["ROWS"]) * triton.cdiv(outputs, tile["COLUMNS"]),)

    _linear[grid](
        # Their tiles are those of the configuration.
        described(values.flatten(0, -2), (1, 1)),
        x.scale.contiguous(),
        described(rows, (1, 1)),
        weight_scale.contiguous(),
        bias.contiguous(),
        described(out.flatten(0, -2), (1, 1)),
        tokens,
        outputs,
        INPUTS=rows.shape[1],
        WIDTH=out.shape[-1],
        GROUP=4,
        DESCRIBED=moves_tiles(out.device),
    )
    return out[..., :outputs].contiguous()
