"""The causal video diffusion transformer: Wan 2.1's architecture with a timestep for each frame.

Parameter names and the config's fields are those of diffusers' ``WanTransformer3DModel``, so its
files load as they are. What differs is who owns self-attention's keys: ``forward`` hands queries,
keys and values to a :class:`.SelfAttention` (a cache, a training mask), which rotates, keeps and
attends.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from longtake.kernels import Kernels, Quantized
from longtake.models.packing import pack_linears, packed
from longtake.models.quantization import Int8Linear
from longtake.models.video.conditions import Conditions, Modulation, timestep_sinusoid
from longtake.models.video.self_attention import Memory, Norms, SelfAttention

TextKV = Sequence[tuple[Tensor, Tensor]]
"""For each layer the prompt's keys and values, both [batch, text_tokens, heads, head_dim]."""


@dataclass(frozen=True)
class TransformerConfig:
    """The fields of diffusers' config that a text-to-video model uses.

    Raises:
        ValueError: a field has a value this implementation does not serve.
    """

    num_attention_heads: int
    attention_head_dim: int
    ffn_dim: int
    num_layers: int
    in_channels: int = 16
    out_channels: int = 16
    text_dim: int = 4096
    freq_dim: int = 256
    patch_size: tuple[int, int, int] = (1, 2, 2)
    cross_attn_norm: bool = True
    qk_norm: str = "rms_norm_across_heads"
    eps: float = 1e-6
    image_dim: int | None = None
    added_kv_proj_dim: int | None = None
    pos_embed_seq_len: int | None = None
    rope_max_seq_len: int = 1024

    def __post_init__(self) -> None:
        if self.patch_size[0] != 1:
            raise ValueError(f"patch_size {self.patch_size}: only 1 latent frame a token is served")
        if self.qk_norm != "rms_norm_across_heads":
            raise ValueError(f"qk_norm {self.qk_norm!r}: only 'rms_norm_across_heads' is served")
        if self.image_dim or self.added_kv_proj_dim or self.pos_embed_seq_len:
            raise ValueError("image conditioning (image_dim, added_kv_proj_dim) is not served")

    @property
    def dim(self) -> int:
        """Channels of the residual stream."""
        return self.num_attention_heads * self.attention_head_dim

    @property
    def linear(self) -> LinearCount:
        """Of the blocks' linear layers: four in each of two attentions, and two feed-forward."""
        weights = 8 * self.dim**2 + 2 * self.dim * self.ffn_dim
        return LinearCount(
            self.num_layers * weights, self.num_layers * (9 * self.dim + self.ffn_dim)
        )


class LinearCount(NamedTuple):
    """Of linear layers together.

    Attributes:
        weights: without biases.
        outputs: channels, each with a scale of its own where weights are in int8.
    """

    weights: int
    outputs: int


def _heads(x: Tensor, heads: int) -> Tensor:
    """[..., heads * head_dim] -> [..., heads, head_dim]."""
    return x.view(*x.shape[:-1], heads, -1)


class _Stream(NamedTuple):
    """The residual stream between blocks, and what is left to be added: the next norm does both.

    Attributes:
        x: [batch, frames, tokens of a frame, dim].
        y: to be added, as ``x``.
        gate: of ``y``, [batch, frames, 1, dim].
    """

    x: Tensor
    y: Tensor
    gate: Tensor


