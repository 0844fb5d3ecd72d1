"""The layouts in which Wan 2.1's parts are published, and how each becomes diffusers' layout.

Names of the transformer and the VAE are changed by diffusers' own conversion functions, which only
rename. Sizes are read from the tensors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import Size, Tensor

from longtake.models.video.tiny_codec import TinyCodecConfig
from longtake.models.video.transformer import TransformerConfig

HEAD_DIM = 128
"""Channels of an attention head, in every Wan 2.1; the tensors do not say."""
WAN_TEMPORAL = 4
"""Pixel frames a latent frame, of Wan 2.1's codec."""


@dataclass(frozen=True)
class Layout:
    """One part as its makers publish it.

    Attributes:
        part: its folder's name.
        kind: library and class, for ``model_index.json``.
        mark: a name that only its tensors have, without prefixes.
        rename: diffusers' name -> name without prefixes, of all the names given.
        config: the part's ``config.json`` from its renamed tensors, and the channels of a head.
        trim: cuts tensors that are larger than the model; None where there are none.
    """

    part: str
    kind: tuple[str, str]
    mark: str
    rename: Callable[[Iterable[str]], dict[str, str]]
    config: Callable[[Mapping[str, Tensor], int], dict[str, Any]]
    trim: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None


def recognise(names: Iterable[str]) -> Layout | None:
    """The layout that has these names, without prefixes; None where none has."""
    given = set(names)
    return next((layout for layout in LAYOUTS if layout.mark in given), None)


def rename_transformer(names: Iterable[str]) -> dict[str, str]:
    """Diffusers' name -> Wan's; linear layers that have diffusers' names already keep them."""
    from diffusers.loaders.single_file_utils import (  # noqa: PLC0415 (it takes seconds)
        convert_wan_transformer_to_diffusers,
    )

    renamed: dict[str, str] = convert_wan_transformer_to_diffusers({name: name for name in names})
    return renamed


def _rename_vae(names: Iterable[str]) -> dict[str, str]:
    from diffusers.loaders.single_file_utils import (  # noqa: PLC0415
        convert_wan_vae_to_diffusers,
    )

    renamed: dict[str, str] = convert_wan_vae_to_diffusers({name: name for name in names})
    return renamed


def _rename_text_encoder(names: Iterable[str]) -> dict[str, str]:
    return {_text_encoder_name(name): name for name in names}


def _text_encoder_name(name: str) -> str:
    """The name in transformers' ``UMT5EncoderModel`` of a tensor of Wan's umT5."""
    fixed = {
        "token_embedding.weight": "shared.weight",
        "norm.weight": "encoder.final_layer_norm.weight",
    }
    layers = {
        "norm1": "layer.0.layer_norm",
        "attn": "layer.0.SelfAttention",
        "pos_embedding.embedding": "layer.0.SelfAttention.relative_attention_bias",
        "norm2": "layer.1.layer_norm",
        "ffn.gate.0": "layer.1.DenseReluDense.wi_0",
        "ffn.fc1": "layer.1.DenseReluDense.wi_1",
        "ffn.fc2": "layer.1.DenseReluDense.wo",
    }
    for theirs, ours in layers.items():
        block, found, rest = name.partition(f".{theirs}.")
        if found and block.startswith("blocks."):
            return f"encoder.block.{block.removeprefix('blocks.')}.{ours}.{rest}"
    return fixed.get(name, name)


def _rename_nothing(names: Iterable[str]) -> dict[str, str]:
    return {name: name for name in names}


def _transformer_config(tensors: Mapping[str, Tensor], head_dim: int) -> dict[str, Any]:
    shape = tensors["patch_embedding.weight"].shape
    if len(shape) != 5:
        raise ValueError(f"patch_embedding.weight is {list(shape)}, no convolution over frames")
    dim, channels, patch = shape[0], shape[1], (shape[2], shape[3], shape[4])
    if head_dim < 2 or dim % head_dim:
        raise ValueError(f"{dim} channels are no whole number of heads of {head_dim}")
    conditions = "condition_embedder"
    config = TransformerConfig(
        num_attention_heads=dim // head_dim,
        attention_head_dim=head_dim,
        ffn_dim=tensors["blocks.0.ffn.net.0.proj.weight"].shape[0],
        num_layers=_count(tensors, "blocks."),
        in_channels=channels,
        out_channels=tensors["proj_out.weight"].shape[0] // math.prod(patch),
        text_dim=tensors[f"{conditions}.text_embedder.linear_1.weight"].shape[1],
        freq_dim=tensors[f"{conditions}.time_embedder.linear_1.weight"].shape[1],
        patch_size=patch,
        cross_attn_norm="blocks.0.norm2.weight" in tensors,
    )
    return {"_class_name": "WanTransformer3DModel", **asdict(config)}


