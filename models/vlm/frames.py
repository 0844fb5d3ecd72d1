"""Frames to the patches that Qwen2.5-VL's vision encoder reads, without torchvision."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from longtake.models.vlm.turns import Grid
from longtake.streaming import StreamError

MAX_ASPECT = 200
BICUBIC = 3


@dataclass(frozen=True)
class FrameProcessor:
    """The numbers of ``preprocessor_config.json``, and what is done with them.

    Attributes:
        patch_size: pixels of a patch's side.
        temporal_patch_size: frames in a patch.
        merge_size: patches of a token's side.
        min_pixels: of a resized frame.
        max_pixels: as ``min_pixels``.
        image_mean: of the channels, in [0, 1].
        image_std: as ``image_mean``.
        resample: Pillow's number of the filter.
    """

    patch_size: int
    temporal_patch_size: int
    merge_size: int
    min_pixels: int
    max_pixels: int
    image_mean: tuple[float, float, float]
    image_std: tuple[float, float, float]
    resample: int = BICUBIC

    @staticmethod
    def from_config(values: Mapping[str, Any]) -> FrameProcessor:
        """From a Qwen2-VL image processor's config, of transformers 4 or 5.

        Raises:
            KeyError: a number that has to be there is missing.
            ValueError: a number makes no sense.
        """
        size = values.get("size") or {}
        low = values.get("min_pixels") or size["shortest_edge"]
        high = values.get("max_pixels") or size["longest_edge"]
        processor = FrameProcessor(
            patch_size=int(values["patch_size"]),
            temporal_patch_size=int(values["temporal_patch_size"]),
            merge_size=int(values["merge_size"]),
            min_pixels=int(low),
            max_pixels=int(high),
            image_mean=_three(values["image_mean"]),
            image_std=_three(values["image_std"]),
            resample=int(values.get("resample", BICUBIC)),
        )
        if not processor.max_pixels >= processor.min_pixels >= 1:
            raise ValueError(f"min_pixels is {low}, max_pixels {high}")
        return processor

    def within(self, min_pixels: int, max_pixels: int) -> tuple[int, int]:
        """A range of pixels, kept within the processor's own."""
        low, high = self.min_pixels, self.max_pixels
        return max(low, min(high, min_pixels)), max(low, min(high, max_pixels))

    def size(self, height: int, width: int, pixels: tuple[int, int]) -> tuple[int, int]:
        """Height and width that a frame is resized to: whole tokens, the aspect nearly kept.

        Args:
            height: in pixels.
            width: in pixels.
            pixels: the fewest and the most that the result may have.

        Raises:
            StreamError: ``bad_frame``: the frame is empty or absurdly long.
        """
        if not 0 < max(height, width) <= MAX_ASPECT * min(height, width):
            hint = f"sides may differ {MAX_ASPECT} times at most"
            raise StreamError("bad_frame", f"a frame has {width}x{height} pixels", hint)
        unit = self.patch_size * self.merge_size
        low, high = pixels
        sides = (height, width)
        rows, columns = (round(side / unit) for side in sides)
        if rows * columns * unit**2 > high:
            shrink = math.sqrt(height * width / high)
            rows, columns = (max(1, math.floor(side / shrink / unit)) for side in sides)
        elif rows * columns * unit**2 < low:
            grow = math.sqrt(low / (height * width))
            rows, columns = (math.ceil(side * grow / unit) for side in sides)
        return rows * unit, columns * unit

    def grid(self, frames: int, height: int, width: int) -> Grid:
        """The tokens of resized frames."""
        unit = self.patch_size * self.merge_size
        return Grid(math.ceil(frames / self.temporal_patch_size), height // unit, width // unit)

    def resize(self, frame: object, height: int, width: int) -> Tensor:
        """One frame, resized.

        Args:
            frame: RGB, uint8, [height, width, 3], an array or a tensor.
            height: wanted.
            width: wanted.

        Returns:
            uint8, [height, width, 3].

        Raises:
            StreamError: ``bad_frame``: not such an array.
        """
        picture = as_picture(frame)
        if picture.shape[:2] == (height, width):
            return torch.from_numpy(np.ascontiguousarray(picture).copy())
        filter_ = Image.Resampling(self.resample)
        resized = Image.fromarray(picture).resize((width, height), filter_)
        return torch.from_numpy(np.array(resized))

    def patches(self, frames: Tensor) -> Tensor:
        """Normalised patches in the encoder's order.

        Args:
            frames: uint8, [frames, height, width, 3], sides of whole tokens; the last frame is
                repeated where a temporal patch lacks some.

        Returns:
            float32, [patches, 3 * temporal_patch_size * patch_size ** 2].
        """
        merge, patch, group = self.merge_size, self.patch_size, self.temporal_patch_size
        if lacking := -len(frames) % group:
            frames = torch.cat((frames, frames[-1:].expand(lacking, -1, -1, -1)))
        scale = frames.new_tensor(self.image_std, dtype=torch.float32) * 255
        shift = frames.new_tensor(self.image_mean, dtype=torch.float32) * 255
        pixels = (frames.float() - shift) / scale
        times, rows, columns = len(frames) // group, *(side // patch for side in pixels.shape[1:3])
        split = pixels.reshape(
            *(times, group, rows // merge, merge, patch, columns // merge, merge, patch, 3)
        )
        # time, row and column of the token, row and column in it | channel, frame, row, column
        ordered = split.permute(0, 2, 5, 3, 6, 8, 1, 4, 7)
        return ordered.reshape(times * rows * columns, -1)


def as_picture(frame: object) -> np.ndarray:
    """A frame as an array: RGB, uint8, [height, width, 3].

    Raises:
        StreamError: ``bad_frame``: it is something else.
    """
    array = frame.cpu().numpy() if isinstance(frame, Tensor) else np.asarray(frame)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        shown = f"{array.dtype} {list(array.shape)}"
        hint = "give RGB as uint8, [height, width, 3]"
        raise StreamError("bad_frame", f"a frame is {shown}", hint)
    return array


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue
