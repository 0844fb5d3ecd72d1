"""What a forward is conditioned on: the timestep of each frame, and the prompt."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Modulation(NamedTuple):
    """What timesteps come to: it depends on nothing else, and serves every forward at them.

    Attributes:
        blocks: for each, its six vectors a frame, [batch, frames, 6, dim].
        head: the last norm's two, [batch, frames, 2, dim].
    """

    blocks: Sequence[Tensor]
    head: Tensor


class _MLP(nn.Module):
    def __init__(self, inputs: int, dim: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(inputs, dim)
        self.linear_2 = nn.Linear(dim, dim)


class Conditions(nn.Module):
    """Embeds timesteps and prompts.

    Args:
        dim: channels of the residual stream.
        freq_dim: of a timestep's sinusoid.
        text_dim: of the text encoder's output.
    """

    def __init__(self, dim: int, freq_dim: int, text_dim: int) -> None:
        super().__init__()
        self.time_embedder = _MLP(freq_dim, dim)
        self.time_proj = nn.Linear(dim, 6 * dim)
        self.text_embedder = _MLP(text_dim, dim)

    def time(self, sinusoid: Tensor) -> tuple[Tensor, Tensor]:
        """A timestep's embedding, [..., dim], and the blocks' six vectors, [..., 6, dim]."""
        mlp = self.time_embedder
        embedding = mlp.linear_2(F.silu(mlp.linear_1(sinusoid)))
        return embedding, self.time_proj(F.silu(embedding)).unflatten(-1, (6, -1))

    def text(self, embeddings: Tensor) -> Tensor:
        """[..., text_dim] -> [..., dim]."""
        mlp = self.text_embedder
        out: Tensor = mlp.linear_2(F.gelu(mlp.linear_1(embeddings), approximate="tanh"))
        return out


def timestep_sinusoid(timesteps: Tensor, dim: int) -> Tensor:
    """Sinusoidal embedding, cosines first.

    Args:
        timesteps: any shape.
        dim: even.

    Returns:
        float32, [*timesteps.shape, dim].
    """
    half = dim // 2
    exponent = torch.arange(half, dtype=torch.float32, device=timesteps.device) / half
    angles = timesteps.float().unsqueeze(-1) * torch.exp(-math.log(10_000.0) * exponent)
    return torch.cat((angles.cos(), angles.sin()), -1)
