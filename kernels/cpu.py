"""What eager torch does best on a CPU: one fused call where the reference needs several."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from longtake.kernels.reference import (
    GELU_CUBIC,
    GELU_SLOPE,
    SMALLEST,
    BlockMap,
    Quantized,
    as_kept,
    result_dtype,
    tokens_of,
)

# Bytes that are read at a time.
_READ = 16
# Keys from which on a CPU's products of bfloat16 matrices take less time than its flash attention,
# which multiplies a few numbers at a time; and scores that are at hand together, few enough to
# stay near the processor.
_MANY_KEYS, _SCORES = 128, 1 << 20
# CPUs with bfloat16 instructions multiply three times faster in it, others more slowly. Asked of
# the CPU, not timed: on a busy machine a stopwatch would now and then decide otherwise, and the
# same command would make another film.
_BF16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16")


def has_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 by instructions of its own."""
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(instruction) for instruction in _BF16_INSTRUCTIONS)


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """torch's own, or two products where those are faster; see :func:`reference.attention`."""
    if q.device.type == "cpu" and q.dtype == torch.bfloat16 and k.shape[1] >= _MANY_KEYS:
        return _by_products(q, k, v)
    return fused_attention(q, k, v)


def fused_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """torch's own; see :func:`reference.attention`.

    Args:
        q: as there.
        k: as there.
        v: as there.
        mask: which keys each query sees, bool, [queries, keys]; all where it is left out.
    """
    q, k, v = (_aligned(heads).transpose(1, 2) for heads in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, mask).transpose(1, 2)


def _by_products(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Some queries at a time: all scores, their softmax, and the values weighted by it."""
    batch, _, heads, size = q.shape
    # Copies, which the products would make less well.
    q, k, v = (each.transpose(1, 2).flatten(0, 1).contiguous() for each in (q, k, v))
    out = []
    for asking in q.split(max(1, _SCORES // (batch * heads * k.shape[1])), 1):
        scores = q.new_empty(*asking.shape[:2], k.shape[1])
        scores.baddbmm_(asking, k.mT, beta=0, alpha=size**-0.5)
        out.append(scores.softmax(-1) @ v)
    attended: Tensor = torch.cat(out, 1).unflatten(0, (batch, heads)).transpose(1, 2)
    return attended


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
    dtype = result_dtype(q.dtype)
    queries, keys, values = q.to(dtype), k.flatten(1, 2), v.flatten(1, 2)
    out = torch.empty_like(queries)
    for block, (row, count) in enumerate(zip(blocks.keys, blocks.counts.tolist(), strict=True)):
        asking = tokens_of(block, frame_tokens, size)
        seen = row[:count, None]
        within = seen % in_frame * size + torch.arange(size, device=q.device)
        told = (seen // in_frame * frame_tokens + within)[within < frame_tokens]
        seen_by = (each[:, told].to(dtype) for each in (keys, values))
        out[:, asking] = attention(queries[:, asking], *seen_by)
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


def linear_gelu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """No round trip through float32; see :func:`reference.linear_gelu`."""
    return F.gelu(F.linear(x, weight, bias), approximate="tanh")


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


def gated_modulate(
    x: Tensor, y: Tensor, gate: Tensor, shift: Tensor, scale: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """Three fused calls; see :func:`reference.gated_modulate`."""
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
    """A plain copy of each frame; see :func:`reference.norm_rope_write`."""
    frames = (len(slots), -1)
    turned = rope(rms_norm(k.flatten(-2), k_weight, eps).view_as(k), rotation).unflatten(1, frames)
    fresh = as_kept(v.unflatten(1, frames), values.dtype)
    turned = as_kept(turned, keys.dtype)
    for index, slot in enumerate(slots.tolist()):
        keys[:, slot] = turned[:, index]
        values[:, slot] = fresh[:, index]
    return as_kept(rope(rms_norm(q.flatten(-2), q_weight, eps).view_as(q), rotation), keys.dtype)


def quantize(x: Tensor) -> Quantized:
    """In place where it can be; see :func:`reference.quantize`."""
    return _quantized(x, x.abs())


def _quantized(x: Tensor, magnitudes: Tensor, out: Tensor | None = None) -> Quantized:
    """In memory that is at hand, `out`, if any is: new one costs more than the arithmetic."""
    scale = magnitudes.amax(-1, keepdim=True).float().clamp_min_(SMALLEST).div_(127)
    return Quantized(torch.div(x, scale, out=out).round_().to(torch.int8), scale)


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


def gated_modulate_int8(
    x: Tensor, y: Tensor, gate: Tensor, shift: Tensor, scale: Tensor, eps: float
) -> tuple[Tensor, Quantized]:
    """Rounds to x's dtype between; see :func:`reference.gated_modulate_int8`."""
    total, normed = gated_modulate(x, y, gate, shift, scale, eps)
    return total, quantize(normed)


def gelu_int8(x: Tensor) -> Quantized:
    """By a sigmoid, in half of the time that tanh takes; see :func:`reference.gelu_int8`."""
    wide = x.float()
    slope = wide.square().mul_(GELU_SLOPE * GELU_CUBIC).add_(GELU_SLOPE)
    active = slope.mul_(wide).sigmoid_().mul_(wide)
    magnitudes = torch.abs(active, out=None if wide is x else wide)
    return _quantized(active, magnitudes, out=active)


def int8_linear(x: Quantized, weight: Tensor, weight_scale: Tensor, bias: Tensor) -> Tensor:
    """oneDNN's int8 product, then the scales in place; see :func:`reference.int8_linear`."""
    products = torch._int_mm(x.values.flatten(0, -2), weight.T).float()
    products.mul_(x.scale.flatten(0, -2))
    torch.addcmul(bias.float(), products, weight_scale.T, out=products)
    return products.to(bias.dtype).view(*x.values.shape[:-1], -1)


def pack(weight: Tensor) -> Tensor | None:
    """A weight as oneDNN multiplies by it, for :func:`packed_linear`, or None where it cannot.

    Of a plain one it would make the same anew in every product, which takes as long as the product.

    Args:
        weight: [outputs, inputs].
    """
    onednn = torch.backends.mkldnn
    if not onednn.is_available() or weight.dtype not in {torch.float32, torch.bfloat16}:
        return None
    if weight.dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return None
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight)
    return packed


def packed_linear(x: Tensor, packed: Tensor, bias: Tensor, *, gelu: bool = False) -> Tensor:
    """A linear layer, and :func:`gelu` of what comes out.

    Args:
        x: [..., inputs].
        packed: from :func:`pack`.
        bias: [outputs].
        gelu: whether to apply it, before the result is rounded.

    Returns:
        [..., outputs] in x's dtype.
    """
    after, how = ("gelu", "tanh") if gelu else ("none", "")
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, packed, bias, after, [], how)
    return out
