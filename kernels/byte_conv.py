"""Convolutions of bytes on a CPU: oneDNN's, which multiply 8-bit integers by instructions of their
own and end in bias, sum, ReLU and rounding.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

_INSTRUCTIONS = ("avx512_vnni", "avx_vnni", "amx_int8")
# Stride, padding, dilation and groups of every one.
_GEOMETRY = ([1, 1], [1, 1], [1, 1], 1)
# What comes last, with no numbers and no variant.
_After = tuple[str, list[float], str]
_RELU: _After = ("relu", [], "")
_NONE: _After = ("none", [], "")


class Steps(NamedTuple):
    """What the bytes of a tensor stand for: ``(byte - zero) * step``."""

    step: float
    zero: int

    @classmethod
    def between(cls, low: float, high: float) -> Steps:
        """The finest that reach from one number to another, and have 0 among them."""
        low, high = min(low, 0.0), max(high, 0.0)
        step = (high - low) / 255 or 1.0
        return cls(step, round(-low / step))

    def values(self, x: Tensor) -> Tensor:
        """What bytes stand for, in float32."""
        return (x.float() - self.zero) * self.step

    def bytes(self, x: Tensor) -> Tensor:
        """The nearest bytes; what is out of reach becomes the last one."""
        steps = x.float() / self.step + self.zero
        return steps.round_().clamp_(0, 255).to(torch.uint8)


class ByteConv(NamedTuple):
    """A convolution with padding 1, as :func:`pack_byte_conv` lays it out.

    Attributes:
        weight: packed.
        scale: of each output channel's weights, float32.
        zeros: of the weights, all 0.
        bias: float32.
        given: what the bytes of the input stand for.
    """

    weight: Tensor
    scale: Tensor
    zeros: Tensor
    bias: Tensor
    given: Steps


def multiplies_bytes() -> bool:
    """Whether this CPU multiplies bytes by instructions of its own.

    Others would add up their products in 16 bits, which may be too few.
    """
    capabilities = torch.cpu.get_capabilities()
    fast = any(capabilities.get(instruction) for instruction in _INSTRUCTIONS)
    return fast and torch.backends.mkldnn.is_available()


def pack_byte_conv(weight: Tensor, bias: Tensor, given: Steps) -> ByteConv:
    """Weights in int8, a scale for each output channel.

    Args:
        weight: [outputs, inputs, rows, columns].
        bias: [outputs].
        given: what the bytes of its input stand for.
    """
    wide = weight.float()
    scale = wide.abs().amax((1, 2, 3)).clamp_min(1e-12) / 127
    small = (wide / scale[:, None, None, None]).round().to(torch.int8)
    # For some sizes, or it would be laid out anew in every product.
    sizes = [1, small.shape[1], 32, 32]
    packed = torch.ops.onednn.qconv_prepack(small, scale, *given, *_GEOMETRY, sizes)
    return ByteConv(packed, scale, torch.zeros_like(scale, dtype=torch.int32), bias.float(), given)


def byte_conv(x: Tensor, conv: ByteConv, out: Steps | torch.dtype, *, relu: bool = False) -> Tensor:
    """A convolution with padding 1.

    Args:
        x: uint8, [batch, inputs, height, width], with channels last in memory.
        conv: packed for what x stands for.
        out: what the result's bytes are to stand for, or what it is in place of bytes.
        relu: whether a ReLU comes after it.

    Returns:
        [batch, outputs, ...], channels last.
    """
    steps, dtype = (out, torch.uint8) if isinstance(out, Steps) else (Steps(1.0, 0), out)
    result: Tensor = torch.ops.onednn.qconv2d_pointwise(
        *_given(x, conv), *_placed(conv), *steps, dtype, *(_RELU if relu else _NONE)
    )
    return result


def byte_conv_add(x: Tensor, conv: ByteConv, out: Steps, added: Tensor, of: Steps) -> Tensor:
    """A convolution, then something added, then ReLU.

    Args:
        x: as in :func:`byte_conv`.
        conv: as there.
        out: what the result's bytes are to stand for; their zero is 0.
        added: uint8, of the result's shape; it may be changed.
        of: what its bytes stand for.

    Returns:
        As there.
    """
    result: Tensor = torch.ops.onednn.qconv2d_pointwise.binary(
        *_given(x, conv), added, *_placed(conv), *out, torch.uint8, *of, *("sum", 1.0), *_RELU
    )
    return result


def _given(x: Tensor, conv: ByteConv) -> tuple[Any, ...]:
    """The arguments before what is added."""
    return x, *conv.given, conv.weight, conv.scale, conv.zeros


def _placed(conv: ByteConv) -> tuple[Any, ...]:
    """Those after it: strides, padding, dilation and groups."""
    return conv.bias, *_GEOMETRY
