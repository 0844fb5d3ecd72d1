"""What is trained: the transformer and its text encoder; built, saved and loaded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import UMT5EncoderModel

from longtake.models.folder import stored_parameters
from longtake.models.video.self_attention import SelfAttention
from longtake.models.video.settings import StreamingConfig
from longtake.models.video.text import encode_tokens
from longtake.models.video.transformer import TransformerConfig, WanTransformer
from longtake.training.attention import ChunkCausalAttention, training_kernels
from longtake.training.loop import load_parameters
from longtake.training.prompts import build_text_encoder, build_tokenizer


class Denoiser(nn.Module):
    """The transformer with its text encoder: what is trained, averaged and saved."""

    def __init__(self, transformer: WanTransformer, text: UMT5EncoderModel) -> None:
        super().__init__()
        self.transformer = transformer
        self.text = text

    def embed(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Embeddings [B, length, d_model] of token ids and mask, int64 [B, length]."""
        return encode_tokens(self.text, ids, mask)


class Flow(nn.Module):
    """One forward from embeddings to flow."""

    def __init__(self, transformer: WanTransformer) -> None:
        super().__init__()
        self.transformer = transformer

    def forward(
        self,
        clean: Tensor,
        noisy: Tensor,
        timesteps: Tensor,
        embeddings: Tensor,
        attention: SelfAttention,
    ) -> Tensor:
        """The predicted flow, shaped as `noisy` [B, C, F, h, w], seen after `clean` latents.

        `timesteps`: of `noisy`, [B, F]; `attention` says which chunks they are. `clean` has the
        dtype of the residual stream.
        """
        text = self.transformer.encode_text(embeddings)
        latents = torch.cat((clean, noisy.to(clean.dtype)), 2)
        timesteps = F.pad(timesteps, (clean.shape[2], 0))
        flow: Tensor = self.transformer(latents, timesteps, text, attention)
        return flow[:, :, clean.shape[2] :]


def initialise(transformer: WanTransformer) -> None:
    """Xavier for the matrices, a silent head.

    Wan starts its embedders at a fiftieth of that; here words have minutes to be heard, not weeks.
    """
    for module in transformer.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    patches = transformer.patch_embedding
    nn.init.xavier_uniform_(patches.weight.flatten(1))
    nn.init.zeros_(transformer.proj_out.weight)


def transformer_config(described: dict[str, Any]) -> TransformerConfig:
    """The sizes in a JSON description; lists there are tuples here."""
    sizes: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in described["transformer"].items()
    }
    return TransformerConfig(**sizes)


def build_denoiser(described: dict[str, Any], device: torch.device) -> Denoiser:
    """An untrained model from a JSON description (see `bundled.json`)."""
    transformer = WanTransformer(transformer_config(described), training_kernels(device))
    initialise(transformer)
    text = build_text_encoder(described["text_encoder"], build_tokenizer())
    return Denoiser(transformer, text).to(device)


def chunk_attention(
    transformer: WanTransformer,
    streaming: StreamingConfig,
    latent: tuple[int, int],
    *,
    clean: int,
    noisy: int,
    first: int,
) -> ChunkCausalAttention:
    """The training attention over latents of `latent` rows and columns."""
    config = transformer.config
    grid = (latent[0] // config.patch_size[1], latent[1] // config.patch_size[2])
    device = transformer.proj_out.weight.device
    return ChunkCausalAttention(
        transformer.kernels,
        streaming.chunk,
        grid,
        config.attention_head_dim,
        device,
        clean=clean,
        noisy=noisy,
        first=first,
        sink=streaming.sink,
        radial=streaming.radial,
    )


def compile_blocks(denoiser: Denoiser) -> None:
    """Compile block by block: all share one compilation, a fifth of the whole model's time."""
    # Where an attention is not to be compiled, a break in the block itself would hand it the number
    # of its layer, and so compile each layer anew.
    torch._dynamo.config.nested_graph_breaks = True
    # Where they are not tuned, the compiler's guess at a kernel is ten times too slow at times.
    options: dict[str, str | int | bool | Callable[..., object]] = {"max_autotune_pointwise": True}
    for block in denoiser.transformer.blocks:
        block.compile(dynamic=False, options=options)


def save_denoiser(denoiser: Denoiser, described: dict[str, Any], folder: Path) -> None:
    """Write `model.safetensors` (bfloat16) and the description as `config.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(described, indent=1) + "\n")
    weights = {
        name: value.to(torch.bfloat16).contiguous()
        for name, value in stored_parameters(denoiser).items()
    }
    save_file(weights, folder / "model.safetensors")


def load_denoiser(folder: Path, device: torch.device) -> tuple[Denoiser, dict[str, Any]]:
    """A trained model in float32, ready to use, and its description."""
    described: dict[str, Any] = json.loads((folder / "config.json").read_text())
    denoiser = build_denoiser(described, device)
    load_parameters(denoiser, folder)
    return denoiser.eval(), described
