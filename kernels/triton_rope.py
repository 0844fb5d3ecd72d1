"""Triton kernels between projections and attention: norm, rotation, cache write."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _norm_rope_write(
    q: tl.tensor,
    k: tl.tensor,
    v: tl.tensor,
    q_weight: tl.tensor,
    k_weight: tl.tensor,
    rotation: tl.tensor,
    out: tl.tensor,
    keys: tl.tensor,
    values: tl.tensor,
    slots: tl.tensor,
    batch_stride: int,
    slot_stride: int,
    tokens: int,
    frame_tokens: int,
    channels: int,
    eps: float,
    HEAD: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """One token's queries, or its keys and values, by the second index of the program."""
    row = tl.program_id(0).to(tl.int64)
    token = row % tokens
    channel = tl.arange(0, BLOCK)
    inside = channel < channels
    at = row * channels + channel
    turns = tl.load(rotation + token * HEAD + channel % HEAD, inside, 0.0)
    if tl.program_id(1) == 0:
        turned = _turned(q + at, q_weight + channel, inside, turns, channels, eps, BLOCK)
        tl.store(out + at, turned.to(out.dtype.element_ty), inside)
    else:
        turned = _turned(k + at, k_weight + channel, inside, turns, channels, eps, BLOCK)
        slot = tl.load(slots + token // frame_tokens)
        place = row // tokens * batch_stride + slot * slot_stride
        place += token % frame_tokens * channels + channel
        tl.store(keys + place, turned.to(keys.dtype.element_ty), inside)
        tl.store(values + place, tl.load(v + at, inside).to(values.dtype.element_ty), inside)


@triton.jit
def _rope(
    x: tl.tensor,
    rotation: tl.tensor,
    out: tl.tensor,
    tokens: int,
    channels: int,
    HEAD: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """One token, all heads."""
    row = tl.program_id(0).to(tl.int64)
    channel = tl.arange(0, BLOCK)
    inside = channel < channels
    at = row * channels + channel
    turns = tl.load(rotation + row % tokens * HEAD + channel % HEAD, inside, 0.0)
    turned = _rotated(tl.load(x + at, inside, 0.0).to(tl.float32), turns, BLOCK)
    tl.store(out + at, turned.to(out.dtype.element_ty), inside)


@triton.jit
def _turned(
    x: tl.tensor,
    weight: tl.tensor,
    inside: tl.tensor,
    turns: tl.tensor,
    channels: int,
    eps: float,
    BLOCK: tl.constexpr,
) -> tl.tensor:
    """RMS norm and rotation of a token, in float32."""
    wide = tl.load(x, inside, 0.0).to(tl.float32)
    normed = wide * tl.rsqrt(tl.sum(wide * wide, 0) / channels + eps)
    normed *= tl.load(weight, inside, 0.0).to(tl.float32)
    return _rotated(normed, turns, BLOCK)


@triton.jit
def _rotated(x: tl.tensor, turns: tl.tensor, BLOCK: tl.constexpr) -> tl.tensor:
    """Pairs of channels as complex numbers, times the turns."""
    real, imaginary = tl.split(tl.reshape(x, (BLOCK // 2, 2)))
    cos, sin = tl.split(tl.reshape(turns, (BLOCK // 2, 2)))
    pairs = tl.join(real * cos - imaginary * sin, real * sin + imaginary * cos)
    return tl.reshape(pairs, (BLOCK,))


def rope(x: Tensor, rotation: Tensor) -> Tensor:
    """See :func:`reference.rope`."""
    batch, tokens, heads, head_dim = x.shape
    channels = heads * head_dim
    out = torch.empty(x.shape, device=x.device, dtype=x.dtype)
    sizes = _sizes(channels)
    _rope[(batch * tokens,)](
        x.contiguous(), rotation, out, tokens, channels, HEAD=head_dim, **sizes
    )
    return out


def norm_rope_write(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    q_weight: Tensor,
    k_weight: Tensor,
    eps: float,
    rotation: Tensor,
    keys: Tensor,
    values: Tensor,
    slots: Tensor,
) -> Tensor:
    """See :func:`reference.norm_rope_write`.

    Raises:
        ValueError: a slot of the cache is not one piece of memory, or keys and values differ.
    """
    batch, tokens, heads, head_dim = q.shape
    channels = heads * head_dim
    if not keys[0, 0].is_contiguous() or keys.stride() != values.stride():
        raise ValueError("keys and values have to lie alike, the tokens of a slot one by one")
    out = torch.empty(q.shape, device=q.device, dtype=keys.dtype)
    _norm_rope_write[(batch * tokens, 2)](
        q.contiguous(),
        k.contiguous(),
        v.contiguous(),
        q_weight,
        k_weight,
        rotation,
        out,
        keys,
        values,
        slots,
        keys.stride(0),
        keys.stride(1),
        tokens,
        keys.shape[2],
        channels,
        eps,
        HEAD=head_dim,
        **_sizes(channels),
    )
    return out


def _sizes(channels: int) -> dict[str, int]:
    block = triton.next_power_of_2(channels)
    return {"BLOCK": block, "num_warps": min(max(block // 512, 1), 16)}
