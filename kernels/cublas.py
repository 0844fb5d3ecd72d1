"""What cuBLAS does in the end of a product."""

from __future__ import annotations

import torch
from torch import Tensor


def linear_gelu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """GELU before the product is rounded or written; see :func:`reference.linear_gelu`."""
    flat = torch._addmm_activation(bias, x.flatten(0, -2), weight.T, use_gelu=True)
    out: Tensor = flat.unflatten(0, x.shape[:-1])
    return out
