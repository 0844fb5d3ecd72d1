"""The tiny decoder with bytes: how far its numbers reach, and its layers for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from longtake.kernels import Steps
from longtake.models.video.byte_layers import ByteBlock, ByteEnlarging, last_conv
from longtake.models.video.codec import VideoCodec
from longtake.models.video.tiny_layers import Folded, Layer, MemoryBlock

Seen = tuple[Steps, ...]
"""What the bytes of a memory block stand for, as :class:`ByteBlock` takes it; last those that go
into the last convolution."""
# Of the pictures that show how far a decoder's numbers reach.
_CLIPS, _LATENTS, _ROWS, _COLUMNS = 2, 4, 8, 16


def squares(codec: VideoCodec) -> Tensor:
    """Pictures of squares in the brightest colours, which change: no film reaches much further.

    Returns:
        [clips, time, 3, height, width] in [0, 1], always the same.
    """
    draw = torch.Generator().manual_seed(0)
    sizes = (_CLIPS, _LATENTS // 2, 3, _ROWS // 2, _COLUMNS // 2)
    colours = torch.randint(0, 2, sizes, generator=draw).float()
    pictures = colours.repeat_interleave(2 * codec.temporal, 1)
    return pictures.repeat_interleave(2 * codec.spatial, 3).repeat_interleave(2 * codec.spatial, 4)


class Extents:
    """How far the numbers of a decoder reach, while this is entered and it runs.

    Args:
        decoder: its layers; the last are a ReLU and a convolution.
    """

    def __init__(self, decoder: nn.Sequential) -> None:
        blocks = [layer for layer in decoder if isinstance(layer, MemoryBlock)]
        self._watched = [_watched(block) for block in blocks] + [[_Reached(decoder[-2])]]

    def __enter__(self) -> None:
        for reached in self._watched:
            for each in reached:
                each.watch()

    def __exit__(self, *_: object) -> None:
        for reached in self._watched:
            for each in reached:
                each.release()

    @property
    def steps(self) -> list[Seen]:
        """The finest for each block, and for what goes into the last convolution."""
        return [tuple(each.steps for each in reached) for reached in self._watched]


def _watched(block: MemoryBlock) -> list[_Reached]:
    """What goes in, what its ReLUs give, what comes out."""
    return [_Reached(block, given=True), *map(_Reached, (block.conv[1], block.conv[3], block))]


class _Reached:
    """The least and the largest number that a layer gives, or is given."""

    def __init__(self, layer: nn.Module, *, given: bool = False) -> None:
        self._layer, self._given = layer, given
        self._least, self._largest = 0.0, 0.0
        self._hook: RemovableHandle | None = None

    def watch(self) -> None:
        self._hook = self._layer.register_forward_hook(self._see)

    def release(self) -> None:
        if self._hook:
            self._hook.remove()

    @property
    def steps(self) -> Steps:
        return Steps.between(self._least, self._largest)

    def _see(self, _: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
        least, largest = (given[0] if self._given else out).aminmax()
        self._least = min(self._least, least.item())
        self._largest = max(self._largest, largest.item())


def in_bytes(layers: Sequence[Layer], seen: Sequence[Seen]) -> Iterator[Layer]:
    """The layers of a decoder, folded, from its first memory block on with bytes.

    Args:
        layers: from :func:`.fold`.
        seen: from :attr:`Extents.steps`.
    """
    *body, relu, last = layers
    done = 0
    for layer in body:
        if isinstance(layer, MemoryBlock):
            if not done:
                yield seen[0][0].bytes
            yield ByteBlock(
                [each for each in layer.conv if isinstance(each, nn.Conv2d)], seen[done]
            )
            done += 1
        elif isinstance(layer, Folded):
            given, (out, *_) = seen[done - 1][-1], seen[done]
            is_last = done == len(seen) - 1
            yield ByteEnlarging(layer.kernel, layer.stride, given, out, relu=is_last)
        else:
            yield layer
    assert isinstance(relu, nn.ReLU)
    assert isinstance(last, nn.Conv2d)
    yield last_conv(last, seen[-1][0])
