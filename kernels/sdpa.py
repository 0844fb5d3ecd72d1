"""Each of torch's fused attentions for NVIDIA cards by itself; left to choose, torch rarely takes
the fastest.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from longtake.kernels.cpu import fused_attention


def cudnn(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """cuDNN's; see :func:`reference.attention`."""
    with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
        return fused_attention(q, k, v)


def flash(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """FlashAttention; see :func:`reference.attention`."""
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        return fused_attention(q, k, v)


def attention_fp8(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """In bfloat16, of copies; see :func:`reference.attention_fp8`."""
    return fused_attention(*(each.to(torch.bfloat16) for each in (q, k, v)))


def efficient(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Memory-efficient attention; see :func:`reference.attention`."""
    with sdpa_kernel(SDPBackend.EFFICIENT_ATTENTION):
        return fused_attention(q, k, v)