def _text_encoder_config(tensors: Mapping[str, Tensor], _: int) -> dict[str, Any]:
    from transformers import UMT5Config  # noqa: PLC0415 (it takes seconds)

    words, width = tensors["shared.weight"].shape
    block = "encoder.block.0.layer."
    buckets, heads = tensors[f"{block}0.SelfAttention.relative_attention_bias.weight"].shape
    config: dict[str, Any] = UMT5Config(
        vocab_size=words,
        d_model=width,
        d_kv=tensors[f"{block}0.SelfAttention.q.weight"].shape[0] // heads,
        d_ff=tensors[f"{block}1.DenseReluDense.wi_0.weight"].shape[0],
        num_layers=_count(tensors, "encoder.block."),
        num_heads=heads,
        relative_attention_num_buckets=buckets,
    ).to_diff_dict()
    return config


def _vae_config(tensors: Mapping[str, Tensor], _: int) -> dict[str, Any]:
    """All that is left out is diffusers' default: Wan 2.1's."""
    channels = tensors["post_quant_conv.weight"].shape[0]
    if channels != 16:
        raise ValueError(f"its latents have {channels} channels, Wan 2.1's have 16")
    base = tensors["encoder.conv_in.weight"].shape[0]
    return {"_class_name": "AutoencoderKLWan", "base_dim": base, "z_dim": channels}


def _tiny_config(tensors: Mapping[str, Tensor], _: int) -> dict[str, Any]:
    """Of a TAEHV, whose latents are those that the transformer makes, as they are."""
    pools, grows = (_resamplings(tensors, part) for part in ("encoder", "decoder"))
    last = max(int(name.split(".")[1]) for name in tensors if name.startswith("decoder."))
    config = TinyCodecConfig(
        latent_channels=tensors["decoder.1.weight"].shape[1],
        patch_size=math.isqrt(tensors[f"decoder.{last}.weight"].shape[0] // 3),
        # A clamp, a convolution and its activation come before them, an upsampling after.
        blocks=min(grows) - 4,
        encoder_channels=_widths(tensors, "encoder.0", pools) if pools else (),
        encoder_pool=tuple(shape[1] // shape[0] for shape in pools.values()),
        encoder_stride=(2,) * len(pools),
        decoder_channels=_widths(tensors, "decoder.1", grows),
        decoder_scale=(2,) * len(grows),
        decoder_grow=tuple(shape[0] // shape[1] for shape in grows.values()),
    )
    config = replace(config, frames_to_trim=config.temporal - 1)
    return {"_class_name": "TinyCodec", **asdict(config)}


def _trim_grows(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """A TAEHV may hold an earlier grow that makes more frames than its encoder folds.

    As its author does, only the channels of the last frame are kept. A decoder alone makes of a
    latent as many frames as Wan's.
    """
    tensors = dict(tensors)
    pools = _resamplings(tensors, "encoder")
    folded = math.prod(shape[1] // shape[0] for shape in pools.values()) if pools else WAN_TEMPORAL
    grows = _resamplings(tensors, "decoder")
    grown = math.prod(shape[0] // shape[1] for shape in grows.values())
    for index, (more, channels, *_) in grows.items():
        if grown > folded:
            name = f"decoder.{index}.conv.weight"
            tensors[name] = tensors[name][-channels:]
            grown //= more // channels
    return tensors


def _resamplings(tensors: Mapping[str, Tensor], part: str) -> dict[int, Size]:
    """Index and shape of the 1x1 convolutions that fold frames or grow them, in order."""
    found = {}
    for name, tensor in tensors.items():
        first, index, rest = (*name.split(".", 2), "", "")[:3]
        if first == part and rest == "conv.weight" and index.isdecimal():
            found[int(index)] = tensor.shape
    return dict(sorted(found.items()))


def _widths(tensors: Mapping[str, Tensor], stem: str, stages: Iterable[int]) -> tuple[int, ...]:
    """Channels of the stem, and of the convolution behind each stage's resampling."""
    part = stem.partition(".")[0]
    names = [f"{stem}.weight", *(f"{part}.{index + 1}.weight" for index in stages)]
    return tuple(tensors[name].shape[0] for name in names)


def _count(tensors: Mapping[str, Tensor], prefix: str) -> int:
    """Blocks whose names begin with the prefix and their number."""
    return len({n.removeprefix(prefix).partition(".")[0] for n in tensors if n.startswith(prefix)})


LAYOUTS = (
    Layout(
        "transformer",
        ("diffusers", "WanTransformer3DModel"),
        "patch_embedding.weight",
        rename_transformer,
        _transformer_config,
    ),
    Layout(
        "text_encoder",
        ("transformers", "UMT5EncoderModel"),
        "token_embedding.weight",
        _rename_text_encoder,
        _text_encoder_config,
    ),
    Layout(
        "vae",
        ("diffusers", "AutoencoderKLWan"),
        "encoder.conv1.weight",
        _rename_vae,
        _vae_config,
    ),
    Layout(
        "vae",
        ("longtake", "TinyCodec"),
        "decoder.1.weight",
        _rename_nothing,
        _tiny_config,
        trim=_trim_grows,
    ),
)
