"""The meaning of every operation, in plain torch with float32 arithmetic.

Each function here is the reference its faster implementations are tested against. All tensors of
a call share one dtype, which is the output's, but for rotations, which are float32, and what is
in int8.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

SMALLEST = 1e-12
"""The least that a token's largest magnitude is taken for, so that zeros have a scale."""


class Quantized(NamedTuple):
    """Activations in 8 bits, each token with its own scale: ``values * scale``.

    Attributes:
        values: int8 in [-127, 127], [..., channels].
        scale: float32, [..., 1].
    """

    values: Tensor
    scale: Tensor


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
        keys: overwritten where ``slots`` says, [batch, all slots, frame_tokens, heads, head_dim].
        values: as ``keys``.
        slots: where each frame goes, int64, [tokens / frame_tokens].

    Returns:
        The rotated queries, [batch, tokens, heads, head_dim].
    """
    frames = (len(slots), -1)
    turned = rope(rms_norm(k.flatten(-2), k_weight, eps).view_as(k), rotation)
    keys.index_copy_(1, slots, turned.unflatten(1, frames))
    values.index_copy_(1, slots, v.unflatten(1, frames))
    return rope(rms_norm(q.flatten(-2), q_weight, eps).view_as(q), rotation)


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
