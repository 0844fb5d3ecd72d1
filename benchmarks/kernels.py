"""Every kernel against its reference, in one run: ratios above 1 are what it gains."""

from __future__ import annotations

if __name__ == "__main__":
    # Before torch is there, as the command line does it.
    from longtake.app.threads import limit_spinning

    limit_spinning()

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from longtake.app.devices import DTYPES, choose_device, choose_dtype
from longtake.benchmarks.report import show, write_result
from longtake.kernels import implementations
from longtake.kernels.registry import OPERATIONS

# The bundled model's shapes: a chunk of 3 frames of 64 tokens, 6 heads of 64, 12 frames of keys.
FRAMES, FRAME_TOKENS, KEYS, HEADS, HEAD_DIM, FFN = 3, 64, 768, 6, 64, 1152


def arguments(device: torch.device, dtype: torch.dtype) -> dict[str, tuple[Tensor | float, ...]]:
    """Random inputs of every operation."""
    tokens, dim = FRAMES * FRAME_TOKENS, HEADS * HEAD_DIM

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, device=device, dtype=dtype)

    x, row, head = draw(1, FRAMES, FRAME_TOKENS, dim), draw(1, FRAMES, 1, dim), draw(dim)
    q, k = draw(1, tokens, HEADS, HEAD_DIM), draw(1, KEYS, HEADS, HEAD_DIM)
    rotation = torch.randn(tokens, HEAD_DIM // 2, 2, device=device)
    return {
        "attention": (q, k, k),
        "rms_norm": (x, head, 1e-6),
        "rope": (q, rotation),
        "layer_norm": (x, head, head, 1e-6),
        "modulate": (x, row, row, 1e-6),
        "gated_add": (x, x, row),
        "gelu": (draw(1, FRAMES, FRAME_TOKENS, FFN),),
    }


def median_seconds(run: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Median time of a call, after a warm-up."""
    times = []
    for _ in range(repeats + 10):
        began = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return statistics.median(times[10:])


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", choices=["auto", *DTYPES], default="auto")
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--out", type=Path, default=Path("docs/results/kernels_cpu.json"))
    options = parser.parse_args()
    device = choose_device(options.device)
    dtype = choose_dtype(options.dtype, device)
    inputs = arguments(device, dtype)
    metrics: dict[str, float] = {}
    with torch.inference_mode():
        for operation in OPERATIONS:
            times = {}
            for each in implementations(operation):
                if each.refusal(device, dtype) is None:
                    call = lambda run=each.run, given=inputs[operation]: run(*given)  # noqa: E731
                    times[each.name] = median_seconds(call, device, options.repeats)
            for name, seconds in times.items():
                metrics[f"{operation}/{name}_us"] = 1e6 * seconds
                if name != "reference":
                    metrics[f"{operation}/{name}_gain"] = times["reference"] / seconds
    write_result(options.out, "longtake.benchmarks.kernels", device, metrics)
    show(metrics)


if __name__ == "__main__":
    main()
