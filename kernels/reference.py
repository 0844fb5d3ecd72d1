"""The meaning of every operation, in plain torch with float32 arithmetic.

Each function here is the reference its faster implementations are tested against. All tensors of
a call share one dtype, which is the output's, but for ``rope``'s rotation.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F


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
