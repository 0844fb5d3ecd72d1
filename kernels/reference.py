"""The meaning of every operation, in plain torch with float32 arithmetic.

Each function here is the reference its faster implementations are tested against. All tensors of
a call share one dtype, which is the output's, but for rotations, which are float32, and what is
in 8 bits.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

SMALLEST = 1e-12
"""The least that a token's largest magnitude is taken for, so that zeros have a scale."""
GELU_SLOPE, GELU_CUBIC = 2 * math.sqrt(2 / math.pi), 0.044715
"""Of GELU by tanh (Hendrycks and Gimpel 2016, section 2), where it is written as a sigmoid: that of
2 u is (1 + tanh u) / 2, so the slope is twice tanh's."""
FP8 = torch.float8_e4m3fn
"""4 bits of exponent and 3 of mantissa: up to 448, and to a sixteenth down to a 64th."""
TAPS = 3
"""Frames that a convolution over time sees: each one, and the two before it."""


class Quantized(NamedTuple):
    """Activations in 8 bits, each token with its own scale: ``values * scale``.

    Attributes:
        values: int8 in [-127, 127], [..., channels].
        scale: float32, [..., 1].
    """

    values: Tensor
    scale: Tensor


class BlockMap(NamedTuple):
    """Which blocks of keys each block of queries sees.

    Blocks are runs of ``size`` tokens within a frame; a frame's last one may be shorter. They are
    numbered frame by frame, those of keys by the slots of a cache.

    Attributes:
        keys: numbers of the blocks of keys that are seen, in the first ``counts`` columns; what
            comes after has no meaning. int32, [query_blocks, most].
        counts: how many each block of queries sees, 1 or more, int32, [query_blocks].
        size: tokens of a whole block.
    """

    keys: Tensor
    counts: Tensor
    size: int


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Softmax attention, unmasked: whoever calls passes just the keys that may be seen.

    Args:
        q: queries, [batch, queries, heads, head_dim].
        k: keys, [batch, keys, heads, head_dim].
        v: values, as ``k``.

    Returns:
        [batch, queries, heads, head_dim].
    """
    scores = torch.einsum("bqhd,bkhd->bhqk", q.float(), k.float()) / math.sqrt(q.shape[-1])
    return torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), v.float()).to(q.dtype)


def attention_fp8(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """:func:`attention` of queries, keys and values in 8-bit floating point.

    Args:
        q: float8_e4m3fn, as there.
        k: likewise.
        v: likewise.

    Returns:
        bfloat16; implementations may round weights and sums to float8_e4m3fn.
    """
    return attention(*(each.to(torch.bfloat16) for each in (q, k, v)))


def block_attention(q: Tensor, k: Tensor, v: Tensor, blocks: BlockMap) -> Tensor:
    """:func:`attention` of each block of queries to the blocks of keys that it sees.

    Args:
        q: queries, of whole frames, [batch, frames * frame_tokens, heads, head_dim].
        k: a cache of keys, read only where it is seen, [batch, slots, frame_tokens, heads,
            head_dim].
        v: values, as ``k``.
        blocks: which keys are seen, the same for all heads.

    Returns:
        As ``q``; bfloat16 where all are float8_e4m3fn.
    """
    frame_tokens, slots = k.shape[2], k.shape[1]
    seen = seen_tokens(blocks, slots, frame_tokens)
    keys, values = k.flatten(1, 2).float(), v.flatten(1, 2).float()
    out = torch.empty(q.shape, device=q.device, dtype=result_dtype(q.dtype))
    for block in range(len(blocks.counts)):
        asking = tokens_of(block, frame_tokens, blocks.size)
        unseen = ~seen[asking.start]
        scores = torch.einsum("bqhd,bkhd->bhqk", q[:, asking].float(), keys)
        scores = (scores / math.sqrt(q.shape[-1])).masked_fill(unseen, -torch.inf)
        # What is not seen may be anything, and nothing times NaN is NaN.
        told = values.masked_fill(unseen[:, None, None], 0.0)
        out[:, asking] = torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), told).to(out.dtype)
    return out


def result_dtype(dtype: torch.dtype) -> torch.dtype:
    """Of attention to keys and values of a dtype."""
    return torch.bfloat16 if dtype == FP8 else dtype


def seen_tokens(blocks: BlockMap, slots: int, frame_tokens: int) -> Tensor:
    """Which tokens of a cache each query sees, bool, [queries, slots * frame_tokens]."""
    in_frame = math.ceil(frame_tokens / blocks.size)
    columns = torch.arange(blocks.keys.shape[1], device=blocks.keys.device)
    # What has no meaning goes into one column more, which is left out.
    last = slots * in_frame
    keys = torch.where(columns < blocks.counts[:, None], blocks.keys, last).long()
    seen = torch.zeros(len(keys), last + 1, dtype=torch.bool, device=keys.device)
    seen.scatter_(1, keys, value=True)
    within = torch.arange(frame_tokens, device=keys.device) // blocks.size

    def block_of(frames: int) -> Tensor:
        first = torch.arange(frames, device=keys.device) * in_frame
        return (first[:, None] + within).flatten()

    return seen[block_of(len(keys) // in_frame)][:, block_of(slots)]


def tokens_of(block: int, frame_tokens: int, size: int) -> slice:
    """A block's tokens; see :class:`BlockMap`."""
    frame, within = divmod(block, math.ceil(frame_tokens / size))
    first = frame * frame_tokens + within * size
    return slice(first, min(first + size, (frame + 1) * frame_tokens))


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Root-mean-square norm over the last dimension: x / rms(x) * weight.

    Args:
        x: [..., channels].
        weight: [channels].
        eps: added to the mean square.
    """
    wide = x.float()
    rms = torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    return (wide * rms * weight.float()).to(x.dtype)


def rope(x: Tensor, rotation: Tensor) -> Tensor:
    """Rotary position embedding of interleaved pairs (RoFormer, section 3.2.2).

    Args:
        x: [batch, tokens, heads, head_dim].
        rotation: cosine and sine of each pair's angle, float32, [tokens, head_dim / 2, 2].
    """
    real, imaginary = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = rotation.unsqueeze(-3).unbind(-1)
    pairs = torch.stack((real * cos - imaginary * sin, real * sin + imaginary * cos), -1)
    return pairs.flatten(-2).to(x.dtype)


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Layer norm over the last dimension, with scale and bias.

    Args:
        x: [..., channels].
        weight: [channels].
        bias: [channels].
        eps: added to the variance.
    """
    return F.layer_norm(x.float(), x.shape[-1:], weight.float(), bias.float(), eps).to(x.dtype)


