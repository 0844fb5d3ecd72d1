"""Weights in 8 bits, stored and used: symmetric int8 with one scale for each output channel.

``name`` holds the int8 values and ``name + "_scale"`` the float32 scales, shaped to broadcast.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn

from longtake.kernels import Kernels, Quantized

SCALE_SUFFIX = "_scale"


def quantize(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Quantise every matrix and convolution; vectors and tables stay bfloat16.

    Args:
        tensors: names to float tensors; those in int8, and scales, are taken as they are.

    Returns:
        A new dict with an int8 tensor and its scale for each quantised weight.
    """
    stored: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if tensor.dtype == torch.int8 or name.endswith(SCALE_SUFFIX):
            stored[name] = tensor.contiguous()
            continue
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


class Int8Linear(nn.Module):
    """A linear layer that multiplies int8 by int8: weights as stored, each token by its own scale.

    Its parameters have the names under which :func:`quantize` stores them.

    Args:
        inputs: channels.
        outputs: channels.
        kernels: the bound operations.
    """

    def __init__(self, inputs: int, outputs: int, *, kernels: Kernels) -> None:
        super().__init__()
        weight = torch.zeros(outputs, inputs, dtype=torch.int8)
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.weight_scale = nn.Parameter(torch.ones(outputs, 1), requires_grad=False)
        self.bias = nn.Parameter(torch.zeros(outputs), requires_grad=False)
        self.kernels = kernels

    def forward(self, x: Tensor | Quantized) -> Tensor:
        """[..., inputs] to [..., outputs] in the dtype of the bias."""
        if isinstance(x, Tensor):
            x = self.kernels.quantize(x)
        return self.kernels.int8_linear(x, self.weight, self.weight_scale, self.bias)