@dataclass(frozen=True)
class _Precision:
    """The blocks' linear layers, and the operations that feed them."""

    linear: Callable[[int, int], nn.Module]
    gated_layer_norm: Callable[
        [Tensor, Tensor, Tensor, Tensor, Tensor, float], tuple[Tensor, Tensor | Quantized]
    ]
    added_modulate: Callable[
        [Tensor, Tensor, Tensor, Tensor, float], tuple[Tensor, Tensor | Quantized]
    ]
    gated_modulate: Callable[
        [Tensor, Tensor, Tensor, Tensor, Tensor, float], tuple[Tensor, Tensor | Quantized]
    ]
    # Of the kind of layer that `linear` makes, and what it takes.
    linear_gelu: Callable[[Any, Any], Tensor | Quantized]

    @staticmethod
    def of(ops: Kernels, *, int8: bool) -> _Precision:
        if int8:
            return _Precision(
                partial(Int8Linear, kernels=ops),
                ops.gated_layer_norm_int8,
                ops.added_modulate_int8,
                ops.gated_modulate_int8,
                lambda linear, x: ops.gelu_int8(linear(x)),
            )
        return _Precision(
            nn.Linear,
            ops.gated_layer_norm,
            ops.added_modulate,
            ops.gated_modulate,
            lambda linear, x: ops.linear_gelu(x, linear.weight, linear.bias),
        )


class _Attention(nn.Module):
    def __init__(self, config: TransformerConfig, kernels: Kernels, precision: _Precision) -> None:
        super().__init__()
        dim = config.dim
        self.to_q = precision.linear(dim, dim)
        self.to_k = precision.linear(dim, dim)
        self.to_v = precision.linear(dim, dim)
        self.to_out = nn.ModuleList([precision.linear(dim, dim)])
        self.norm_q = nn.RMSNorm(dim, eps=config.eps)
        self.norm_k = nn.RMSNorm(dim, eps=config.eps)
        self.heads = config.num_attention_heads
        self.eps = config.eps
        self.kernels = kernels

    @property
    def norms(self) -> Norms:
        return Norms(self.norm_q.weight, self.norm_k.weight, self.eps)

    def project(self, x: Tensor | Quantized) -> tuple[Tensor, Tensor, Tensor]:
        """Of [batch, frames, tokens of a frame, dim], what a :class:`SelfAttention` takes."""
        q, k, v = (
            _heads(linear(x).flatten(1, 2), self.heads)
            for linear in (self.to_q, self.to_k, self.to_v)
        )
        return q, k, v

    def query(self, x: Tensor | Quantized) -> Tensor:
        normed = self.kernels.rms_norm(self.to_q(x), self.norm_q.weight, self.eps)
        return _heads(normed, self.heads)

    def key_value(self, x: Tensor) -> tuple[Tensor, Tensor]:
        key = self.kernels.rms_norm(self.to_k(x), self.norm_k.weight, self.eps)
        return _heads(key, self.heads), _heads(self.to_v(x), self.heads)

    def output(self, attended: Tensor) -> Tensor:
        projected: Tensor = self.to_out[0](attended.flatten(-2))
        return projected


class _GELUProjection(nn.Module):
    def __init__(self, dim: int, ffn_dim: int, precision: _Precision) -> None:
        super().__init__()
        self.proj = precision.linear(dim, ffn_dim)
        self.linear_gelu = precision.linear_gelu

    def forward(self, x: Tensor | Quantized) -> Tensor | Quantized:
        return self.linear_gelu(self.proj, x)

    def pack(self) -> None:
        """GELU becomes a part of the product before it."""
        if layer := packed(self.proj, gelu=True):
            self.proj, self.linear_gelu = layer, nn.Module.__call__


class _FeedForward(nn.Module):
    def __init__(self, config: TransformerConfig, precision: _Precision) -> None:
        super().__init__()
        # diffusers keeps a dropout at index 1; the place is held so that the names agree.
        self.net = nn.ModuleList(
            [
                _GELUProjection(config.dim, config.ffn_dim, precision),
                nn.Identity(),
                precision.linear(config.ffn_dim, config.dim),
            ]
        )

    def forward(self, x: Tensor | Quantized) -> Tensor:
        out: Tensor = self.net[2](self.net[0](x))
        return out


