"""The layers of the tiny codec, and a stack of them run over the frames of a stream."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from longtake.models.video.byte_layers import ByteBlock
from longtake.models.video.enlarging import enlarging_kernel


class Clamp(nn.Module):
    """Latents bent into -3 to 3."""

    def forward(self, x: Tensor) -> Tensor:
        """Elementwise."""
        return torch.tanh(x / 3) * 3


class MemoryBlock(nn.Module):
    """A residual block whose convolutions see each frame beside the one before it."""

    zero = 0

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            conv(2 * channels, channels),
            nn.ReLU(),
            conv(channels, channels),
            nn.ReLU(),
            conv(channels, channels),
        )

    def forward(self, x: Tensor, past: Tensor) -> Tensor:
        """Frames, [frames, channels, height, width], and for each the one before it."""
        return F.relu(self.conv(torch.cat((x, past), 1)) + x)


class Pool(nn.Module):
    """Folds every ``stride`` frames into one."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv = nn.Conv2d(channels * stride, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[frames, ...] to [frames / stride, ...]."""
        frames, channels, height, width = x.shape
        folded = x.reshape(frames // self.stride, channels * self.stride, height, width)
        out: Tensor = self.conv(folded)
        return out


class Grow(nn.Module):
    """Grows every frame into ``stride`` frames."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv = nn.Conv2d(channels, channels * stride, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[frames, ...] to [frames * stride, ...]."""
        return grown(self.conv(x), self.stride)


def grown(x: Tensor, stride: int) -> Tensor:
    """Frames side by side in channels, [frames, stride * channels, ...], as frames."""
    # With channels last, as the convolutions like it; a plain reshape would undo that.
    apart = x.permute(0, 2, 3, 1).unflatten(-1, (stride, -1))
    frames: Tensor = apart.permute(0, 3, 1, 2, 4).flatten(0, 1)
    # Of a single frame it was a view.
    return frames.contiguous().permute(0, 3, 1, 2)


class Folded:
    """Enlarging, growing and the convolution after them in one step: all three are linear."""

    def __init__(self, scale: int, grow: Grow, conv: nn.Conv2d) -> None:
        self.scale, self.stride = scale, grow.stride
        weight = conv.weight.detach()
        frames = grow.conv.weight.detach().float().flatten(1).unflatten(0, (self.stride, -1))
        kernel = torch.einsum("cokl,tci->itokl", enlarging_kernel(weight, scale), frames)
        self.kernel = kernel.flatten(1, 2).to(weight.dtype, memory_format=torch.channels_last)

    def __call__(self, x: Tensor) -> Tensor:
        """[frames, ...] to [frames * stride, ...], larger."""
        out = F.conv_transpose2d(x, self.kernel, stride=self.scale, padding=1)
        return grown(out, self.stride)


def conv(inputs: int, outputs: int, stride: int = 1, *, bias: bool = True) -> nn.Conv2d:
    """Of 3x3 pixels."""
    return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=bias)


Layer = ByteBlock | Callable[..., Tensor]


def fold(decoder: nn.Sequential) -> Iterator[Layer]:
    """Its layers, some of them in one."""
    layers = iter(decoder)
    for layer in layers:
        if isinstance(layer, nn.Upsample):
            grow, conv = next(layers), next(layers)
            scale = layer.scale_factor
            assert isinstance(scale, float)
            assert isinstance(grow, Grow)
            assert isinstance(conv, nn.Conv2d)
            yield Folded(int(scale), grow, conv)
        else:
            yield layer


def run(layers: Iterable[Layer], x: Tensor, batch: int, memory: list[Tensor]) -> Tensor:
    """Run a stack over frames, [batch * time, ...]; ``memory`` is read and replaced in place."""
    index = 0
    for layer in layers:
        if not isinstance(layer, MemoryBlock | ByteBlock):
            x = layer(x)
            continue
        frames = len(x) // batch
        # In four dimensions and laid out like `x`, so that channels stay last in memory.
        past = torch.empty_like(x)
        past[1:] = x[:-1]
        past[::frames] = memory[index] if index < len(memory) else layer.zero
        # A copy, so that the state holds one frame and not the whole chunk behind it.
        memory[index : index + 1] = [x[frames - 1 :: frames].clone()]
        x = layer(x, past)
        index += 1
    return x
