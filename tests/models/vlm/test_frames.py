"""Frames become the patches that transformers' own image processor makes of them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from longtake.models.vlm.frames import FrameProcessor
from longtake.streaming import StreamError

QWEN = {
    "min_pixels": 3136,
    "max_pixels": 12845056,
    "patch_size": 14,
    "temporal_patch_size": 2,
    "merge_size": 2,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}


@pytest.fixture(scope="module")
def qwen():
    return FrameProcessor.from_config(QWEN)


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize(
    ("size", "pixels"),
    [
        ((480, 640), (78_400, 602_112)),
        ((270, 480), (78_400, 100_000)),
        ((41, 77), (78_400, 602_112)),
        ((56, 84), (3136, 602_112)),
        ((13, 300), (3136, 10_000)),
    ],
)
def test_a_still_has_stock_patches(qwen, size, pixels):
    frame = picture(*size)
    stock = Qwen2VLImageProcessorPil(
        size={"shortest_edge": pixels[0], "longest_edge": pixels[1]},
        patch_size=14,
        image_mean=QWEN["image_mean"],
        image_std=QWEN["image_std"],
    )(frame, return_tensors="pt")
    height, width = qwen.size(*size, pixels)
    resized = qwen.resize(frame, height, width)
    mine = qwen.patches(torch.stack((resized, resized)))
    grid = qwen.grid(2, height, width)
    assert stock["image_grid_thw"].tolist() == [[1, 2 * grid.rows, 2 * grid.columns]]
    assert torch.allclose(mine, stock["pixel_values"], atol=1e-5)


def test_the_published_sizes(qwen):
    pixels = qwen.within(78_400, 602_112)
    for size in ((720, 1280), (1080, 1920)):
        height, width = qwen.size(*size, pixels)
        assert (width, height) == (1008, 560)
        assert qwen.grid(2, height, width).tokens == 720
    assert qwen.grid(2, *qwen.size(480, 640, pixels)).tokens == 391


def test_two_frames_of_a_patch_keep_their_order(qwen):
    frames = torch.stack([torch.full((28, 56, 3), value, dtype=torch.uint8) for value in (10, 200)])
    patches = qwen.patches(frames).reshape(8, 3, 2, 14, 14)
    early, late = patches[:, :, 0], patches[:, :, 1]
    assert (early < late).all()
    assert torch.equal(early, early[:1, :, :1, :1].expand_as(early))


def test_a_lone_frame_is_shown_twice(qwen):
    frame = torch.from_numpy(picture(28, 28))[None]
    assert torch.equal(qwen.patches(frame), qwen.patches(torch.cat((frame, frame))))
    assert qwen.grid(3, 28, 28).times == 2


def test_a_frame_of_the_right_size_is_taken_as_it_is(qwen):
    frame = picture(28, 56)
    mirrored = frame[:, ::-1]
    assert np.array_equal(qwen.resize(mirrored, 28, 56).numpy(), mirrored)
    assert torch.equal(qwen.resize(torch.from_numpy(frame), 28, 56), torch.from_numpy(frame))


@pytest.mark.parametrize("size", [(0, 0), (0, 20), (2, 900)])
def test_an_empty_or_absurd_frame_is_refused(qwen, size):
    with pytest.raises(StreamError, match="a frame has"):
        qwen.size(*size, (1, 10**6))


@pytest.mark.parametrize(
    ("mine", "kept"),
    [
        ((78_400, 602_112), (78_400, 602_112)),
        ((10, 100), (3136, 3136)),
        ((10**8, 10**9), (12845056, 12845056)),
    ],
)
def test_a_range_is_kept_within_the_processors(qwen, mine, kept):
    assert qwen.within(*mine) == kept


def test_transformers_own_files_are_read(tmp_path, qwen):
    size = {"shortest_edge": 3136, "longest_edge": 12845056}
    Qwen2VLImageProcessorPil(size=size).save_pretrained(tmp_path)
    (path,) = tmp_path.glob("*.json")
    assert FrameProcessor.from_config(json.loads(path.read_text())) == qwen
