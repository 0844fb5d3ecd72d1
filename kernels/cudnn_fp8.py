"""cuDNN's attention in 8-bit floating point, by its own front end: torch does not reach it."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import cudnn
import torch
from torch import Tensor

# What weights, of at most 1, are multiplied by before they are rounded: to 448, there is room.
_WEIGHTS = 256.0


def attention_fp8(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Weights and sums are rounded too; see :func:`reference.attention_fp8`.

    Raises:
        RuntimeError: cuDNN has none for such shapes, or for this card.
    """
    attend = _plan(q.shape, k.shape[1], q.device)
    return attend(q.contiguous(), k.contiguous(), v.contiguous()).to(torch.bfloat16)


@cache
def _handle(device: torch.device) -> object:
    with torch.cuda.device(device):
        return cudnn.create_handle()


@cache  # to find a kernel takes many times as long as to run it
def _plan(
    shape: torch.Size, keys: int, device: torch.device
) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """What attends with contiguous queries of a shape to so many keys; it gives float8_e4m3fn."""
    handle, types = _handle(device), cudnn.data_type
    batch, queries, heads, head_dim = shape
    graph = cudnn.pygraph(
        handle=handle,
        io_data_type=types.FP8_E4M3,
        intermediate_data_type=types.FLOAT,
        compute_data_type=types.FLOAT,
    )

    def laid_out(tokens: int) -> dict[str, list[int]]:
        """[batch, heads, tokens, head_dim], where tokens come before heads."""
        width = heads * head_dim
        return {
            "dim": [batch, heads, tokens, head_dim],
            "stride": [tokens * width, head_dim, width, 1],
        }

    one = {"dim": [1, 1, 1, 1], "stride": [1, 1, 1, 1]}
    scales = {"descale_q": 1.0, "descale_k": 1.0, "descale_v": 1.0, "scale_o": 1.0}
    scales |= {"scale_s": _WEIGHTS, "descale_s": 1 / _WEIGHTS}
    factors = {name: graph.tensor(name=name, data_type=types.FLOAT, **one) for name in scales}
    told = [
        graph.tensor(name=name, data_type=types.FP8_E4M3, **laid_out(tokens))
        for name, tokens in (("q", queries), ("k", keys), ("v", keys))
    ]
    summed, _, *largest = graph.sdpa_fp8(
        *told, **factors, is_inference=True, attn_scale=1 / math.sqrt(head_dim)
    )
    outputs = [(summed, types.FP8_E4M3, laid_out(queries))]
    outputs += [(each, types.FLOAT, one) for each in largest]
    for out, dtype, layout in outputs:
        out.set_output(True).set_data_type(dtype)
        out.set_dim(layout["dim"]).set_stride(layout["stride"])
    try:
        graph.build([cudnn.heur_mode.A, cudnn.heur_mode.FALLBACK])
    except cudnn.cudnnGraphNotSupportedError as error:
        raise RuntimeError(f"cuDNN has no such attention in fp8: {error}") from None
    # Used again by every call: they come one after the other.
    room = torch.empty(max(graph.get_workspace_size(), 1), dtype=torch.uint8, device=device)
    constant: dict[Any, Tensor] = {
        factors[name]: torch.full(one["dim"], value, device=device)
        for name, value in scales.items()
    }
    constant |= {each: torch.zeros(one["dim"], device=device) for each in largest}

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = torch.empty_like(q)
        cudnn.set_stream(handle=handle, stream=torch.cuda.current_stream(device).cuda_stream)
        graph.execute(
            constant | dict(zip((*told, summed), (q, k, v, out), strict=True)), room, handle=handle
        )
        return out

    return attend
