"""What eager torch does best on a CPU: one fused call where the reference needs several."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Flash attention of torch's CPU backend; see :func:`reference.attention`."""
    q, k, v = (heads.transpose(1, 2) for heads in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2)


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
