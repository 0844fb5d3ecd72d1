"""Qwen2.5-VL's vision encoder for a training batch: all frames at once.

transformers runs one attention for each group of frames, thousands in a batch of films. Groups of
one size that attend to all of themselves are a batch like any other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

ROPE_THETA = 10_000.0
Block = Callable[[Any, Tensor, tuple[Tensor, Tensor]], Tensor]
"""See `run_block`."""


def run_block(block: Any, x: Tensor, turns: tuple[Tensor, Tensor]) -> Tensor:  # noqa: ANN401
    """What one of the encoder's blocks makes of groups, x [groups, tokens, width].

    `turns`: cosines and sines of `patch_angles`, each [1, tokens, 1, head_dim].
    """
    x = x + _attention(block.attn, block.norm1(x), turns)
    after: Tensor = x + block.mlp(block.norm2(x))
    return after


def see(
    visual: Any,  # noqa: ANN401
    patches: Tensor,
    rows: int,
    columns: int,
    block: Block = run_block,
) -> Tensor:
    """What the encoder makes of groups of frames, as its own forward does.

    `visual`: of a Qwen2.5-VL whose blocks all have full attention; `patches`: float [groups * rows
    * columns, channels * pixels], ordered as `FrameProcessor.patches` does; `rows`, `columns`: of
    patches in a frame; `block`: `run_block`, or what it was compiled to. Returns [groups * rows *
    columns / merge ** 2, text width].
    """
    merge, tokens = visual.spatial_merge_size, rows * columns
    hidden = visual.patch_embed(patches).view(-1, tokens, visual.config.hidden_size)
    angles = patch_angles(rows, columns, merge, visual.blocks[0].attn.head_dim, patches.device)
    turns = angles.cos()[None, :, None], angles.sin()[None, :, None]
    for each in visual.blocks:
        hidden = block(each, hidden, turns)
    merged: Tensor = visual.merger(hidden.flatten(0, 1))
    return merged


def patch_angles(
    rows: int, columns: int, merge: int, head_dim: int, device: torch.device
) -> Tensor:
    """Rotary angles of a frame's patches, float32 [rows * columns, head_dim]."""
    row = torch.arange(rows, device=device)[:, None].expand(rows, columns)
    column = torch.arange(columns, device=device)[None].expand(rows, columns)
    places = torch.stack((row, column), -1)
    # The patches of a token stand together.
    split = places.reshape(rows // merge, merge, columns // merge, merge, 2).transpose(1, 2)
    exponents = torch.arange(0, head_dim // 2, 2, device=device) / (head_dim // 2)
    angles = split.reshape(-1, 2, 1) * ROPE_THETA**-exponents
    return angles.flatten(1).repeat(1, 2)


def _attention(attention: Any, x: Tensor, turns: tuple[Tensor, Tensor]) -> Tensor:  # noqa: ANN401
    """Full attention within each group, x [groups, tokens, width]."""
    split = attention.qkv(x).unflatten(-1, (3, attention.num_heads, -1))
    query, key, value = split.unbind(2)
    query, key = (_turned(each, turns).to(value.dtype) for each in (query, key))
    query, key, value = (each.transpose(1, 2) for each in (query, key, value))
    joined = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
    projected: Tensor = attention.proj(joined)
    return projected


def _turned(x: Tensor, turns: tuple[Tensor, Tensor]) -> Tensor:
    """Heads [groups, tokens, heads, head_dim] turned by their patches' angles, in float32."""
    cos, sin = turns
    first, second = x.float().chunk(2, -1)
    return x.float() * cos + torch.cat((-second, first), -1) * sin
