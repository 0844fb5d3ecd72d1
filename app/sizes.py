"""The sizes that decide what a model takes in memory: of a folder, or of what is not here yet."""

from __future__ import annotations

from pathlib import Path

import torch

from longtake.app.catalogue import Known, sizes_of
from longtake.models.memory import Sizes
from longtake.models.video.load import film_sizes
from longtake.models.video.memory import FilmSizes
from longtake.models.video.settings import StreamingConfig
from longtake.models.video.transformer import TransformerConfig
from longtake.models.video.wan_codec import WanCodec
from longtake.models.vlm.folder import is_captioner
from longtake.models.vlm.frames import FrameProcessor
from longtake.models.vlm.load import watch_sizes
from longtake.models.vlm.memory import ChatSizes, Parameters, WatchSizes
from longtake.models.vlm.settings import Settings


def sizes_in(folder: Path, device: torch.device, dtype: torch.dtype) -> Sizes:
    """Of a model folder.

    Raises:
        StreamError: ``bad_model``: it is none.
    """
    if is_captioner(folder):
        return watch_sizes(folder, device, dtype)
    return film_sizes(folder, dtype)


def sizes_of_known(model: Known, device: torch.device, dtype: torch.dtype) -> Sizes | None:
    """Of a model that is known; None for a part, which does nothing alone.

    Raises:
        StreamError: ``bad_model``: it is here, and broken.
    """
    if model.bundled or (model.captioner and not model.missing()):
        return sizes_in(model.folder, device, dtype)
    if model.film:
        return _film(model.film, dtype)
    return _captioner(model.captioner, device, dtype) if model.captioner else None


def _film(name: str, dtype: torch.dtype) -> FilmSizes:
    # It takes a second to load, and its defaults are Wan 2.1's codec.
    from diffusers import AutoencoderKLWan  # noqa: PLC0415

    sizes = sizes_of(name)
    with torch.device("meta"):
        codec = WanCodec(AutoencoderKLWan())
    weights = {part: count * dtype.itemsize for part, count in sizes["parameters"].items()}
    transformer = TransformerConfig(**sizes["transformer"])
    return FilmSizes(transformer, codec, StreamingConfig(**sizes["streaming"]), dtype, weights)


def _captioner(name: str, device: torch.device, dtype: torch.dtype) -> WatchSizes:
    from transformers import Qwen2_5_VLConfig  # noqa: PLC0415 (it takes a second)

    sizes = sizes_of(name)
    config = Qwen2_5_VLConfig(
        text_config=sizes["text_config"], vision_config=sizes["vision_config"]
    )
    return WatchSizes(
        config,
        Settings(),
        FrameProcessor.from_config(sizes["processor"]),
        ChatSizes(**sizes["chat"]),
        dtype,
        Parameters(**sizes["parameters"]),
        on_gpu=device.type == "cuda",
    )
