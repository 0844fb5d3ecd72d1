"""A folder's text encoder, in the precision and the place that were asked for."""

from __future__ import annotations

import hashlib
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import nn
from transformers import UMT5Config, UMT5EncoderModel

from longtake.models.folder import load_weights, read_headers, read_json, taking
from longtake.models.four_bits import keep_unpacked
from longtake.models.memory import making_room, weight_bytes
from longtake.models.video.prompt_cache import PromptCache
from longtake.models.video.rewriter import load_rewriter
from longtake.models.video.text import OffloadedEncoder, PromptEncoder, TextEncoder
from longtake.models.video.text_setting import QUANTIZED_BYTES, TextCount, TextSetting, TextSizes
from longtake.streaming import StreamError

# The last layer of each feed-forward part has inputs that do not fit float16, in which
# bitsandbytes multiplies 8 bits; transformers keeps it too.
_KEPT = ".wo"
_SAMPLE_BYTES = 1 << 20


def count_text(folder: Path) -> TextCount:
    """Weights of a folder's text encoder; none are read.

    Args:
        folder: of the part.

    Raises:
        StreamError: ``bad_model``: as :func:`.weight_bytes`.
    """
    # Of a byte each: so the scales of stored int8 weights are left out.
    count = weight_bytes(folder, torch.int8)
    linear = sum(
        prod(header.shape)
        for name, header in read_headers(folder)
        if name.endswith(".weight") and len(header.shape) == 2 and _is_quantized(name)
    )
    return TextCount(linear, count - linear)


def load_text_encoder(
    folder: Path,
    length: int,
    setting: TextSetting,
    device: torch.device,
    dtype: torch.dtype,
    prompts: Path | None,
) -> PromptEncoder:
    """A model folder's text encoder and its tokenizer.

    Args:
        folder: with ``text_encoder/`` and ``tokenizer/``, and ``rewriter.json`` where prompts are
            rewritten.
        length: text tokens, see :class:`.PromptEncoder`.
        setting: how it is kept; one that is offloaded is not loaded before it is needed.
        device: of the model.
        dtype: of the model.
        prompts: where an offloaded one keeps embeddings, see :class:`.PromptCache`.

    Raises:
        StreamError: ``bad_model``; ``bad_setting``: bitsandbytes is not there or cannot do it here.
    """
    part, where = folder / "text_encoder", setting.device(device)
    if setting.precision in QUANTIZED_BYTES:
        _bitsandbytes(setting.precision)
    tokenizer = _tokenizer(folder / "tokenizer" / "tokenizer.json")
    rewriter = load_rewriter(folder)
    load = partial(_model, part, setting, where, setting.dtype(dtype))
    if setting.offload is None:
        return TextEncoder(load(), tokenizer, length, rewriter)

    def load_in_time() -> UMT5EncoderModel:
        with making_room(part, TextSizes(count_text(part), setting, dtype), where):
            return load()

    cache = PromptCache(prompts, _identity(part, setting, dtype)) if prompts else None
    config = text_config(part)
    keep = setting.offload == "text"
    parts = (load_in_time, tokenizer, length, config, cache, rewriter)
    return OffloadedEncoder(*parts, keep=keep)


def text_config(folder: Path) -> UMT5Config:
    """Of a part's folder."""
    path = folder / "config.json"
    settings = read_json(path)
    with taking(path):
        return UMT5Config(**settings)


def empty_text_encoder(folder: Path) -> UMT5EncoderModel:
    """The encoder that ``config.json`` of a part's folder describes, on the meta device."""
    config = text_config(folder)
    with taking(folder / "config.json"), torch.device("meta"):
        return UMT5EncoderModel(config)


def _tokenizer(path: Path) -> Tokenizer:
    with taking(path):
        return Tokenizer.from_file(str(path))


def _model(
    folder: Path, setting: TextSetting, device: torch.device, dtype: torch.dtype
) -> UMT5EncoderModel:
    model = load_weights(empty_text_encoder(folder), folder, dtype)
    model.tie_weights()
    if setting.precision in QUANTIZED_BYTES:
        try:
            _quantize(model, setting.precision, device, dtype)
        except Exception as error:  # of its own, of its kernels for this device
            raise _refusal(setting.precision, f"fails on this {device.type}: {error}") from None
    return model.to(device)


def _quantize(
    model: UMT5EncoderModel, precision: str, device: torch.device, dtype: torch.dtype
) -> None:
    """Replace linear layers one by one, so that one at a time is there twice."""
    bits = _bitsandbytes(precision)
    for name, layer in list(model.named_modules()):
        if not isinstance(layer, nn.Linear) or not _is_quantized(f"{name}.weight"):
            continue
        sizes = (layer.in_features, layer.out_features)
        weight = layer.weight.data
        if precision == "nf4":
            new = bits.Linear4bit(
                *sizes, bias=False, compute_dtype=dtype, quant_type="nf4", device="meta"
            )
            new.weight = bits.Params4bit(weight, requires_grad=False, quant_type="nf4")
        else:
            # Inputs beyond 6 are multiplied as they are (LLM.int8(), section 3.2).
            new = bits.Linear8bitLt(
                *sizes, bias=False, has_fp16_weights=False, threshold=6.0, device="meta"
            )
            new.weight = bits.Int8Params(weight, requires_grad=False, has_fp16_weights=False)
        # The layer quantises its weight as it is moved.
        model.set_submodule(name, new.to(device))
    keep_unpacked(model)


def _is_quantized(name: str) -> bool:
    """Whether a weight is of a linear layer that is quantised."""
    layer = name.removesuffix(".weight")
    tables = ("shared", "embed_tokens", "relative_attention_bias")
    return not layer.endswith((_KEPT, *tables)) and "norm" not in layer


def _bitsandbytes(precision: str | None) -> Any:  # noqa: ANN401 (it carries no types)
    try:
        # It takes a second, and fails in many ways where it does not fit the machine.
        import bitsandbytes.nn as bits  # noqa: PLC0415
    except ImportError:
        raise _refusal(precision, "is not installed", "pip install bitsandbytes") from None
    except Exception as error:
        raise _refusal(precision, f"does not load here: {error}") from None
    return bits


def _refusal(
    precision: str | None, reason: str, hint: str = "leave --text-encoder out, or use bf16"
) -> StreamError:
    why = " ".join(reason.split())[:300]
    return StreamError("bad_setting", f"{precision} needs bitsandbytes, which {why}", hint)


def _identity(folder: Path, setting: TextSetting, dtype: torch.dtype) -> str:
    """Which encoder it is, and in which precision.

    Of each file of weights the size, the beginning and the end are taken: to read all of umT5-xxl
    takes as long as to load it, and weights that were trained further differ everywhere.
    """
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix not in {".json", ".safetensors"}:
            continue
        size = path.stat().st_size
        digest.update(f"{path.name}/{size}/".encode())
        with path.open("rb") as file:
            digest.update(file.read(_SAMPLE_BYTES))
            file.seek(max(0, size - _SAMPLE_BYTES))
            digest.update(file.read())
    return f"{digest.hexdigest()}/{setting.precision}/{setting.dtype(dtype)}"
