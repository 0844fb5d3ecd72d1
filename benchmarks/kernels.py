"""Every kernel against its reference and against the machine, in one run.

A gain above 1 is what a kernel saves over its reference. What it achieves (TFLOP/s where it
multiplies matrices, GB/s elsewhere) is set against ceilings measured in the same run: the largest
matrix products and the largest copy. Linear layers in int8 are set against those without too, the
library's own, on a CPU with packed weights where it can pack them; and attention on a CPU against
the library's.
"""

from __future__ import annotations

if __name__ == "__main__":
    # Before torch is there, as the command line does it.
    from longtake.app.threads import limit_spinning

    limit_spinning()

import argparse
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from longtake.app.devices import DTYPES, choose_device, choose_dtype
from longtake.benchmarks.report import result_path, write_parts
from longtake.kernels import FP8, BlockMap, Quantized, implementations, pack, packed_linear
from longtake.kernels.cpu import fused_attention
from longtake.kernels.reference import quantize
from longtake.models.video.radial import RadialSettings, radial_map

EPS = 1e-6
WARM_UP = 10
LONGEST = 2.0
"""Seconds after which a call is not repeated any more: references may take one each."""
COPIES = 4
"""Sets of inputs that calls on a GPU go through, or the next call would find its own in the
cache."""


@dataclass(frozen=True)
class Shapes:
    """Of a model: a chunk's frames, tokens of a frame, frames held in the cache, heads, widths.

    ``longer`` are the frames that radial attention may hold instead, ``block`` its blocks' tokens.
    """

    frames: int
    frame_tokens: int
    held: int
    heads: int
    head_dim: int
    ffn: int
    block: int
    longer: tuple[int, ...]

    @property
    def dim(self) -> int:
        """Channels of the residual stream."""
        return self.heads * self.head_dim

    @property
    def tokens(self) -> int:
        """Of a chunk."""
        return self.frames * self.frame_tokens

    @property
    def linears(self) -> dict[tuple[int, int], int]:
        """Inputs and outputs of a block's linear layers, and how often each runs in a forward."""
        # Queries, keys, values and output; of cross-attention queries and output.
        return {(self.dim, self.dim): 6, (self.dim, self.ffn): 1, (self.ffn, self.dim): 1}


SHAPES = {
    "bundled": Shapes(2, 72, 12, 6, 64, 1152, 24, (42, 84, 168)),
    "wan": Shapes(3, 1560, 12, 12, 128, 8960, 128, (42, 84, 168)),
    "toy": Shapes(2, 3, 4, 2, 8, 24, 2, (8,)),
}


@dataclass(frozen=True)
class Case:
    """One operation on one set of inputs.

    Attributes:
        operation: its name.
        inputs: its arguments.
        flops: of its matrix products.
        moved: bytes that it has to read and write; the ceiling's where there are no products.
        int8: whether the products are of int8.
    """

    operation: str
    inputs: tuple[Any, ...]
    flops: float = 0.0
    moved: float = 0.0
    int8: bool = False


