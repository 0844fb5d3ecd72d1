"""The sizes that decide what a model takes in memory: of a folder, or of what is not here yet."""

from __future__ import annotations

from pathlib import Path

import torch

from longtake.app.catalogue import Known, sizes_of
from longtake.models.memory import Sizes
from longtake.models.video.load import film_sizes, int8_linears, serves_fp8
from longtake.models.video.memory import FilmSizes
from longtake.models.video.settings import StreamingConfig
from longtake.models.video.text_setting import TextCount, TextSetting
from longtake.models.video.transformer import TransformerConfig
from longtake.models.video.wan_codec import WanCodec
from longtake.models.vlm.folder import is_captioner
from longtake.models.vlm.frames import FrameProcessor
from longtake.models.vlm.load import watch_sizes
from longtake.models.vlm.memory import QUANTIZING, ChatSizes, Parameters, WatchSizes
from longtake.models.vlm.settings import Settings


def changes_of(
    size: tuple[int, int] | None = None,
    chunk: int | None = None,
    window: int | None = None,
    sink: int | None = None,
) -> dict[str, int]:
    """What was asked for, as :meth:`.FilmSizes.changed` takes it; ``size`` is width and height."""
    width, height = size or (None, None)
    asked = {"width": width, "height": height, "chunk": chunk, "window": window, "sink": sink}
    return {name: value for name, value in asked.items() if value is not None}


def sizes_in(
    folder: Path,
    device: torch.device,
    dtype: torch.dtype,
    text: TextSetting | None = None,
    *,
    int8: bool = False,
) -> Sizes:
    """Of a model folder.

    Args:
        folder: of a generator or a captioner.
        device: for the weights.
        dtype: for the weights.
        text: how a generator's text encoder is kept.
        int8: whether that is asked for, see :func:`.film_sizes`.

    Raises:
        StreamError: ``bad_model``: it is none.
    """
    if is_captioner(folder):
        return watch_sizes(folder, device, dtype)
    return film_sizes(folder, dtype, device, text, int8=int8)


def sizes_of_known(
    model: Known,
    device: torch.device,
    dtype: torch.dtype,
    text: TextSetting | None = None,
    *,
    int8: bool = False,
) -> Sizes | None:
    """Of a model that is known, as :func:`sizes_in`; None for a part, which does nothing alone.

    Raises:
        StreamError: ``bad_model``: it is here, and broken.
    """
    if model.bundled or (model.captioner and not model.missing()):
        return sizes_in(model.folder, device, dtype, text, int8=int8)
    if model.film:
        return _film(model.film, device, dtype, text or TextSetting(), int8=int8)
    return _captioner(model.captioner, device, dtype) if model.captioner else None


def _film(
    name: str, device: torch.device, dtype: torch.dtype, text: TextSetting, *, int8: bool
) -> FilmSizes:
    # It takes a second to load, and its defaults are Wan 2.1's codec.
    from diffusers import AutoencoderKLWan  # noqa: PLC0415

    sizes = sizes_of(name)
    with torch.device("meta"):
        codec = WanCodec(AutoencoderKLWan())
    parameters = sizes["parameters"]
    config = TransformerConfig(**sizes["transformer"])
    quantizable = int8_linears(config, device, dtype)
    return FilmSizes(
        config,
        codec,
        StreamingConfig(**sizes["streaming"]),
        dtype,
        {part: parameters[part] * dtype.itemsize for part in ("transformer", "vae")},
        TextCount(**parameters["text_encoder"]),
        text,
        on_gpu=device.type != "cpu",
        int8=int8 and quantizable,
        quantizable=quantizable,
        narrowable=serves_fp8(device, dtype),
    )


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
        quantizable=device.type in QUANTIZING,
    )
