"""What eager torch does best on a CPU: one fused call where the reference needs several."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from longtake.kernels.reference import BlockMap, Quantized, quantize, tokens_of

# Bytes that are read at a time.
_READ = 16


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Flash attention of torch's CPU backend; see :func:`reference.attention`."""
    q, k, v = (_aligned(heads).transpose(1, 2) for heads in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2)


def _aligned(x: Tensor) -> Tensor:
    """A copy where a view begins or steps within 16 bytes, which fused kernels read at a time.

    They end in "misaligned address" otherwise (torch 2.11 on an H200).
    """
    steps = (x.data_ptr(), *(stride * x.itemsize for stride in x.stride()[:-1]))
    fits = x.device.type != "cuda" or all(step % _READ == 0 for step in steps)
    return x if fits else x.clone(memory_format=torch.contiguous_format)


def block_attention(q: Tensor, k: Tensor, v: Tensor, blocks: BlockMap) -> Tensor:
    """Over the keys of each block, gathered; see :func:`reference.block_attention`."""
    frame_tokens, size = k.shape[2], blocks.size
    in_frame = math.ceil(frame_tokens / size)
    keys, values = k.flatten(1, 2), v.flatten(1, 2)
    out = torch.empty_like(q)
    for block, (row, count) in enumerate(zip(blocks.keys, blocks.counts.tolist(), strict=True)):
        asking = tokens_of(block, frame_tokens, size)
        seen = row[:count, None]
        within = seen % in_frame * size + torch.arange(size, device=q.device)
        told = (seen // in_frame * frame_tokens + within)[within < frame_tokens]
        out[:, asking] = attention(q[:, asking], keys[:, told], values[:, told])
    return out


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """One fused call; see :func:`reference.rms_norm`."""
    return F.rms_norm(x, x.shape[-1:], weight, eps)


def rope(x: Tensor, rotation: Tensor) -> Tensor:
    """A complex product: one pass instead of six; see :func:`reference.rope`."""
    # A copy even of float32: complex numbers cannot be seen at odd strides or offsets.
    wide = x.to(torch.float32, copy=True, memory_format=torch.contiguous_format)
    pairs = torch.view_as_complex(wide.unflatten(-1, (-1, 2)))
    turned = pairs * torch.view_as_complex(rotation).unsqueeze(-2)
    return torch.view_as_real(turned).flatten(-2).to(x.dtype)


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """No round trip through float32 (torch accumulates in it); see :func:`reference.layer_norm`."""
    return F.layer_norm(x, x.shape[-1:], weight, bias, eps)


def modulate(x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
    """Norm, then one fused multiply-add; see :func:`reference.modulate`."""
    return torch.addcmul(shift, F.layer_norm(x, x.shape[-1:], eps=eps), 1 + scale)


def gated_add(x: Tensor, y: Tensor, gate: Tensor) -> Tensor:
    """One fused multiply-add; see :func:`reference.gated_add`."""
    return torch.addcmul(x, y, gate)


def gelu(x: Tensor) -> Tensor:
    """No round trip through float32; see :func:`reference.gelu`."""
    return F.gelu(x, approximate="tanh")


def gated_layer_norm(
    x: Tensor, y: Tensor, gate: Tensor, weight: Tensor, bias: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """Two fused calls; see :func:`reference.gated_layer_norm`."""
    total = gated_add(x, y, gate)
    return total, layer_norm(total, weight, bias, eps)


def added_modulate(
    x: Tensor, y: Tensor, shift: Tensor, scale: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """Three fused calls; see :func:`reference.added_modulate`."""
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
    """A plain copy of each frame; see :func:`reference.norm_rope_write`."""
    frames = (len(slots), -1)
    turned = rope(rms_norm(k.flatten(-2), k_weight, eps).view_as(k), rotation).unflatten(1, frames)
    fresh = v.unflatten(1, frames)
    for index, slot in enumerate(slots.tolist()):
        keys[:, slot] = turned[:, index]
        values[:, slot] = fresh[:, index]
    return rope(rms_norm(q.flatten(-2), q_weight, eps).view_as(q), rotation)


def modulate_int8(x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Quantized:
    """Rounds to x's dtype between; see :func:`reference.modulate_int8`."""
    return quantize(modulate(x, shift, scale, eps))


def gated_layer_norm_int8(
    x: Tensor, y: Tensor, gate: Tensor, weight: Tensor, bias: Tensor, eps: float
) -> tuple[Tensor, Quantized]:
    """Rounds to x's dtype between; see :func:`reference.gated_layer_norm_int8`."""
    total, normed = gated_layer_norm(x, y, gate, weight, bias, eps)
    return total, quantize(normed)


def added_modulate_int8(
    x: Tensor, y: Tensor, shift: Tensor, scale: Tensor, eps: float
) -> tuple[Tensor, Quantized]:
    """Rounds to x's dtype between; see :func:`reference.added_modulate_int8`."""
    total, normed = added_modulate(x, y, shift, scale, eps)
    return total, quantize(normed)


def int8_linear(x: Quantized, weight: Tensor, weight_scale: Tensor, bias: Tensor) -> Tensor:
    """oneDNN's int8 product, then the scales in place; see :func:`reference.int8_linear`."""
    products = torch._int_mm(x.values.flatten(0, -2), weight.T).float()
    products.mul_(x.scale.flatten(0, -2)).mul_(weight_scale.T).add_(bias)
    return products.to(bias.dtype).view(*x.values.shape[:-1], -1)
