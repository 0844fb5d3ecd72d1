"""Self-attention of a whole training window at once: each chunk sees itself and those before."""

from __future__ import annotations

import torch
from torch import Tensor

from longtake.kernels import Kernels, bind
from longtake.models.video.rope import RotaryEmbedding


def training_kernels(device: torch.device) -> Kernels:
    """The references, which have gradients and are fused by the compiler; fast attention."""
    names = ("rms_norm", "rope", "layer_norm", "modulate", "gated_add", "gelu")
    overrides = dict.fromkeys(names, "reference")
    overrides["attention"] = "cpu" if device.type == "cpu" else "sdpa"
    return bind(device, torch.bfloat16, overrides)


class ChunkCausalAttention:
    """The `SelfAttention` of training: no cache, block-causal over chunks.

    One call a chunk, its queries over the keys so far, is exact, needs no mask, and so runs on the
    flash kernels with 62 % of the work of the whole square.
    """

    def __init__(
        self,
        kernels: Kernels,
        frames: int,
        chunk: int,
        grid: tuple[int, int],
        head_dim: int,
        device: torch.device | str,
    ) -> None:
        self.kernels = kernels
        self.tokens = chunk * grid[0] * grid[1]
        self.rotation = RotaryEmbedding(head_dim)(range(frames), *grid).to(device)

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:  # noqa: ARG002
        """See `longtake.models.video.transformer.SelfAttention`."""
        rotation = self.rotation[: q.shape[1]]
        q, k = self.kernels.rope(q, rotation), self.kernels.rope(k, rotation)
        parts = []
        for start in range(0, q.shape[1], self.tokens):
            end = start + self.tokens
            parts.append(self.kernels.attention(q[:, start:end], k[:, :end], v[:, :end]))
        return torch.cat(parts, 1)
