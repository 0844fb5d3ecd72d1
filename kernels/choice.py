"""Which attention a device is fastest with: measured once, when a model is loaded."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from longtake.kernels.reference import FP8
from longtake.kernels.registry import Implementation, implementations

WARM_UP, REPEATS = 3, 7
MARGIN = 0.05
"""Share by which another has to be faster than the one that is bound without measuring. A film's
bytes depend on which it is, so that two that are about as fast must not take turns."""


class AttentionShape(NamedTuple):
    """Of the calls that matter most.

    Attributes:
        queries: tokens of a chunk.
        keys: tokens of a full cache.
        heads: number of them.
        head_dim: channels of each.
    """

    queries: int
    keys: int
    heads: int
    head_dim: int


def fastest_attention(
    shape: AttentionShape, device: torch.device, dtype: torch.dtype, *, fp8: bool = False
) -> dict[str, str]:
    """Overrides for :func:`.bind`; none where there is nothing to choose between, as on a CPU.

    Args:
        shape: of the calls.
        device: measured on.
        dtype: of queries, keys and values.
        fp8: whether some are made in 8-bit floating point too.
    """
    kinds = {"attention": dtype} | ({"attention_fp8": FP8} if fp8 else {})
    chosen = {}
    for operation, kept in kinds.items():
        candidates = [
            each
            for each in implementations(operation)
            if each.name != "reference" and each.refusal(device, dtype) is None
        ]
        if len(candidates) < 2:
            continue
        q, k, v = (
            torch.randn(1, tokens, shape.heads, shape.head_dim, device=device, dtype=dtype)
            for tokens in (shape.queries, shape.keys, shape.keys)
        )
        with torch.inference_mode():
            inputs = tuple(each.to(kept) for each in (q, k, v))
            chosen[operation] = fastest(candidates, inputs, seconds_on_gpu)
    return chosen


def fastest(
    candidates: Sequence[Implementation],
    inputs: tuple[Tensor, ...],
    seconds_of: Callable[[Callable[..., Any], tuple[Tensor, ...]], float],
) -> str:
    """The name of the one that takes the least time.

    Args:
        candidates: of one operation, the last being the one that is bound without measuring; those
            that do not run on the inputs are left out.
        inputs: arguments of a call.
        seconds_of: times a function on them.
    """
    usual = candidates[-1].name
    times: dict[str, float] = {}
    for each in candidates:
        try:
            times[each.name] = seconds_of(each.run, inputs)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:  # torch's word for what this card or these shapes are not served by
            continue
    best = min(times, key=lambda name: times[name], default=usual)
    close = usual in times and times[best] > (1 - MARGIN) * times[usual]
    return usual if close else best


def seconds_on_gpu(run: Callable[..., Any], inputs: tuple[Tensor, ...]) -> float:
    """Median time of a call on the GPU, after a warm-up."""
    for _ in range(WARM_UP):
        run(*inputs)
    times = []
    for _ in range(REPEATS):
        began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        began.record()
        run(*inputs)
        ended.record()
        ended.synchronize()
        seconds: float = began.elapsed_time(ended) / 1000
        times.append(seconds)
    return statistics.median(times)
