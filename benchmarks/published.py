"""Random weights in the very files that Wan 2.1's are published in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import nn
from transformers import UMT5Config, UMT5EncoderModel

from longtake.benchmarks.random_model import Shape, random_weight, word_tokenizer
from longtake.kernels import bind
from longtake.models.folder import write_json, write_shards
from longtake.models.video.originals import rename_transformer
from longtake.models.video.transformer import WanTransformer

FILE_BYTES = 2_000_000_000


def original_names(layers: int) -> list[str]:
    """What Wan 2.1 calls its transformer's tensors; 825 of them with the 1.3B's 30 layers."""
    affine = [f"{part}_embedding.{index}" for part in ("text", "time") for index in (0, 2)]
    affine += ["patch_embedding", "time_projection.1", "head.head"]
    names = ["head.modulation", *_weights_and_biases(affine)]
    block = ["modulation", *_weights_and_biases(("norm3", "ffn.0", "ffn.2"))]
    for attention in ("self_attn", "cross_attn"):
        block += _weights_and_biases(f"{attention}.{layer}" for layer in "qkvo")
        block += [f"{attention}.norm_{layer}.weight" for layer in "qk"]
    return names + [f"blocks.{index}.{name}" for index in range(layers) for name in block]


def _weights_and_biases(layers: Iterable[str]) -> list[str]:
    return [f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")]


def write_transformer(folder: Path, shape: Shape, device: torch.device) -> int:
    """A folder as Wan 2.1's transformer is published, in float32; returns the bytes of tensors.

    Args:
        folder: made.
        shape: of the model.
        device: the weights are drawn on.
    """
    with torch.device("meta"):
        module = WanTransformer(shape.transformer, bind(torch.device("cpu"), torch.float32))
    originals = rename_transformer(original_names(shape.transformer.num_layers))
    size = _write(folder, module, "diffusion_pytorch_model", device, torch.float32, originals)
    heads = shape.transformer.num_attention_heads
    write_json(folder / "config.json", {"_class_name": "WanModel", "num_heads": heads})
    return size


def write_rest(
    folder: Path, shape: Shape, text: UMT5Config, device: torch.device
) -> tuple[int, int]:
    """A folder in the diffusers layout with all but a transformer: a codec and a text encoder.

    Args:
        folder: made.
        shape: of the model.
        text: the text encoder's config.
        device: the weights are drawn on.

    Returns:
        Bytes of each part's tensors.
    """
    from diffusers import AutoencoderKLWan  # noqa: PLC0415 (it takes a second)

    with torch.device("meta"):
        vae, encoder = AutoencoderKLWan(**shape.wan_vae), UMT5EncoderModel(text)
    stem = "diffusion_pytorch_model"
    sizes = (
        _write(folder / "vae", vae, stem, device, torch.float32),
        _write(folder / "text_encoder", encoder, "model", device, torch.bfloat16),
    )
    codec = {"_class_name": "AutoencoderKLWan", "z_dim": 16, **shape.wan_vae}
    write_json(folder / "vae" / "config.json", codec)
    write_json(folder / "text_encoder" / "config.json", text.to_diff_dict())
    (folder / "tokenizer").mkdir()
    word_tokenizer().save(str(folder / "tokenizer" / "tokenizer.json"))
    index = {
        "_class_name": "WanPipeline",
        "vae": ["diffusers", "AutoencoderKLWan"],
        "text_encoder": ["transformers", "UMT5EncoderModel"],
        "tokenizer": ["tokenizers", "Tokenizer"],
    }
    write_json(folder / "model_index.json", index)
    return sizes


def _write(
    folder: Path,
    module: nn.Module,
    stem: str,
    device: torch.device,
    dtype: torch.dtype,
    names: Mapping[str, str] | None = None,
) -> int:
    """Random weights of a module on the meta device, under other names if some are given."""
    parameters = dict(module.named_parameters())
    names = names or {name: name for name in parameters}
    tensors = (
        (stored, random_weight(name, parameters[name].shape, device).to("cpu", dtype))
        for name, stored in names.items()
    )
    write_shards(tensors, folder, stem, FILE_BYTES)
    return sum(parameter.numel() for parameter in parameters.values()) * dtype.itemsize


def umt5_xxl() -> UMT5Config:
    """The text encoder that Wan 2.1 comes with."""
    return UMT5Config(
        vocab_size=256384, d_model=4096, d_kv=64, d_ff=10240, num_heads=64, num_layers=24
    )