class _Block(nn.Module):
    def __init__(self, config: TransformerConfig, kernels: Kernels, precision: _Precision) -> None:
        super().__init__()
        self.attn1 = _Attention(config, kernels, precision)
        self.attn2 = _Attention(config, kernels, precision)
        self.norm2 = nn.LayerNorm(config.dim, eps=config.eps) if config.cross_attn_norm else None
        self.ffn = _FeedForward(config, precision)
        self.scale_shift_table = nn.Parameter(torch.randn(1, 6, config.dim) / config.dim**0.5)
        self.eps = config.eps
        self.kernels = kernels
        self.precision = precision

    def forward(
        self,
        stream: _Stream,
        modulation: Tensor,
        text_kv: tuple[Tensor, Tensor],
        layer: int,
        attention: SelfAttention,
    ) -> _Stream:
        """One block.

        Args:
            stream: as the block before left it.
            modulation: this block's, [batch, frames, 6, dim].
            text_kv: this layer's keys and values of the prompt.
            layer: this block's index.
            attention: the owner of self-attention's keys.
        """
        ops, feeding, own, cross = self.kernels, self.precision, self.attn1, self.attn2
        shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = modulation.unsqueeze(-2).unbind(2)
        frames = stream.x.shape[1:3]

        x, h = feeding.gated_modulate(*stream, shift, scale, self.eps)
        attended = attention(layer, *own.project(h), own.norms)
        y = own.output(attended).unflatten(1, frames)

        if self.norm2 is None:
            h = x = ops.gated_add(x, y, gate)
        else:
            weight, bias = self.norm2.weight, self.norm2.bias
            x, h = feeding.gated_layer_norm(x, y, gate, weight, bias, self.eps)
        attended = ops.attention(cross.query(h).flatten(1, 2), *text_kv)
        y = cross.output(attended).unflatten(1, frames)

        x, h = feeding.added_modulate(x, y, ffn_shift, ffn_scale, self.eps)
        return _Stream(x, self.ffn(h), ffn_gate)

    def write(self, stream: _Stream, modulation: Tensor, layer: int, memory: Memory) -> None:
        """As a forward, up to where keys and values are kept."""
        shift, scale, *_ = modulation.unsqueeze(-2).unbind(2)
        _, h = self.precision.gated_modulate(*stream, shift, scale, self.eps)
        k, v = (
            _heads(linear(h).flatten(1, 2), self.attn1.heads)
            for linear in (self.attn1.to_k, self.attn1.to_v)
        )
        memory.write(layer, k, v, self.attn1.norms)


