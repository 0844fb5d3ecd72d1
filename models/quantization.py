"""Weights stored in 8 bits: symmetric int8 with one scale for each output channel.

``name`` holds the int8 values and ``name + "_scale"`` the float32 scales, shaped to broadcast.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor

SCALE_SUFFIX = "_scale"


def quantize(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Quantise every matrix and convolution; vectors and tables stay bfloat16.

    Args:
        tensors: names to float tensors.

    Returns:
        A new dict with an int8 tensor and its scale for each quantised weight.
    """
    stored: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if not name.endswith(".weight") or tensor.ndim < 2:
            stored[name] = tensor.to(torch.bfloat16).contiguous()
            continue
        wide = tensor.float()
        largest = wide.abs().amax(dim=tuple(range(1, wide.ndim)), keepdim=True)
        scale = largest.clamp_min(1e-12) / 127
        stored[name] = (wide / scale).round().to(torch.int8).contiguous()
        stored[name + SCALE_SUFFIX] = scale.contiguous()
    return stored


def dequantize(tensors: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """Undo :func:`quantize`; tensors that were not quantised pass through.

    The scale directly follows its weight in a sorted file; either order is accepted.

    Raises:
        ValueError: a scale is not one number for each output channel.
    """
    waiting: dict[str, tuple[str, Tensor]] = {}
    for name, tensor in tensors:
        weight_name = name.removesuffix(SCALE_SUFFIX)
        if name == weight_name and tensor.dtype != torch.int8:
            yield name, tensor
        elif weight_name in waiting:
            _, other = waiting.pop(weight_name)
            weight, scale = (other, tensor) if other.dtype == torch.int8 else (tensor, other)
            if scale.shape != (len(weight), *(1,) * (weight.ndim - 1)):
                got, want = list(scale.shape), list(weight.shape)
                raise ValueError(f"the scale of tensor {weight_name} is {got}, the tensor {want}")
            yield weight_name, weight.float() * scale
        else:
            waiting[weight_name] = (name, tensor)
    # What found no partner is passed on, so that a strict loader names it.
    yield from waiting.values()
