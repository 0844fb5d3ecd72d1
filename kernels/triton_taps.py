"""A Triton kernel between two convolutions over time: bias, residual, norm and SiLU in one pass.

It writes where the next convolution reads, so that no frames are joined afterwards. A program has
a few tokens of a frame, all their channels at once, and computes in float32.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from longtake.kernels.reference import TAPS

_ELEMENTS = 4096
"""That a program has, about; a token has few channels where there are many tokens."""


@triton.jit
def _norm_silu_write(
    x: tl.tensor,
    residual: tl.tensor,
    bias: tl.tensor,
    weight: tl.tensor,
    out: tl.tensor,
    frames: int,
    tokens: int,
    eps: float,
    CHANNELS: tl.constexpr,
    TAPS: tl.constexpr,
    ADD: tl.constexpr,
    BIASED: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """x += bias + residual, if there is one; out = silu(norm(sum) * weight), for each tap."""
    token = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    channel = tl.arange(0, BLOCK)
    known = channel < CHANNELS
    inside = (token < tokens)[:, None] & known[None, :]
    batch, frame = tl.program_id(1) // frames, tl.program_id(1) % frames
    start = tl.program_id(1).to(tl.int64) * tokens * CHANNELS
    at = start + token[:, None] * CHANNELS + channel[None, :]
    wide = tl.load(x + at, inside, 0.0).to(tl.float32)
    if BIASED:
        wide += tl.load(bias + channel, known, 0.0).to(tl.float32)[None, :]
    if ADD:
        wide += tl.load(residual + at, inside, 0.0).to(tl.float32)
        rounded = wide.to(x.dtype.element_ty)
        tl.store(x + at, rounded, inside)
        wide = rounded.to(tl.float32)
    factor = tl.load(weight + channel, known, 0.0).to(tl.float32)[None, :]
    normed = wide * tl.rsqrt(tl.sum(wide * wide, 1) / CHANNELS + eps)[:, None] * factor
    active = (normed * tl.sigmoid(normed)).to(out.dtype.element_ty)
    within = token[:, None] * (TAPS * CHANNELS) + channel[None, :]
    for tap in tl.static_range(TAPS):
        there = frame + TAPS - 1 - tap
        start = (batch * frames + there).to(tl.int64) * tokens * (TAPS * CHANNELS)
        tl.store(out + start + within + tap * CHANNELS, active, inside & (there < frames))


def norm_silu_write(
    x: Tensor, residual: Tensor | None, bias: Tensor | None, weight: Tensor, eps: float, out: Tensor
) -> Tensor:
    """See :func:`reference.norm_silu_write`."""
    batch, frames, tokens, channels = x.shape
    block = triton.next_power_of_2(channels)
    together = max(1, _ELEMENTS // block)
    # What a kernel does not touch still has to be a pointer.
    _norm_silu_write[triton.cdiv(tokens, together), batch * frames](
        x,
        x if residual is None else residual.contiguous(),
        weight if bias is None else bias,
        weight,
        out,
        frames,
        tokens,
        eps,
        CHANNELS=channels,
        TAPS=TAPS,
        ADD=residual is not None,
        BIASED=bias is not None,
        ROWS=together,
        BLOCK=block,
    )
    return out