class WanTransformer(nn.Module):
    """Predicts the flow (noise - clean) of latent frames, each at its own timestep.

    Args:
        config: sizes, from the model folder.
        kernels: the bound operations.
        int8: whether the blocks' linear layers compute with weights and activations in int8;
            embeddings, time projection and head never do.
    """

    def __init__(self, config: TransformerConfig, kernels: Kernels, *, int8: bool = False) -> None:
        super().__init__()
        self.config = config
        self.int8 = int8
        self.patch_embedding = nn.Conv3d(
            config.in_channels, config.dim, config.patch_size, config.patch_size
        )
        self.condition_embedder = Conditions(config.dim, config.freq_dim, config.text_dim)
        precision = _Precision.of(kernels, int8=int8)
        blocks = [_Block(config, kernels, precision) for _ in range(config.num_layers)]
        self.blocks: Sequence[_Block] = nn.ModuleList(blocks)  # type: ignore[assignment]
        self.proj_out = nn.Linear(config.dim, config.out_channels * math.prod(config.patch_size))
        self.scale_shift_table = nn.Parameter(torch.randn(1, 2, config.dim) / config.dim**0.5)
        self.kernels = kernels

    def settle(self, device: torch.device) -> WanTransformer:
        """Move to where it is to run, for good, and be laid out as is fastest there.

        On a CPU the linear layers' weights are packed; they keep their names.
        """
        self.to(device)
        if device.type == "cpu":
            for module in self.modules():
                if isinstance(module, _GELUProjection):
                    module.pack()
            pack_linears(self)
        return self

    def encode_text(self, embeddings: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Keys and values of a prompt for every layer: once a prompt, not once a forward.

        Args:
            embeddings: the text encoder's output, [batch, text_tokens, text_dim].
        """
        context = self.condition_embedder.text(embeddings)
        return [block.attn2.key_value(context) for block in self.blocks]

    def forward(
        self, latents: Tensor, timesteps: Tensor, text: TextKV, attention: SelfAttention
    ) -> Tensor:
        """One forward over some frames.

        Args:
            latents: noisy or clean latents, [batch, in_channels, frames, height, width]; height
                and width are multiples of the patch.
            timesteps: 1000 * sigma of each frame, float32 in [0, 1000], [batch, frames].
            text: from :meth:`encode_text`.
            attention: the owner of self-attention's keys.

        Returns:
            The flow, shaped as ``latents`` with ``out_channels``.
        """
        modulation = self.modulation(timesteps, latents.dtype)
        return self.flow(latents, modulation, text, attention)

    def modulation(self, timesteps: Tensor, dtype: torch.dtype) -> Modulation:
        """What frames at these timesteps are modulated by.

        Args:
            timesteps: as in :meth:`forward`.
            dtype: of the latents.
        """
        sinusoid = timestep_sinusoid(timesteps, self.config.freq_dim).to(dtype)
        embedding, projected = self.condition_embedder.time(sinusoid)
        head = self.scale_shift_table.float() + embedding.float().unsqueeze(2)
        blocks = [
            (block.scale_shift_table.float() + projected.float()).to(dtype) for block in self.blocks
        ]
        return Modulation(blocks, head.to(dtype))

    def flow(
        self, latents: Tensor, modulation: Modulation, text: TextKV, attention: SelfAttention
    ) -> Tensor:
        """:meth:`forward` where the modulation is at hand."""
        stream, rows, columns = self._begin(latents, modulation)
        for layer, block in enumerate(self.blocks):
            stream = block(stream, modulation.blocks[layer], text[layer], layer, attention)
        shift, scale = modulation.head.unsqueeze(-2).unbind(2)
        _, normed = self.kernels.gated_modulate(*stream, shift, scale, self.config.eps)
        out = self.proj_out(normed)
        return _unpatchify(out, rows, columns, self.config)

    def remember(
        self, latents: Tensor, modulation: Modulation, text: TextKV, memory: Memory
    ) -> None:
        """A forward for what the memory keeps of it: nothing after the last layer's keys is run."""
        stream, _, _ = self._begin(latents, modulation)
        last = len(self.blocks) - 1
        for layer, block in enumerate(self.blocks[:last]):
            stream = block(stream, modulation.blocks[layer], text[layer], layer, memory)
        self.blocks[last].write(stream, modulation.blocks[last], last, memory)

    def _begin(self, latents: Tensor, modulation: Modulation) -> tuple[_Stream, int, int]:
        """The stream before the first block, and the rows and columns of tokens in a frame."""
        # In training under autocast the residual stream stays as precise as the latents.
        x = self.patch_embedding(latents).to(latents.dtype)
        rows, columns = x.shape[-2:]
        tokens = x.flatten(3).permute(0, 2, 3, 1).contiguous()
        # Added to nothing, by a gate that lies as others do: so the first block does what all do,
        # and where blocks are compiled it is the same as they are.
        gate = torch.ones_like(modulation.blocks[0])[:, :, -1:]
        return _Stream(torch.zeros_like(tokens), tokens, gate), rows, columns


def _unpatchify(x: Tensor, rows: int, columns: int, config: TransformerConfig) -> Tensor:
    """[batch, frames, rows * columns, patch * channels] -> [batch, channels, frames, H, W]."""
    _, high, wide = config.patch_size
    patches: Tensor = x.unflatten(-1, (high, wide, -1)).unflatten(2, (rows, columns))
    return patches.permute(0, 6, 1, 2, 4, 3, 5).flatten(5, 6).flatten(3, 4)
