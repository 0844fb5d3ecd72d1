"""What computing in int8 gains and costs: chunks of one film in turns, with it and without.

Taken in turns, both meet the same machine however busy it is, so that their ratio holds.
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
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from longtake.app.devices import DTYPES, choose_device, choose_dtype
from longtake.benchmarks.report import result_path, show, write_result
from longtake.models.video.film_state import FilmState
from longtake.models.video.generator import VideoGenerator
from longtake.models.video.load import load_generator, serves_fp8
from longtake.weights import GENERATOR

PROMPT = "a red ball bounces on green grass on a sunny day"
RECORDED = 4
"""Chunks with a full cache that are not timed yet."""


def next_chunk(generator: VideoGenerator, state: FilmState) -> tuple[Tensor, float]:
    """A chunk's frames, uint8 [frames, height, width, 3], and the seconds it took."""
    frames: list[Tensor] = []
    began = time.perf_counter()
    boundary = False
    while not boundary:
        step = generator.step(state)
        frames += [payload for payload, _ in step.media]
        boundary = step.boundary
    return torch.cat(frames), time.perf_counter() - began


def chunk_seconds(films: Sequence[tuple[VideoGenerator, FilmState]], chunks: int) -> list[float]:
    """Median seconds of a chunk of each film, once its cache is full, of so many by turns."""
    for generator, state in films:
        size = generator.config
        # To fill it, and then to record what runs again and again.
        for _ in range(-(-(size.sink + size.window) // size.chunk) + RECORDED):
            next_chunk(generator, state)
    turns = [[next_chunk(*film)[1] for film in films] for _ in range(chunks)]
    return [statistics.median(times) for times in zip(*turns, strict=True)]


def psnr(a: Tensor, b: Tensor) -> float:
    """Peak signal-to-noise ratio of uint8 pictures, in dB."""
    error = (a.float() - b.float()).square().mean().item()
    return 10 * math.log10(255**2 / error) if error else math.inf


def weights_bytes(generator: VideoGenerator) -> int:
    """Memory of the transformer's parameters."""
    return sum(parameter.nbytes for parameter in generator.transformer.parameters())


class Precision(NamedTuple):
    """What of a model is in 8 bits; see :func:`.load_generator`."""

    int8: bool = False
    fp8_cache: bool = False


def precisions(device: torch.device, dtype: torch.dtype) -> dict[str, Precision]:
    """What is in 8 bits at all, by name."""
    found = {"int8": Precision(int8=True)}
    if serves_fp8(device, dtype):
        found["int8_fp8"] = Precision(int8=True, fp8_cache=True)
    return found


def measure(
    folder: Path, device: torch.device, dtype: torch.dtype, chunks: int, seed: int
) -> dict[str, float]:
    """Make a film with and without int8, and with a cache in fp8 where it is served, in turns.

    Args:
        folder: of the model.
        device: computed on.
        dtype: of what is not in int8.
        chunks: timed ones; those that fill the cache come before.
        seed: of both films.
    """
    told = precisions(device, dtype)
    generators = [
        load_generator(folder, device, dtype, int8=each.int8, fp8_cache=each.fp8_cache)
        for each in (Precision(), *told.values())
    ]
    films = [(generator, generator.open(PROMPT, seed)) for generator in generators]
    exact, *first = (next_chunk(*film)[0] for film in films)
    plain, *smaller = chunk_seconds(films, chunks)
    whole, weights, *_ = (weights_bytes(generator) for generator in generators)
    metrics = {"chunk_s": plain, "int8_memory_ratio": weights / whole}
    for name, seconds, frames in zip(told, smaller, first, strict=True):
        metrics |= {
            f"{name}_chunk_s": seconds,
            f"{device.type}_{name}_speedup": plain / seconds,
            f"{name}_psnr": psnr(frames, exact),
        }
    return metrics


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=GENERATOR, help="default: the bundled model")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", choices=["auto", *DTYPES], default="auto")
    parser.add_argument("--chunks", type=int, default=40, help="timed (default: 40)")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--out", type=Path, help="default: docs/results/int8_cpu.json, or _cuda")
    options = parser.parse_args(arguments)
    device = choose_device(options.device)
    dtype = choose_dtype(options.dtype, device)
    metrics = measure(options.model, device, dtype, options.chunks, options.seed)
    out = result_path(options.out, "int8", device)
    write_result(out, "-m longtake.benchmarks.int8", device, metrics)
    show(metrics)


if __name__ == "__main__":
    main()