def modulate(x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
    """Adaptive layer norm (DiT, section 3.2): norm(x) * (1 + scale) + shift.

    Args:
        x: [batch, frames, tokens, channels].
        shift: one per frame, [batch, frames, 1, channels].
        scale: as ``shift``.
        eps: added to the variance.
    """
    normed = F.layer_norm(x.float(), x.shape[-1:], eps=eps)
    return (normed * (1 + scale.float()) + shift.float()).to(x.dtype)


def gated_add(x: Tensor, y: Tensor, gate: Tensor) -> Tensor:
    """Residual connection with a gate: x + y * gate.

    Args:
        x: [batch, frames, tokens, channels].
        y: as ``x``.
        gate: one per frame, [batch, frames, 1, channels].
    """
    return (x.float() + y.float() * gate.float()).to(x.dtype)


def gelu(x: Tensor) -> Tensor:
    """Gaussian error linear unit in its tanh form, elementwise."""
    return F.gelu(x.float(), approximate="tanh").to(x.dtype)


def linear_gelu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A linear layer, then :func:`gelu`.

    Args:
        x: [..., inputs].
        weight: [outputs, inputs].
        bias: [outputs].

    Returns:
        [..., outputs].
    """
    return gelu(F.linear(x, weight, bias))


def gated_layer_norm(
    x: Tensor, y: Tensor, gate: Tensor, weight: Tensor, bias: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """:func:`gated_add`, and :func:`layer_norm` of the sum as it is rounded.

    Returns:
        The sum and its norm, both as ``x``.
    """
    total = gated_add(x, y, gate)
    return total, layer_norm(total, weight, bias, eps)


def added_modulate(
    x: Tensor, y: Tensor, shift: Tensor, scale: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """Residual connection x + y, and :func:`modulate` of the sum as it is rounded.

    Returns:
        The sum and its modulated norm, both as ``x``.
    """
    total = x + y
    return total, modulate(total, shift, scale, eps)


def gated_modulate(
    x: Tensor, y: Tensor, gate: Tensor, shift: Tensor, scale: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """:func:`gated_add`, and :func:`modulate` of the sum as it is rounded.

    Returns:
        The sum and its modulated norm, both as ``x``.
    """
    total = gated_add(x, y, gate)
    return total, modulate(total, shift, scale, eps)


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
    """:func:`rms_norm` over all heads, then :func:`rope`, of queries and keys; keys and values
    are written into the cache, frame by frame.

    Args:
        q: as projected, [batch, tokens, heads, head_dim].
        k: as ``q``.
        v: as ``q``.
        q_weight: of the norm, [heads * head_dim].
        k_weight: as ``q_weight``.
        eps: of the norms.
        rotation: of every token, see :func:`rope`.
        keys: overwritten where ``slots`` says, [batch, all slots, frame_tokens, heads, head_dim];
            of the dtype of ``q``, or float8_e4m3fn.
        values: as ``keys``.
        slots: where each frame goes, int64, [tokens / frame_tokens].

    Returns:
        The rotated queries in the dtype of ``keys``, [batch, tokens, heads, head_dim].
    """
    frames = (len(slots), -1)
    turned = rope(rms_norm(k.flatten(-2), k_weight, eps).view_as(k), rotation)
    keys[:, slots] = as_kept(turned.unflatten(1, frames), keys.dtype)
    values[:, slots] = as_kept(v.unflatten(1, frames), values.dtype)
    return as_kept(rope(rms_norm(q.flatten(-2), q_weight, eps).view_as(q), rotation), keys.dtype)


def as_kept(x: Tensor, dtype: torch.dtype) -> Tensor:
    """In the dtype of a cache. What is too large for 8 bits becomes their largest, which torch 2.11
    would make no number of."""
    if dtype == FP8:
        most = torch.finfo(FP8).max
        x = x.clamp(-most, most)
    return x.to(dtype)


def norm_silu_write(
    x: Tensor, residual: Tensor | None, bias: Tensor | None, weight: Tensor, eps: float, out: Tensor
) -> Tensor:
    """:func:`rms_norm` and SiLU of a convolution's output, for the next convolution over time.

    Args:
        x: without the convolution's bias, contiguous, [batch, frames, tokens, channels]; where
            there is a residual, it becomes ``x + bias + residual``.
        residual: as ``x``, or None.
        bias: [channels], or None.
        weight: of the norm, [channels].
        eps: of the norm.
        out: written as :func:`write_taps` does, ``x`` being the frames from 0 on.

    Returns:
        ``out``.
    """
    total = x.float()
    if bias is not None:
        total = total + bias.float()
    if residual is not None:
        total = x.copy_(total + residual.float()).float()
    return write_taps(out, F.silu(rms_norm(total, weight.float(), eps)), 0)


def write_taps(out: Tensor, frames: Tensor, first: int) -> Tensor:
    """Lay frames where a causal convolution over time reads them.

    Args:
        out: beside each frame the two before it, oldest first, contiguous, [batch, frames, ...,
            TAPS * channels].
        frames: [batch, some, ..., channels].
        first: number of the first of them; -2 and -1 are those before.

    Returns:
        ``out``.
    """
    for tap, part in enumerate(out.chunk(TAPS, -1)):
        start = first + TAPS - 1 - tap
        here = frames[:, max(0, -start) : max(0, out.shape[1] - start)]
        part.narrow(1, min(max(0, start), out.shape[1]), here.shape[1]).copy_(here)
    return out


def quantize(x: Tensor) -> Quantized:
    """Symmetric int8, the largest magnitude of each token becoming 127.

    Args:
        x: [..., channels].
    """
    wide = x.float()
    scale = wide.abs().amax(-1, keepdim=True).clamp_min(SMALLEST) / 127
    return Quantized((wide / scale).round().to(torch.int8), scale)


def modulate_int8(x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Quantized:
    """:func:`modulate`, then :func:`quantize` with no rounding between."""
    return quantize(modulate(x.float(), shift, scale, eps))


def gated_layer_norm_int8(
    x: Tensor, y: Tensor, gate: Tensor, weight: Tensor, bias: Tensor, eps: float
) -> tuple[Tensor, Quantized]:
    """:func:`gated_layer_norm`, its norm through :func:`quantize` with no rounding between."""
    total = gated_add(x, y, gate)
    return total, quantize(layer_norm(total.float(), weight, bias, eps))


def added_modulate_int8(
    x: Tensor, y: Tensor, shift: Tensor, scale: Tensor, eps: float
) -> tuple[Tensor, Quantized]:
    """:func:`added_modulate`, its norm through :func:`quantize` with no rounding between."""
    total = x + y
    return total, modulate_int8(total, shift, scale, eps)


def gated_modulate_int8(
    x: Tensor, y: Tensor, gate: Tensor, shift: Tensor, scale: Tensor, eps: float
) -> tuple[Tensor, Quantized]:
    """:func:`gated_modulate`, its norm through :func:`quantize` with no rounding between."""
    total = gated_add(x, y, gate)
    return total, modulate_int8(total, shift, scale, eps)


def gelu_int8(x: Tensor) -> Quantized:
    """:func:`gelu`, then :func:`quantize` with no rounding between."""
    return quantize(gelu(x.float()))


def int8_linear(x: Quantized, weight: Tensor, weight_scale: Tensor, bias: Tensor) -> Tensor:
    """Linear layer with weights and activations in 8 bits.

    Args:
        x: [..., inputs].
        weight: int8, [outputs, inputs].
        weight_scale: of each output channel, float32, [outputs, 1].
        bias: [outputs].

    Returns:
        [..., outputs] in the dtype of ``bias``.
    """
    products = x.values.float() @ weight.float().T
    return (products * x.scale * weight_scale.T + bias.float()).to(bias.dtype)
