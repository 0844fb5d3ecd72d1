"""Tensors as Triton's descriptors see them: a GPU's own unit (TMA) moves tiles of them.

A program then computes no addresses, and what a tile has beyond the tensor is 0 when it is read
and dropped when it is written. Older GPUs have no such unit: there a kernel makes its descriptors
itself, of which Triton makes addresses, as it knows the strides then.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F
from triton.tools.tensor_descriptor import TensorDescriptor

_BYTES = 16
"""Rows begin at multiples of so many."""
_HOPPER = 9
"""The compute capability of the first GPUs with that unit."""


@cache  # asked before each of a thousand products of a film's first chunk
def moves_tiles(device: torch.device) -> bool:
    """Whether a device has the unit; a CPU's interpreter does as if."""
    return device.type != "cuda" or torch.cuda.get_device_capability(device)[0] >= _HOPPER


def whole_rows(x: Tensor) -> Tensor:
    """The tensor, or a copy where it does not begin as a descriptor wants, or its rows do not.

    Args:
        x: [..., columns].

    Returns:
        [..., at least as many columns], the additional ones 0.
    """
    missing = -(x.shape[-1] * x.itemsize) % _BYTES // x.itemsize
    fits = not missing and x.data_ptr() % _BYTES == 0
    return x.contiguous() if fits else F.pad(x, (0, missing))


def described(x: Tensor, tile: Sequence[int]) -> TensorDescriptor | Tensor:
    """A descriptor of a tensor as :func:`whole_rows` gives it, or itself on older GPUs.

    Args:
        x: contiguous.
        tile: what is moved at once, a size for each of its dimensions.
    """
    if not moves_tiles(x.device):
        return x
    return TensorDescriptor(x, list(x.shape), list(x.stride()), list(tile))
