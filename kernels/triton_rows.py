"""Triton kernels that read each token once: residual, norm, GELU and quantising in one pass.

A program has one token, all its channels at once, and computes in float32.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from longtake.kernels.reference import GELU_CUBIC, GELU_SLOPE, SMALLEST, Quantized

_SMALLEST = tl.constexpr(SMALLEST)
_GELU_SLOPE, _GELU_CUBIC = tl.constexpr(GELU_SLOPE), tl.constexpr(GELU_CUBIC)


@triton.jit
def _scale(largest: tl.tensor) -> tl.tensor:
    """Of a token, whose largest magnitude becomes 127."""
    return tl.maximum(largest, _SMALLEST) / 127.0


@triton.jit
def _steps(wide: tl.tensor, scale: tl.tensor) -> tl.tensor:
    """The nearest int8."""
    return tl.floor(wide / scale + 0.5).to(tl.int8)


@triton.jit
def _store(
    out: tl.tensor,
    scales: tl.tensor,
    row: tl.tensor,
    at: tl.tensor,
    inside: tl.tensor,
    wide: tl.tensor,
    QUANTIZE: tl.constexpr,
) -> None:
    """Write a token: in int8 and its scale, or rounded to the dtype of `out`."""
    if QUANTIZE:
        scale = _scale(tl.max(tl.where(inside, tl.abs(wide), 0.0), 0))
        tl.store(scales + row, scale)
        tl.store(out + at, _steps(wide, scale), inside)
    else:
        tl.store(out + at, wide.to(out.dtype.element_ty), inside)


@triton.jit
def _norm(
    x: tl.tensor,
    y: tl.tensor,
    gate: tl.tensor,
    gate_stride: int,
    shift: tl.tensor,
    shift_stride: int,
    factor: tl.tensor,
    factor_stride: int,
    total: tl.tensor,
    out: tl.tensor,
    scales: tl.tensor,
    channels: int,
    frame_tokens: int,
    eps: float,
    GATED: tl.constexpr,
    MODULATE: tl.constexpr,
    QUANTIZE: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """total = x + y * gate, or y; out = norm(total) * factor + shift, 1 + factor to modulate."""
    row = tl.program_id(0).to(tl.int64)
    frame = row // frame_tokens
    channel = tl.arange(0, BLOCK)
    inside = channel < channels
    at = row * channels + channel
    wide = tl.load(x + at, inside, 0.0).to(tl.float32)
    more = tl.load(y + at, inside, 0.0).to(tl.float32)
    if GATED:
        more *= tl.load(gate + frame * gate_stride + channel, inside, 0.0).to(tl.float32)
    rounded = (wide + more).to(total.dtype.element_ty)
    tl.store(total + at, rounded, inside)
    wide = rounded.to(tl.float32)
    centred = tl.where(inside, wide - tl.sum(wide, 0) / channels, 0.0)
    normed = centred * tl.rsqrt(tl.sum(centred * centred, 0) / channels + eps)
    scale = tl.load(factor + frame * factor_stride + channel, inside, 0.0).to(tl.float32)
    if MODULATE:
        scale += 1.0
    offset = tl.load(shift + frame * shift_stride + channel, inside, 0.0).to(tl.float32)
    _store(out, scales, row, at, inside, normed * scale + offset, QUANTIZE)


@triton.jit
def _activated(at: tl.tensor, inside: tl.tensor, GELU: tl.constexpr) -> tl.tensor:
    """x, or gelu(x), in float32; 0 outside."""
    wide = tl.load(at, inside, 0.0).to(tl.float32)
    if GELU:
        wide /= 1.0 + tl.exp(-_GELU_SLOPE * (wide + _GELU_CUBIC * wide * wide * wide))
    return wide


@triton.jit
def _activate(
    x: tl.tensor,
    out: tl.tensor,
    scales: tl.tensor,
    channels: int,
    GELU: tl.constexpr,
    HEAD: tl.constexpr,
    TAIL: tl.constexpr,
) -> None:
    """out = x in int8, or gelu(x).

    In two parts: of one block over 8960 channels nearly half would be outside.
    """
    row = tl.program_id(0).to(tl.int64)
    head = row * channels + tl.arange(0, HEAD)
    after = HEAD + tl.arange(0, TAIL)
    tail, inside = row * channels + after, after < channels
    first = _activated(x + head, head >= 0, GELU)
    last = _activated(x + tail, inside, GELU)
    largest = tl.maximum(tl.max(tl.abs(first), 0), tl.max(tl.abs(last), 0))
    scale = _scale(largest)
    tl.store(scales + row, scale)
    tl.store(out + head, _steps(first, scale))
    tl.store(out + tail, _steps(last, scale), inside)


def gated_layer_norm(
    x: Tensor, y: Tensor, gate: Tensor, weight: Tensor, bias: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """See :func:`reference.gated_layer_norm`."""
    out = _like(x)
    return _run_norm(x, y, gate, bias, weight, eps, out), out


def gated_layer_norm_int8(
    x: Tensor, y: Tensor, gate: Tensor, weight: Tensor, bias: Tensor, eps: float
) -> tuple[Tensor, Quantized]:
    """See :func:`reference.gated_layer_norm_int8`."""
    out = _like_in_int8(x)
    return _run_norm(x, y, gate, bias, weight, eps, out), out


def added_modulate(
    x: Tensor, y: Tensor, shift: Tensor, scale: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """See :func:`reference.added_modulate`."""
    out = _like(x)
    return _run_norm(x, y, None, shift, scale, eps, out), out


def added_modulate_int8(
    x: Tensor, y: Tensor, shift: Tensor, scale: Tensor, eps: float
) -> tuple[Tensor, Quantized]:
    """See :func:`reference.added_modulate_int8`."""
    out = _like_in_int8(x)
    return _run_norm(x, y, None, shift, scale, eps, out), out


def gated_modulate(
    x: Tensor, y: Tensor, gate: Tensor, shift: Tensor, scale: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """See :func:`reference.gated_modulate`."""
    out = _like(x)
    return _run_norm(x, y, gate, shift, scale, eps, out), out


def gated_modulate_int8(
    x: Tensor, y: Tensor, gate: Tensor, shift: Tensor, scale: Tensor, eps: float
) -> tuple[Tensor, Quantized]:
    """See :func:`reference.gated_modulate_int8`."""
    out = _like_in_int8(x)
    return _run_norm(x, y, gate, shift, scale, eps, out), out


def quantize(x: Tensor) -> Quantized:
    """See :func:`reference.quantize`."""
    return _run_activation(x, gelu=False)


def gelu_int8(x: Tensor) -> Quantized:
    """See :func:`reference.gelu_int8`."""
    return _run_activation(x, gelu=True)


def _like(x: Tensor) -> Tensor:
    return torch.empty(x.shape, device=x.device, dtype=x.dtype)


def _like_in_int8(x: Tensor) -> Quantized:
    values = torch.empty(x.shape, device=x.device, dtype=torch.int8)
    return Quantized(values, torch.empty((*x.shape[:-1], 1), device=x.device))


def _run_norm(
    x: Tensor,
    y: Tensor,
    gate: Tensor | None,
    shift: Tensor,
    factor: Tensor,
    eps: float,
    out: Tensor | Quantized,
) -> Tensor:
    """Fill `out`; gives the sum.

    A factor for each frame modulates, one for all is a weight.
    """
    total = _like(x)
    # What a kernel does not touch still has to be a pointer.
    values, scales = out if isinstance(out, Quantized) else (out, out)
    channels = x.shape[-1]
    block = triton.next_power_of_2(channels)
    _norm[(x.numel() // channels,)](
        x.contiguous(),
        y.contiguous(),
        *_by_frame(shift if gate is None else gate),
        *_by_frame(shift),
        *_by_frame(factor),
        total,
        values,
        scales,
        channels,
        x.shape[-2],
        eps,
        GATED=gate is not None,
        MODULATE=factor.ndim > 1,
        QUANTIZE=isinstance(out, Quantized),
        BLOCK=block,
        num_warps=_warps(block),
    )
    return total


def _run_activation(x: Tensor, *, gelu: bool) -> Quantized:
    x = x.contiguous()
    out, channels = _like_in_int8(x), x.shape[-1]
    head = triton.next_power_of_2(channels + 1) // 2
    tail = triton.next_power_of_2(max(channels - head, 1))
    grid = (x.numel() // channels,)
    _activate[grid](x, *out, channels, GELU=gelu, HEAD=head, TAIL=tail, num_warps=_warps(head))
    return out


def _by_frame(vector: Tensor) -> tuple[Tensor, int]:
    """Vectors of all frames as a kernel reads them, and the elements from one to the next."""
    if vector.ndim == 1:
        return vector.contiguous(), 0
    # Those of a block come as views of one table: the same distance between any two, no copy.
    batch, frame, _, channel = vector.stride()
    if channel != 1 or batch != vector.shape[1] * frame:
        vector = vector.contiguous()
    return vector, vector.stride(1)


def _warps(block: int) -> int:
    return min(max(block // 512, 1), 16)
