"""The layers of the tiny decoder where it computes with bytes, frames as uint8 [frames, channels,
height, width], channels last in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from longtake.kernels import ByteConv, Steps, byte_conv, byte_conv_add, pack_byte_conv


class ByteBlock:
    """A memory block.

    Args:
        convs: its three convolutions.
        seen: what the bytes are to stand for that go in, that come out of the first and of the
            second convolution, and that come out.
    """

    def __init__(self, convs: Sequence[nn.Conv2d], seen: Sequence[Steps]) -> None:
        self.given, *self.inner, self.out = seen
        self.convs = [_packed(*each) for each in zip(convs, seen, strict=False)]
        self.zero = self.given.zero

    def __call__(self, x: Tensor, past: Tensor) -> Tensor:
        """Frames, each beside the one before it; `x` may be changed."""
        inner = torch.cat((x, past), 1)
        for conv, steps in zip(self.convs, self.inner, strict=False):
            inner = byte_conv(inner, conv, steps, relu=True)
        return byte_conv_add(inner, self.convs[-1], self.out, x, self.given)


class ByteEnlarging:
    """Twice as large, more frames and a convolution, see :class:`.Folded`, as four convolutions.

    Of a transposed convolution over 4x4 pixels at stride 2, each of the four pixels that one
    becomes is one over 2x2 of them.

    Args:
        kernel: of the transposed convolution, [inputs, frames * outputs, 4, 4].
        stride: frames that one becomes.
        given: what the bytes stand for that go in.
        out: what those are to stand for that come out.
        relu: whether a ReLU comes after it.
    """

    def __init__(
        self, kernel: Tensor, stride: int, given: Steps, out: Steps, *, relu: bool
    ) -> None:
        self.stride, self.out, self.relu = stride, out, relu
        # Of the pixels before and at the place, and of those at and after it.
        parts = (kernel[..., [3, 1], :], kernel[..., [2, 0], :])
        weights = [part[..., taps] for part in parts for taps in ([3, 1], [2, 0])]
        weight = torch.cat([each.transpose(0, 1) for each in weights])
        self.conv = pack_byte_conv(weight, weight.new_zeros(len(weight)), given)

    def __call__(self, x: Tensor) -> Tensor:
        """[frames, ...] to [frames * stride, ...]."""
        frames, _, height, width = x.shape
        # [frames, height + 1, width + 1, row, column, stride, channels]
        found = byte_conv(x, self.conv, self.out, relu=self.relu).permute(0, 2, 3, 1)
        found = found.unflatten(-1, (2, 2, self.stride, -1))
        sizes = (frames, self.stride, height, 2, width, 2, found.shape[-1])
        out = x.new_empty(sizes)
        for row in range(2):
            for column in range(2):
                part = found[:, row : row + height, column : column + width, row, column]
                out[:, :, :, row, :, column] = part.permute(0, 3, 1, 2, 4)
        return out.flatten(4, 5).flatten(2, 3).flatten(0, 1).permute(0, 3, 1, 2)


def last_conv(conv: nn.Conv2d, given: Steps) -> Callable[[Tensor], Tensor]:
    """A convolution with padding 1, from bytes, which stand for so much, to its weights' dtype."""
    return partial(byte_conv, conv=_packed(conv, given), out=conv.weight.dtype)


def _packed(conv: nn.Conv2d, given: Steps) -> ByteConv:
    assert conv.bias is not None
    return pack_byte_conv(conv.weight.detach(), conv.bias.detach(), given)