def cases(shapes: Shapes, device: torch.device, dtype: torch.dtype) -> Iterator[tuple[str, Case]]:
    """Every operation under a label, on random inputs."""

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, device=device, dtype=dtype)

    frames, dim, tokens = shapes.frames, shapes.dim, shapes.tokens
    x, row, head = draw(1, frames, shapes.frame_tokens, dim), draw(1, frames, 1, dim), draw(dim)
    q = draw(1, tokens, shapes.heads, shapes.head_dim)
    cache = draw(1, shapes.held, shapes.frame_tokens, shapes.heads, shapes.head_dim)
    hidden = draw(1, frames, shapes.frame_tokens, shapes.ffn)
    rotation = torch.randn(tokens, shapes.head_dim // 2, 2, device=device)
    slots = torch.arange(frames, device=device)
    keys = cache.flatten(1, 2)
    one, int8 = x.nbytes, x.numel()
    products = 4.0 * tokens * keys.shape[1] * dim
    yield "attention", Case("attention", (q, keys, keys), products)
    narrow = tuple(each.to(FP8) for each in (q, keys, keys))
    yield "attention_fp8", Case("attention_fp8", narrow, products)
    yield from block_cases(shapes, draw)
    yield "rms_norm", Case("rms_norm", (x, head, EPS), moved=2 * one)
    yield "rope", Case("rope", (q, rotation), moved=2 * one + rotation.nbytes)
    write = (q, q, q, head, head, EPS, rotation, cache, cache.clone(), slots)
    yield "norm_rope_write", Case("norm_rope_write", write, moved=6 * one + 2 * rotation.nbytes)
    norm, fused = (head, head, EPS), (row, row, EPS)
    yield "gated_add", Case("gated_add", (x, x.clone(), row), moved=3 * one)
    widening = (x, draw(shapes.ffn, dim), draw(shapes.ffn))
    yield "linear_gelu", Case("linear_gelu", widening, 2.0 * tokens * dim * shapes.ffn)
    gated, added = (x, x.clone(), row, *norm), (x, x.clone(), *fused)
    yield "gated_layer_norm", Case("gated_layer_norm", gated, moved=4 * one)
    yield "added_modulate", Case("added_modulate", added, moved=4 * one)
    both = (x, x.clone(), row, *fused)
    yield "gated_modulate", Case("gated_modulate", both, moved=4 * one)
    taps = draw(1, frames, shapes.frame_tokens, 3 * dim)
    joined = (x, x.clone(), head, head, EPS, taps)
    yield "norm_silu_write", Case("norm_silu_write", joined, moved=6 * one)
    yield "quantize", Case("quantize", (x,), moved=one + int8)
    yield "gated_layer_norm_int8", Case("gated_layer_norm_int8", gated, moved=3 * one + int8)
    yield "added_modulate_int8", Case("added_modulate_int8", added, moved=3 * one + int8)
    yield "gated_modulate_int8", Case("gated_modulate_int8", both, moved=3 * one + int8)
    yield "gelu_int8", Case("gelu_int8", (hidden,), moved=hidden.nbytes + hidden.numel())
    for inputs, outputs in shapes.linears:
        weight, scale = quantize(draw(outputs, inputs))
        linear = (quantize(draw(tokens, inputs)), weight, scale, draw(outputs))
        flops = 2.0 * tokens * inputs * outputs
        yield (
            f"int8_linear_{inputs}x{outputs}",
            Case("int8_linear", linear, flops, int8=True),
        )


def block_cases(shapes: Shapes, draw: Callable[..., Tensor]) -> Iterator[tuple[str, Case]]:
    """Attention by a map: dense over the frames held, radial over them and over more.

    A film has run for long: as many sinks as frames of a chunk, the rest newest.
    """
    chunk, tokens = shapes.frames, shapes.frame_tokens
    head = (shapes.heads, shapes.head_dim)
    radial = RadialSettings(shapes.block)
    # Sinks are seen whole, so where all frames are, the map is dense.
    kinds = [("dense", shapes.held), *(("radial", n) for n in (shapes.held, *shapes.longer))]
    for kind, frames in kinds:
        end = 1000 * chunk
        slots = [*range(chunk), *range(end - frames + chunk, end)]
        sinks = slots if kind == "dense" else slots[:chunk]
        on_cpu = radial_map(slots[-chunk:], slots, sinks, chunk, tokens, radial)
        q, k = draw(1, chunk * tokens, *head), draw(1, frames, tokens, *head)
        blocks = BlockMap(on_cpu.keys.to(q.device), on_cpu.counts.to(q.device), on_cpu.size)
        flops = 4.0 * shapes.dim * pairs_seen(on_cpu, tokens)
        label = f"{kind}_{frames}"
        yield f"block_attention_{label}", Case("block_attention", (q, k, k, blocks), flops)


def pairs_seen(blocks: BlockMap, frame_tokens: int) -> int:
    """Pairs of a query and a key that attention multiplies."""
    in_frame = math.ceil(frame_tokens / blocks.size)

    def tokens(block: int) -> int:
        return min(blocks.size, frame_tokens - block % in_frame * blocks.size)

    rows = enumerate(zip(blocks.keys.tolist(), blocks.counts.tolist(), strict=True))
    return sum(tokens(row) * sum(map(tokens, keys[:count])) for row, (keys, count) in rows)


def copied(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """The same arguments elsewhere in memory."""

    def copy(each: Any) -> Any:  # noqa: ANN401
        if isinstance(each, Quantized):
            return Quantized(*map(torch.clone, each))
        return each.clone() if isinstance(each, Tensor) else each

    return tuple(map(copy, inputs))


def seconds_of(
    run: Callable[..., object], inputs: tuple[Any, ...], device: torch.device, repeats: int
) -> float:
    """Median time of a call, after a warm-up; on a GPU without what it costs to launch it."""
    if device.type == "cuda":
        return _seconds_on_gpu(run, inputs, repeats)

    def once() -> float:
        began = time.perf_counter()
        run(*inputs)
        return time.perf_counter() - began

    return _median(once, repeats)


def _median(once: Callable[[], float], repeats: int) -> float:
    """Of the seconds of so many calls, or as many as there is time for, after a warm-up."""
    times: list[float] = []
    while len(times) < repeats + WARM_UP and sum(times) < LONGEST:
        times.append(once())
    return statistics.median(times[WARM_UP:] or times[-1:])


def _seconds_on_gpu(run: Callable[..., object], inputs: tuple[Any, ...], repeats: int) -> float:
    sets = [inputs, *(copied(inputs) for _ in range(COPIES - 1))]
    # Whatever is compiled or tuned at the first call has to be before the recording.
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for each in sets:
            run(*each)
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for each in sets:
            run(*each)

    def once() -> float:
        began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        began.record()
        graph.replay()
        ended.record()
        ended.synchronize()
        seconds: float = began.elapsed_time(ended) / 1000
        return seconds

    return _median(once, max(1, repeats // COPIES)) / COPIES


def ceilings(device: torch.device, dtype: torch.dtype, side: int, repeats: int) -> dict[str, float]:
    """What the machine gives at most: TFLOP/s in `dtype` and in int8, GB/s copied.

    Args:
        device: measured on.
        dtype: of the first product.
        side: of the square matrices.
        repeats: calls each is the median of.
    """
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    left, right = (quantize(each).values for each in (a, b))
    clock = partial(seconds_of, device=device, repeats=repeats)
    flops, block = 2 * side**3 / 1e12, torch.empty(2**28 if side > 1024 else side**2, device=device)
    return {
        "ceiling_tflops": flops / clock(torch.mm, (a, b)),
        "ceiling_int8_tflops": flops / clock(torch._int_mm, (left, right.T)),
        "ceiling_gbs": 2 * block.nbytes / 1e9 / clock(torch.clone, (block,)),
    }


def measure(
    shapes: Shapes, device: torch.device, dtype: torch.dtype, repeats: int, side: int
) -> Iterator[dict[str, float]]:
    """Metrics by name, case by case; last the speed-up of linear layers, their mean weighted by
    FLOPs.
    """
    most = ceilings(device, dtype, side, repeats)
    yield most
    sped, weights = 0.0, 0.0
    for label, case in cases(shapes, device, dtype):
        metrics: dict[str, float] = {}
        times: dict[str, float] = {}
        for each in implementations(case.operation):
            if each.refusal(device, dtype) is None:
                times[each.name] = seconds_of(each.run, case.inputs, device, repeats)
        for name, seconds in times.items():
            metrics[f"{label}/{name}_us"] = 1e6 * seconds
            metrics |= achieved(f"{label}/{name}", case, seconds, most)
            if name != "reference":
                metrics[f"{label}/{name}_gain"] = times["reference"] / seconds
        if case.operation == "attention" and device.type == "cpu":
            library = seconds_of(fused_attention, case.inputs, device, repeats)
            metrics[f"{label}/library_us"] = 1e6 * library
        if case.int8:
            x, weight, _, bias = case.inputs
            plain = (x.values.to(dtype), weight.to(dtype), bias)
            without = seconds_of(F.linear, plain, device, repeats)
            metrics[f"{label}/library_us"] = 1e6 * without
            if device.type == "cpu" and (packed := pack(plain[1])) is not None:
                arguments = (plain[0], packed, bias)
                without = seconds_of(packed_linear, arguments, device, repeats)
                metrics[f"{label}/packed_us"] = 1e6 * without
            weighted = case.flops * shapes.linears[weight.shape[1], weight.shape[0]]
            sped += weighted * without / list(times.values())[-1]
            weights += weighted
        yield metrics
    yield {"int8_linear_speedup": sped / weights}


def achieved(label: str, case: Case, seconds: float, ceiling: dict[str, float]) -> dict[str, float]:
    """What a kernel gets out of the machine, and which share of the ceiling that is."""
    if case.flops:
        rate, unit = case.flops / seconds / 1e12, "tflops"
        most = ceiling["ceiling_int8_tflops" if case.int8 else "ceiling_tflops"]
    else:
        rate, unit, most = case.moved / seconds / 1e9, "gbs", ceiling["ceiling_gbs"]
    return {f"{label}_{unit}": rate, f"{label}_share": rate / most}


def parser() -> argparse.ArgumentParser:
    """The command line of the benchmark."""
    result = argparse.ArgumentParser(description=__doc__)
    result.add_argument("--device", default="auto")
    result.add_argument("--dtype", choices=["auto", *DTYPES], default="auto")
    result.add_argument(
        "--shapes",
        choices=SHAPES,
        help="whose shapes: the bundled model's (default on a CPU), Wan 2.1 1.3B's at 480x832 "
        "(default on a GPU), or tiny ones that measure nothing",
    )
    result.add_argument("--repeats", type=int, default=200)
    result.add_argument("--out", type=Path, help="default: docs/results/kernels_cpu.json, or _cuda")
    return result


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    options = parser().parse_args(arguments)
    device = choose_device(options.device)
    dtype = choose_dtype(options.dtype, device)
    name = options.shapes or ("wan" if device.type == "cuda" else "bundled")
    side = 64 if name == "toy" else 8192 if device.type == "cuda" else 1024
    out = result_path(options.out, "kernels", device)
    with torch.inference_mode():
        parts = measure(SHAPES[name], device, dtype, options.repeats, side)
        write_parts(parts, out, "-m longtake.benchmarks.kernels", device, shapes=name)


if __name__ == "__main__":
    main()
