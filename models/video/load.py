"""A model folder to a :class:`~longtake.models.video.generator.VideoGenerator`, strictly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from longtake.kernels import Kernels, bind, fastest_attention, has_bfloat16, implementations
from longtake.models.folder import (
    load_weights,
    read_config,
    read_json,
    save_weights,
    stored_parameters,
    taking,
    write_json,
)
from longtake.models.memory import making_room, weight_bytes
from longtake.models.quantization import quantize
from longtake.models.video.codec import VideoCodec
from longtake.models.video.generator import VideoGenerator
from longtake.models.video.lora import LoRA
from longtake.models.video.memory import FilmSizes
from longtake.models.video.settings import StreamingConfig
from longtake.models.video.text import PromptEncoder, TextEncoder
from longtake.models.video.text_load import count_text, load_text_encoder
from longtake.models.video.text_setting import TextSetting
from longtake.models.video.tiny_codec import TinyCodec, TinyCodecConfig
from longtake.models.video.transformer import TransformerConfig, WanTransformer
from longtake.models.video.wan_codec import WanCodec
from longtake.streaming import StreamError

# Says how the stored weights are to be read; ours alone, so other tools refuse it by name.
INT8 = {"quant_method": "longtake_int8", "scale": "per output channel"}
_WEIGHTS = ("transformer", "vae")
# Channels from which on a linear layer is faster in int8 on CPUs that multiply bfloat16 by
# instructions of their own. Below, what its product saves goes into rounding what goes in and
# scaling what comes out.
_WIDE = 640


def load_generator(
    folder: Path,
    device: torch.device,
    dtype: torch.dtype,
    overrides: Mapping[str, str] | None = None,
    lora: LoRA | None = None,
    *,
    int8: bool = False,
    fp8_cache: bool = False,
    changes: Mapping[str, int] | None = None,
    text: TextSetting | None = None,
    prompts: Path | None = None,
) -> VideoGenerator:
    """Load every part of a folder.

    Args:
        folder: with ``model_index.json``, ``streaming.json``, ``transformer/``, ``vae/``,
            ``text_encoder/`` and ``tokenizer/``; with ``rewriter.json`` prompts are rewritten, see
            :class:`.PromptRewriter`.
        device: for the weights.
        dtype: for the weights.
        overrides: operation -> implementation, see :func:`longtake.kernels.bind`.
        lora: merged into the transformer's weights as they are loaded.
        int8: whether to compute in int8 what is faster so: the transformer's blocks, see
            :class:`.WanTransformer`, but for narrow ones on some CPUs, and on others the decoder,
            see :meth:`.TinyCodec.settle`; it does not matter how the folder stores its weights.
        fp8_cache: whether films keep keys and values in 8-bit floating point.
        changes: of ``streaming.json``, see :meth:`.FilmSizes.changed`.
        text: how the text encoder is kept.
        prompts: folder for embeddings of prompts, of a text encoder that is offloaded.

    Raises:
        StreamError: ``bad_model``: what is missing, unknown or unfit, named; ``bad_lora``: it was
            trained for another model; ``no_memory``: it would not fit, with the arithmetic and what
            would; ``bad_setting``: int8 or a cache in fp8 is asked for where nothing makes it
            fast, the text encoder cannot be kept so, or the changes do not fit.
    """
    text = text or TextSetting()
    text.check()
    sizes = film_sizes(folder, dtype, device, text, int8=int8, fp8_cache=fp8_cache)
    if changes:
        sizes = sizes.changed(changes)
    config = sizes.config
    measured = fastest_attention(sizes.attention_shape, device, dtype, fp8=fp8_cache)
    kernels = bind(device, dtype, {**measured, **(overrides or {})})
    if int8 and "int8_linear" in (overrides or {}):
        sizes = replace(sizes, int8=True)
    elif int8:
        check_int8(device, dtype)
        _check_gain(sizes)
    if fp8_cache and "attention_fp8" not in (overrides or {}):
        check_fp8(device, dtype)
    with making_room(folder, sizes, device):
        transformer = _transformer(folder / "transformer", kernels, dtype, lora, int8=sizes.int8)
        transformer.settle(device)
        codec = _codec(folder / "vae", sizes.codec, kernels, device, dtype, int8=sizes.int8_decoder)
        text_encoder = load_text_encoder(folder, config.text_length, text, device, dtype, prompts)
    if misfit := _misfit(config, transformer, codec, text_encoder):
        raise StreamError("bad_model", f"{folder}: {misfit}", "its parts are of different models")
    parts = (transformer, codec, text_encoder, config, kernels)
    return VideoGenerator(*parts, device, dtype, fp8_cache=fp8_cache)


def film_sizes(
    folder: Path,
    dtype: torch.dtype,
    device: torch.device,
    text: TextSetting | None = None,
    *,
    int8: bool = False,
    fp8_cache: bool = False,
) -> FilmSizes:
    """What a folder's films will take in memory; no weights are read.

    Args:
        folder: as in :func:`load_generator`.
        dtype: as there.
        device: as there.
        text: as there.
        int8: as there.
        fp8_cache: as there.

    Raises:
        StreamError: ``bad_model``: what is missing, unknown or unfit, named.
    """
    if not folder.is_dir():
        problem = f"there is no model folder {folder}"
        raise StreamError("bad_model", problem, "leave --model out to use the bundled one")
    index = read_json(folder / "model_index.json")
    config = read_config(folder / "transformer" / "config.json", TransformerConfig)
    codec = empty_codec(folder / "vae", index.get("vae"))
    quantizable = int8_linears(config, device, dtype)
    return FilmSizes(
        config,
        codec,
        read_config(folder / "streaming.json", StreamingConfig),
        dtype,
        {part: weight_bytes(folder / part, dtype) for part in _WEIGHTS},
        count_text(folder / "text_encoder"),
        text or TextSetting(),
        on_gpu=device.type != "cpu",
        int8=int8 and quantizable,
        int8_decoder=int8 and isinstance(codec, TinyCodec) and codec.serves_int8(device),
        quantizable=quantizable,
        fp8_cache=fp8_cache,
        narrowable=serves_fp8(device, dtype),
    )


def empty_transformer(folder: Path, kernels: Kernels, *, int8: bool = False) -> WanTransformer:
    """The transformer that ``config.json`` of a part's folder describes, on the meta device."""
    config = read_config(folder / "config.json", TransformerConfig)
    with torch.device("meta"):
        return WanTransformer(config, kernels, int8=int8)


