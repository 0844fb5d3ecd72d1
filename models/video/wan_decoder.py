"""The decoder of Wan 2.1's autoencoder, any number of latents at a time, channels last.

It runs on the modules' weights as diffusers loads them. A convolution over time remembers the two
frames before those that it sees; with them in front, many frames at once give what one after the
other gives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from longtake.kernels.reference import TAPS, norm_silu_write, write_taps
from longtake.models.video.enlarging import enlarging_kernel

EPS = 1e-24
"""Of the norms, by mean squares; Wan's own bounds their root, a vector's length, at 1e-12."""
ALIGNED = 8
"""Channels that tensor cores want a multiple of; a picture has three."""

NormSiluWrite = Callable[[Tensor, Tensor | None, Tensor | None, Tensor, float, Tensor], Tensor]
"""See :func:`longtake.kernels.reference.norm_silu_write`."""
FOLDED = (0, 3, 4, 2, 1)
"""A convolution over time as one in two dimensions over the channels of its frames: how its
weight's outputs, inputs, time, height and width lie in memory for that."""


def convolve(taps: Tensor, weight: Tensor) -> Tensor:
    """A convolution over time, without its bias.

    Args:
        taps: each frame with the two before it beside it, oldest first, [batch, frames, height,
            width, 3 * inputs], see :func:`~longtake.kernels.reference.write_taps`.
        weight: [outputs, inputs, 3, rows, columns], stored as ``FOLDED`` says.

    Returns:
        [batch, frames, height, width, outputs], contiguous.
    """
    flat = weight.transpose(1, 2).flatten(1, 2)
    padding = (flat.shape[2] // 2, flat.shape[3] // 2)
    return _by_batch(F.conv2d(taps.flatten(0, 1).movedim(-1, 1), flat, padding=padding), taps)


def _by_batch(frames: Tensor, like: Tensor) -> Tensor:
    """[batch * frames, channels, height, width], with channels last and the batch of another."""
    out: Tensor = frames.movedim(1, -1).contiguous().unflatten(0, like.shape[:2])
    return out


def enlarge(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A convolution of 3x3 over a picture of which each pixel became four, in one step.

    Args:
        x: [batch, frames, height, width, inputs].
        weight: [outputs, inputs, 3, 3].
        bias: [outputs].

    Returns:
        [batch, frames, 2 * height, 2 * width, outputs].
    """
    kernel = enlarging_kernel(weight, 2).to(x.dtype, memory_format=torch.channels_last)
    frames = x.flatten(0, 1).movedim(-1, 1)
    out = F.conv_transpose2d(frames, kernel, bias, stride=2, padding=1)
    return _by_batch(out, x)


class WanDecoder:
    """Latents to pictures.

    Args:
        decoder: diffusers' module; its weights are laid out anew in memory, which shows nowhere.
        norm_silu: the kernel of that name.
    """

    def __init__(
        self,
        decoder: Any,  # noqa: ANN401 (diffusers carries no types)
        norm_silu: NormSiluWrite = norm_silu_write,
    ) -> None:
        self.decoder = decoder
        self.norm_silu = norm_silu
        for module in decoder.modules():
            if isinstance(module, nn.Conv3d):
                lay_out(module.weight, FOLDED)
            elif isinstance(module, nn.Conv2d):
                lay_out(module.weight, (0, 2, 3, 1))

    def __call__(self, latents: Tensor, carried: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Decode the next latents of a stream.

        Args:
            latents: raw, [batch, frames, height, width, channels].
            carried: what the call before gave; nothing before the first.

        Returns:
            Pictures in about [-1, 1], [batch, time, 8 * height, 8 * width, 3], and two frames
            before each convolution over time, [batch, 2, height, width, channels] each.
        """
        run, decoder = _Run(self, latents, carried), self.decoder
        run.convolve(decoder.conv_in.weight, decoder.conv_in.bias)
        run.total()
        first, *more = decoder.mid_block.resnets
        run.residual_block(first)
        for attention, block in zip(decoder.mid_block.attentions, more, strict=True):
            run.attend(attention)
            run.residual_block(block)
        for level in decoder.up_blocks:
            for block in level.resnets:
                run.residual_block(block)
            for upsampler in level.upsamplers or ():
                run.enlarge(upsampler)
        run.activate(decoder.norm_out)
        return run.pictures(decoder.conv_out), run.carried


def lay_out(weight: Tensor, order: tuple[int, ...]) -> None:
    """Store the dimensions of a weight in this order, the last one densest."""
    back = [order.index(dimension) for dimension in range(len(order))]
    weight.data = weight.data.permute(order).contiguous().permute(back)


class _Run:
    """One call of a decoder.

    What is no longer needed is let go of at once: in a chunk a tensor of the last level has a
    gigabyte.

    Attributes:
        x: [batch, frames, height, width, channels], as the last convolution left it.
        bias: of that convolution, where it is still to be added.
        residual: as ``x``, where it is still to be added.
        input: of the next convolution over time, where it is written already.
        carried: two frames before each convolution over time, for the next call.
    """

    def __init__(self, decoder: WanDecoder, x: Tensor, before: Sequence[Tensor]) -> None:
        self.norm_silu = decoder.norm_silu
        self.x = x
        self.bias: Tensor | None = None
        self.residual: Tensor | None = None
        self.input: Tensor | None = None
        self.carried: list[Tensor] = []
        self._first = not before
        self._before = iter(before)

    def total(self) -> Tensor:
        """``x`` with all that is to be added to it."""
        for each in (self.bias, self.residual):
            if each is not None:
                self.x += each
        self.bias = self.residual = None
        return self.x

    def residual_block(self, block: Any) -> None:  # noqa: ANN401
        """Two convolutions over time, each behind norm and SiLU."""
        self.activate(block.norm1)
        residual, shortcut = self.x, block.conv_shortcut
        self.convolve(block.conv1.weight, block.conv1.bias)
        self.activate(block.norm2)
        self.convolve(block.conv2.weight, block.conv2.bias)
        if block.in_dim != block.out_dim:
            residual = F.linear(residual, shortcut.weight.flatten(1), shortcut.bias)
        self.residual = residual

    def activate(self, norm: Any) -> None:  # noqa: ANN401
        """Make the next convolution's input: norm and SiLU of the total.

        A residual is added to ``x`` with it; a bias alone is not, as nobody reads it again.
        """
        self.input = self._room(self.x)
        residual = None if self.residual is None else self.residual.flatten(2, 3)
        parts = (self.x.flatten(2, 3), residual, self.bias, norm.gamma.flatten(), EPS)
        self.norm_silu(*parts, self.input.flatten(2, 3))
        self.bias = self.residual = None

    def convolve(self, weight: Tensor, bias: Tensor) -> None:
        """Over time, of the input that is written, or else of ``x``."""
        if self.input is None:
            self.input = write_taps(self._room(self.x), self.x, 0)
        del self.x
        self.carried.append(_newest(self.input, weight.shape[1]))
        self.x, self.bias = convolve(self.input, weight), bias
        self.input = None

    def attend(self, block: Any) -> None:  # noqa: ANN401
        """Self-attention of one head, within each frame."""
        x = self.total()
        normed = F.rms_norm(x, x.shape[-1:], block.norm.gamma.flatten(), EPS)
        qkv = F.linear(normed, block.to_qkv.weight.flatten(1), block.to_qkv.bias)
        q, k, v = qkv.flatten(2, 3).flatten(0, 1).unsqueeze(1).chunk(3, -1)
        seen = F.scaled_dot_product_attention(q, k, v).view(x.shape)
        self.x, self.bias = F.linear(seen, block.proj.weight.flatten(1)), block.proj.bias
        self.residual = x

    def enlarge(self, resampler: Any) -> None:  # noqa: ANN401
        """Twice as high and wide, and twice as many frames where there is a ``time_conv``."""
        self.total()
        if resampler.mode == "upsample3d":
            self._double(resampler.time_conv)
        convolution = resampler.resample[1]
        self.x = enlarge(self.x, convolution.weight, convolution.bias)

    def pictures(self, convolution: Any) -> Tensor:  # noqa: ANN401
        """The last convolution, of as many outputs as are fast."""
        outputs = convolution.out_channels
        spare = -outputs % ALIGNED
        weight = F.pad(convolution.weight, (0, 0) * 4 + (0, spare))
        self.convolve(weight, F.pad(convolution.bias, (0, spare)))
        return self.total()[..., :outputs]

    def _double(self, convolution: Any) -> None:  # noqa: ANN401
        """Make two frames of each; a stream's first one stays alone, and is not remembered."""
        alone, self.x = self.x[:, :1], self.x[:, self._first :]
        if not self.x.shape[1]:
            self.carried.append(self._past(alone))
            self.x = alone
            return
        self.convolve(convolution.weight, convolution.bias)
        self.x = self.total().unflatten(-1, (2, -1)).movedim(-2, 2).flatten(1, 2)
        if self._first:
            self.x = torch.cat((alone, self.x), 1)

    def _room(self, x: Tensor) -> Tensor:
        """For the input of a convolution over time, with what was before in it."""
        return write_taps(x.new_empty(*x.shape[:-1], TAPS * x.shape[-1]), self._past(x), -2)

    def _past(self, x: Tensor) -> Tensor:
        """The two frames before ``x``, black at the beginning of a stream."""
        if self._first:
            return x.new_zeros(len(x), 2, *x.shape[2:])
        return next(self._before)


def _newest(taps: Tensor, channels: int) -> Tensor:
    """A copy of the last two frames of a convolution's input, [batch, 2, ..., channels]."""
    newest: Tensor = taps[:, -1, ..., channels:].unflatten(-1, (TAPS - 1, -1)).movedim(-2, 1)
    # Not a view: it would keep all of the input.
    return newest.clone(memory_format=torch.contiguous_format)
