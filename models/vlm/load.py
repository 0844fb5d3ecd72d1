"""A Qwen2.5-VL folder, or its name on the Hugging Face hub, to a captioner, strictly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from logging import ERROR, getLogger
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from longtake.models.folder import REFETCH, read_config, read_json, taking
from longtake.models.four_bits import keep_unpacked
from longtake.models.memory import making_room
from longtake.models.vlm.captioner import Captioner
from longtake.models.vlm.folder import KINDS_HINT, PROCESSOR_FILES, check_source
from longtake.models.vlm.frames import FrameProcessor
from longtake.models.vlm.memory import (
    QUANTIZING,
    ChatSizes,
    Parameters,
    Quantization,
    WatchSizes,
)
from longtake.models.vlm.network import Network
from longtake.models.vlm.settings import Settings
from longtake.models.vlm.turns import Template
from longtake.streaming import StreamError

# Made for weights that are spread as these are (QLoRA, section 3).
FOUR_BITS = "nf4"


def load_captioner(
    source: str | Path,
    device: torch.device,
    dtype: torch.dtype,
    quantization: Quantization | None = None,
    changes: Mapping[str, Any] | None = None,
) -> Captioner:
    """Load a model, its tokenizer and its numbers.

    Args:
        source: a folder, in transformers' layout, or a name on the hub, which is fetched once.
        device: for the weights.
        dtype: of the weights, and of what quantised ones compute in.
        quantization: keep the linear layers in 8 or 4 bits by bitsandbytes.
        changes: fields of the settings, in place of the folder's.

    Returns:
        A captioner with the settings of the folder's ``streaming.json``, or the published ones.

    Raises:
        StreamError: ``bad_model``: what is missing, unknown or unfit, named; ``bad_setting``:
            a setting or that quantization cannot be had; ``no_memory``: it would not fit, with
            the arithmetic and what would.
    """
    check_source(source)
    if quantization:
        _check_quantization(quantization, device)
    folder = _find(source)
    settings, tokenizer = _settings(folder, changes or {}), _tokenizer(folder)
    sizes = _sizes(folder, tokenizer, device, dtype, quantization, settings)
    with making_room(folder, sizes, device):
        model = _model(folder, device, dtype, quantization)
    with taking(folder / "config.json"):
        network = Network(model)
    if misfit := _misfit(model.config, sizes.processor, tokenizer):
        raise StreamError("bad_model", f"{folder}: {misfit}", "its parts are of different models")
    return Captioner(network, tokenizer, sizes.processor, settings)


def watch_sizes(folder: Path, device: torch.device, dtype: torch.dtype) -> WatchSizes:
    """What watching with a folder's model will take in memory; no weights are read.

    Args:
        folder: in transformers' layout.
        device: that the weights are for.
        dtype: as in :func:`load_captioner`.

    Raises:
        StreamError: ``bad_model``: what is missing, unknown or unfit, named.
    """
    check_source(folder)
    return _sizes(folder, _tokenizer(folder), device, dtype, None, _settings(folder, {}))


def _sizes(
    folder: Path,
    tokenizer: Tokenizer,
    device: torch.device,
    dtype: torch.dtype,
    quantization: Quantization | None,
    settings: Settings,
) -> WatchSizes:
    from transformers import Qwen2_5_VLConfig  # noqa: PLC0415 (it takes seconds)

    with taking(folder / "config.json"):
        config = Qwen2_5_VLConfig.from_pretrained(folder)
    return WatchSizes(
        config,
        settings,
        _processor(folder),
        ChatSizes.of(Template(tokenizer)),
        dtype,
        Parameters.of(folder),
        quantization,
        quantizable=device.type in QUANTIZING,
    )


def _find(source: str | Path) -> Path:
    """The folder, fetched from the hub if need be."""
    folder = Path(source)
    if folder.is_dir():
        return folder
    from huggingface_hub import snapshot_download  # noqa: PLC0415 (a folder does without)

    try:
        folder = Path(snapshot_download(str(source), allow_patterns=["*.json", "*.safetensors"]))
    except Exception as error:  # the hub's own, the connection's, the disk's
        reason = " ".join(str(error).split())[:200]
        problem = f"{source} is no folder here and cannot be fetched ({reason})"
        raise StreamError("bad_model", problem, KINDS_HINT) from None
    check_source(folder)
    return folder


def _check_quantization(quantization: str, device: torch.device) -> None:
    if quantization not in {"8bit", "4bit"}:
        raise StreamError("bad_setting", f"quantization is {quantization}", "use 8bit or 4bit")
    if find_spec("bitsandbytes") is None or find_spec("accelerate") is None:
        problem = f"{quantization} needs bitsandbytes and accelerate"
        raise StreamError("bad_setting", problem, "pip install bitsandbytes accelerate")
    if device.type not in QUANTIZING:
        served = " or ".join(QUANTIZING)
        problem = f"{quantization} by bitsandbytes runs on {served}, not on {device.type}"
        raise StreamError("bad_setting", problem, "leave the quantization out")
    # It would tell of its casts in a line for every layer and token.
    getLogger("bitsandbytes").setLevel(ERROR)
    try:
        _try_quantization(quantization, device)
    except Exception as error:  # libraries that are missing, instructions that are
        reason = " ".join(str(error).split())[:200]
        problem = f"{quantization} by bitsandbytes does not work on this {device.type} ({reason})"
        hint = "leave the quantization out, or pip install --upgrade bitsandbytes"
        raise StreamError("bad_setting", problem, hint) from None


def _try_quantization(quantization: str, device: torch.device) -> None:
    """Multiply by a tiny quantised matrix; raises whatever bitsandbytes does where it cannot."""
    from bitsandbytes import nn  # noqa: PLC0415 (it is optional)

    if quantization == "8bit":
        layer = nn.Linear8bitLt(64, 64, has_fp16_weights=False)
    else:
        layer = nn.Linear4bit(64, 64, quant_type=FOUR_BITS)
    layer.to(device)(torch.ones(1, 64, device=device))


def _settings(folder: Path, changes: Mapping[str, Any]) -> Settings:
    settings = Settings()
    if (folder / "streaming.json").exists():
        settings = read_config(folder / "streaming.json", Settings)
    try:
        return replace(settings, **changes)
    except (TypeError, ValueError) as error:
        raise StreamError("bad_setting", str(error), "choose another value") from None


def _tokenizer(folder: Path) -> Tokenizer:
    with taking(folder / "tokenizer.json"):
        return Tokenizer.from_file(str(folder / "tokenizer.json"))


def _processor(folder: Path) -> FrameProcessor:
    """transformers 4 gives the image processor a file of its own, 5 the whole processor one."""
    path = folder / next(name for name in PROCESSOR_FILES if (folder / name).exists())
    values = read_json(path)
    with taking(path):
        return FrameProcessor.from_config(values.get("image_processor", values))


def _model(
    folder: Path, device: torch.device, dtype: torch.dtype, quantization: Quantization | None
) -> Any:  # noqa: ANN401 (transformers has no types)
    from transformers import (  # noqa: PLC0415 (it takes seconds)
        BitsAndBytesConfig,
        Qwen2_5_VLForConditionalGeneration,
    )
    from transformers.utils import logging  # noqa: PLC0415

    more: dict[str, Any] = {}
    if quantization:
        four = {"bnb_4bit_compute_dtype": dtype, "bnb_4bit_quant_type": FOUR_BITS}
        bits = {f"load_in_{quantization}": True, **four}
        more = {"quantization_config": BitsAndBytesConfig(**bits), "device_map": {"": device}}
    with taking(folder), _quietly(logging):
        model, report = Qwen2_5_VLForConditionalGeneration.from_pretrained(
            folder, dtype=dtype, local_files_only=True, output_loading_info=True, **more
        )
    for fault in ("missing", "unexpected", "mismatched"):
        if names := sorted(map(str, report[f"{fault}_keys"])):
            count = f" and {len(names) - 1} more" if len(names) > 1 else ""
            problem = f"{folder} has {fault} tensors: {names[0]}{count}"
            raise StreamError("bad_model", problem, REFETCH)
    keep_unpacked(model)
    model.eval().requires_grad_(requires_grad=False)
    return model if quantization else model.to(device)


def _misfit(
    config: Any,  # noqa: ANN401
    processor: FrameProcessor,
    tokenizer: Tokenizer,
) -> str | None:
    """Which parts do not fit each other, or None."""
    vision = config.vision_config
    for ours, theirs in (
        ("patch_size", "patch_size"),
        ("temporal_patch_size", "temporal_patch_size"),
        ("merge_size", "spatial_merge_size"),
    ):
        if getattr(processor, ours) != getattr(vision, theirs):
            wanted = getattr(vision, theirs)
            return f"the processor's {ours} is {getattr(processor, ours)}, the model's {wanted}"
    words, room = tokenizer.get_vocab_size(), config.text_config.vocab_size
    if max(tokenizer.get_vocab().values()) >= room:
        return f"the tokenizer has {words} words, the model {room}"
    return None


@contextmanager
def _quietly(logging: Any) -> Iterator[None]:  # noqa: ANN401
    """Without transformers' progress bar and its report, which the caller makes a sentence of."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