def serves_int8(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether there is more than the reference, which is many times slower than no int8."""
    return _is_fast("int8_linear", device, dtype)


def serves_fp8(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether there is more than the reference for keys and values in 8-bit floating point."""
    return _is_fast("attention_fp8", device, dtype)


def _is_fast(operation: str, device: torch.device, dtype: torch.dtype) -> bool:
    return bind(device, dtype).names[operation] != "reference"


def int8_linears(config: TransformerConfig, device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a transformer's linear layers are served in int8, and faster so."""
    native = device.type == "cpu" and dtype == torch.bfloat16 and has_bfloat16()
    return serves_int8(device, dtype) and (config.dim >= _WIDE or not native)


def _check_gain(sizes: FilmSizes) -> None:
    """Refuse int8 where nothing of the model would be in it.

    Raises:
        StreamError: ``bad_setting``.
    """
    if not sizes.any_int8:
        problem = "nothing of this model is faster in int8 on this CPU"
        raise StreamError("bad_setting", problem, "leave --quantize out")


def check_int8(device: torch.device, dtype: torch.dtype) -> None:
    """Refuse int8 where nothing makes it fast; its reference has to be asked for by name.

    Raises:
        StreamError: ``bad_setting``.
    """
    if not serves_int8(device, dtype):
        raise _not_served("int8", "int8_linear", "--quantize", device, dtype)


def check_fp8(device: torch.device, dtype: torch.dtype) -> None:
    """Refuse a cache in 8-bit floating point likewise.

    Raises:
        StreamError: ``bad_setting``.
    """
    if not serves_fp8(device, dtype):
        raise _not_served("a cache in fp8", "attention_fp8", "--kv-cache", device, dtype)


def _not_served(
    what: str, operation: str, option: str, device: torch.device, dtype: torch.dtype
) -> StreamError:
    why = next(
        refusal
        for each in reversed(implementations(operation))
        if (refusal := each.refusal(device, dtype))
    )
    problem = f"{what} is not served on this {device.type} device: its kernel {why}"
    return StreamError("bad_setting", problem, f"leave {option} out")


def empty_codec(folder: Path, kind: object) -> TinyCodec | WanCodec:
    """The codec that ``config.json`` of a part's folder describes, on the meta device.

    Args:
        folder: of the part.
        kind: the library and the class, from ``model_index.json``.

    Raises:
        StreamError: ``bad_model``: the config does not fit, or the class is not served.
    """
    path = folder / "config.json"
    if kind == ["longtake", "TinyCodec"]:
        config = read_config(path, TinyCodecConfig)
        with torch.device("meta"):
            return TinyCodec(config)
    if kind == ["diffusers", "AutoencoderKLWan"]:
        # Here and not above: the bundled model does without, and starts a second sooner.
        from diffusers import AutoencoderKLWan  # noqa: PLC0415

        settings = read_json(path)
        with taking(path), torch.device("meta"):
            return WanCodec(AutoencoderKLWan.from_config(settings))
    problem = f"{folder.parent / 'model_index.json'} names the codec {kind}"
    hint = "TinyCodec of longtake and AutoencoderKLWan of diffusers are served"
    raise StreamError("bad_model", problem, hint)


def _transformer(
    folder: Path, kernels: Kernels, dtype: torch.dtype, lora: LoRA | None, *, int8: bool
) -> WanTransformer:
    empty = empty_transformer(folder, kernels, int8=int8)
    if lora is None:
        return load_weights(empty, folder, dtype)
    lora.check(dict(empty.named_parameters()))
    return load_weights(empty, folder, dtype, lora.merge)


def _codec(
    folder: Path,
    empty: VideoCodec,
    kernels: Kernels,
    device: torch.device,
    dtype: torch.dtype,
    *,
    int8: bool,
) -> VideoCodec:
    if isinstance(empty, WanCodec):
        vae = load_weights(empty.vae, folder, dtype).to(device)
        return WanCodec(vae, kernels.norm_silu_write)
    assert isinstance(empty, TinyCodec)
    return load_weights(empty, folder, dtype).settle(device, int8=int8)


def _misfit(
    config: StreamingConfig,
    transformer: WanTransformer,
    codec: VideoCodec,
    text_encoder: PromptEncoder,
) -> str | None:
    """Which parts do not fit each other, or None."""
    sizes, text = transformer.config, text_encoder.config
    if not sizes.in_channels == sizes.out_channels == codec.channels:
        channels = f"{sizes.in_channels} in and {sizes.out_channels} out"
        return f"the transformer has {channels}, the codec's latents {codec.channels} channels"
    if sizes.text_dim != text.d_model:
        return f"text_dim is {sizes.text_dim}, the text encoder's d_model {text.d_model}"
    if (words := text_encoder.tokenizer.get_vocab_size()) > text.vocab_size:
        return f"the tokenizer has {words} words, the text encoder {text.vocab_size}"
    _, high, wide = sizes.patch_size
    rows, columns = codec.spatial * high, codec.spatial * wide
    if config.height % rows or config.width % columns:
        size = f"{config.width}x{config.height}"
        return f"{size} pixels are no whole number of tokens of {columns}x{rows}"
    return None


def save_generator(
    folder: Path,
    transformer: WanTransformer,
    codec: TinyCodec,
    text_encoder: TextEncoder,
    config: StreamingConfig,
) -> None:
    """Write a model folder that :func:`load_generator` reads, its weights in int8.

    Args:
        folder: made if need be; files of the same names are replaced.
        transformer: as trained.
        codec: as trained, its config with the latents' statistics.
        text_encoder: as trained.
        config: what the model was trained to stream with.
    """
    parts: tuple[tuple[str, nn.Module, dict[str, Any], str], ...] = (
        (
            "transformer",
            transformer,
            {"_class_name": "WanTransformer3DModel", **asdict(transformer.config)},
            "diffusion_pytorch_model",
        ),
        (
            "vae",
            codec,
            {"_class_name": "TinyCodec", **asdict(codec.config)},
            "diffusion_pytorch_model",
        ),
        ("text_encoder", text_encoder.model, text_encoder.model.config.to_diff_dict(), "model"),
    )
    for name, module, settings, stem in parts:
        save_weights(quantize(stored_parameters(module)), folder / name, stem)
        write_json(folder / name / "config.json", settings | {"quantization_config": INT8})
    (folder / "tokenizer").mkdir(exist_ok=True)
    text_encoder.tokenizer.save(str(folder / "tokenizer" / "tokenizer.json"))
    write_json(folder / "streaming.json", asdict(config))
    index = {
        "_class_name": "WanPipeline",
        "transformer": ["diffusers", "WanTransformer3DModel"],
        "vae": ["longtake", "TinyCodec"],
        "text_encoder": ["transformers", "UMT5EncoderModel"],
        "tokenizer": ["tokenizers", "Tokenizer"],
    }
    write_json(folder / "model_index.json", index)
