"""The single operations of Wan's decoder, each at every size that a chunk has it in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from longtake.kernels import reference
from longtake.models.video import wan_decoder
from longtake.models.video.wan_decoder import FOLDED, NormSiluWrite, convolve, enlarge


def operations(
    config: Any,  # noqa: ANN401 (diffusers carries no types)
    latents: Tensor,
    fused: NormSiluWrite,
) -> Iterator[tuple[str, Callable[[], object], float]]:
    """Names, calls and TFLOP (or GB, where a name ends in ``gb``) of what a chunk is made of.

    Args:
        config: of the autoencoder.
        latents: a chunk's, [batch, channels, frames, height, width].
        fused: the kernel between two convolutions.
    """
    draw = partial(torch.randn, device=latents.device, dtype=latents.dtype)
    frames, rows, columns = latents.shape[-3:]
    grows = config.temperal_downsample[::-1]
    levels = []
    for index, multiple in enumerate(reversed(config.dim_mult)):
        levels.append((config.base_dim * multiple, frames, rows, columns))
        if index < len(grows):
            rows, columns, frames = 2 * rows, 2 * columns, frames * (2 if grows[index] else 1)
    for channels, count, high, wide in reversed(levels):
        weight = laid_out(draw(channels, channels, reference.TAPS, 3, 3) / 100)
        run = partial(convolve, draw(1, count, high, wide, reference.TAPS * channels), weight)
        yield f"conv{channels}x{wide}", run, 54e-12 * channels**2 * count * high * wide
    channels, count, high, wide = levels[-1]
    for outputs in (3, 8):
        weight = laid_out(draw(outputs, channels, reference.TAPS, 3, 3))
        run = partial(convolve, draw(1, count, high, wide, reference.TAPS * channels), weight)
        yield f"conv_out_{outputs}", run, 54e-12 * channels * 3 * count * high * wide
    x = draw(1, count, high * wide, channels)
    taps, weight = draw(1, count, high * wide, reference.TAPS * channels), draw(channels)
    one = x.nbytes / 1e9
    parts = (x, x.clone(), weight, weight, wan_decoder.EPS, taps)
    yield "norm_reference_gb", partial(reference.norm_silu_write, *parts), 6 * one
    yield "norm_fused_gb", partial(fused, *parts), 6 * one
    compiled = torch.compile(reference.norm_silu_write, dynamic=False)
    yield "norm_compiled_gb", partial(compiled, *parts), 6 * one
    del x, taps, parts, compiled
    small = draw(1, count, high // 2, wide // 2, 2 * channels)
    weight, bias = draw(channels, 2 * channels, 3, 3) / 100, draw(channels)
    weight = weight.contiguous(memory_format=torch.channels_last)
    products = 36e-12 * channels**2 * count * high * wide
    yield f"enlarge_conv{channels}", partial(enlarge, small, weight, bias), products
    channels, count, high, wide = levels[0]
    q, k, v = (draw(count, 1, high * wide, channels) for _ in range(3))
    products = 4e-12 * channels * count * (high * wide) ** 2
    yield "attention_sdpa", partial(F.scaled_dot_product_attention, q, k, v), products
    yield "attention_products", partial(attention_by_products, q, k, v), products


def attention_by_products(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention as two matrix products, scores in the dtype of the queries."""
    scores = q.mul(q.shape[-1] ** -0.5).matmul(k.transpose(-1, -2))
    return scores.softmax(-1).matmul(v)


def laid_out(weight: Tensor) -> Tensor:
    """A weight of a convolution over time as our decoder has it in memory."""
    parameter = nn.Parameter(weight, requires_grad=False)
    wan_decoder.lay_out(parameter, FOLDED)
    return parameter
