"""``bench``: how fast films are made on this machine, whole and part by part.

Weights are random unless a folder is named: speed does not depend on them. Every number is of
continuous video, medians over its chunks after a warm-up that fills the cache.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from longtake.app.devices import DTYPE_NAMES, choose_device, choose_dtype
from longtake.benchmarks.int8 import Precision, precisions, weights_bytes
from longtake.benchmarks.kernels import Shapes
from longtake.benchmarks.kernels import measure as measure_kernels
from longtake.benchmarks.random_model import (
    NoDecoder,
    Shape,
    random_decoder,
    random_generator,
    toy_shape,
    wan_shape,
    with_decoder,
)
from longtake.benchmarks.report import result_path, write_parts
from longtake.benchmarks.timing import synchronise
from longtake.kernels import bind
from longtake.models.video.codec import VideoCodec
from longtake.models.video.film_state import FilmState
from longtake.models.video.generator import VideoGenerator
from longtake.models.video.load import film_sizes, load_generator, serves_int8
from longtake.models.video.radial import RadialSettings
from longtake.models.video.recorded import describe
from longtake.models.video.settings import StreamingConfig
from longtake.models.video.tiny_codec import TinyCodec
from longtake.streaming import Event

PROMPT, OTHER = "a red ball bounces on green grass", "night falls and it starts to snow"
SETTLING = 2
"""Chunks after the cache is full that are not timed: what is recorded or tuned is so in them."""
SWITCHES = 3
OPENINGS = 3
COUNTED = {
    "frames": "native frames only, none is repeated or interpolated",
    "dit_fps": "noise, all denoising steps and the clean pass that fills the cache; no decoding",
    "decode": "the decoder alone, as a film runs it, its pictures left on the device",
    "e2e_fps": "all of dit_fps, decoding, and the frames' way to the host as uint8; no encoding "
    "of video, no network",
    "first_frame_s": "from a prompt's embedding to the first frame on the host, by a model that "
    "has made films before",
    "switch_cost_chunks": "what a chunk with a new prompt takes longer than one without, in "
    "chunks, without a decoder: embedding, cross-attention, recache",
    "cold": "making the weights and the first chunk of the first film, compiling and tuning "
    "included; in no other number",
    "text encoder": "umT5-xxl is not counted: random models have a stand-in of one layer, which "
    "runs once a prompt",
    "int8_fp8": "linear layers in int8, keys and values in 8-bit floating point",
    "int8_memory_ratio": "the transformer's parameters, of which embeddings and head stay as they "
    "are",
    "radial84_over_dense12": "dit_chunk_ms with 84 latent frames held and radial attention in all "
    "steps and all layers but the first, over that with 12 and all of them seen; other numbers "
    "likewise",
    "statistics": "medians over the chunks of the video after the cache is full",
}


@dataclass(frozen=True)
class Subject:
    """What is measured, and where.

    Attributes:
        device: computed on.
        dtype: of what is not in int8.
        folder: of a model; random weights where there is none.
        shape: of the random weights.
    """

    device: torch.device
    dtype: torch.dtype
    folder: Path | None
    shape: Shape

    def generator(self, precision: Precision) -> VideoGenerator:
        """With the folder's own decoder, or with none."""
        where, (int8, fp8) = (self.device, self.dtype), precision
        if self.folder is not None:
            return load_generator(self.folder, *where, int8=int8, fp8_cache=fp8)
        kernels = bind(*where, self.shape.measured(*where, fp8=fp8))
        return random_generator(self.shape, kernels, *where, int8=int8, fp8_cache=fp8)

    def decoders(self, generator: VideoGenerator) -> dict[str, VideoCodec]:
        """By name: the folder's own, or both kinds."""
        if self.folder is not None:
            name = "tiny_decoder" if isinstance(generator.codec, TinyCodec) else "wan_vae"
            return {name: generator.codec}
        return {
            name: random_decoder(self.shape, name, self.device, self.dtype)
            for name in ("tiny_decoder", "wan_vae")
        }

    @property
    def precisions(self) -> dict[str, Precision]:
        """What is computed in, by name."""
        if self.folder is None:
            served = serves_int8(self.device, self.dtype)
        else:
            served = film_sizes(self.folder, self.dtype, self.device, int8=True).any_int8
        found = {DTYPE_NAMES[self.dtype]: Precision()}
        return found | (precisions(self.device, self.dtype) if served else {})


def bench(options: argparse.Namespace) -> int:
    """Run the command.

    Args:
        options: as the command line's parser gives them.

    Returns:
        The exit code: 0.

    Raises:
        StreamError: there is no such device, or the model folder does not serve.
    """
    device = choose_device(options.device)
    dtype = choose_dtype(options.dtype, device)
    subject = Subject(device, dtype, options.model, toy_shape() if options.toy else wan_shape())
    out = result_path(options.out, "bench", device)
    settings: dict[str, Any] = {}

    def parts() -> Iterator[dict[str, float]]:
        metrics: dict[str, float] = {}
        for found in measure(subject, options.seconds, settings):
            metrics |= found
            yield found
        yield best(metrics, DTYPE_NAMES[dtype])
        shapes = Shapes(**settings["shapes"])
        if options.kernels:
            side = 64 if options.toy else 8192 if device.type == "cuda" else 1024
            yield from measure_kernels(shapes, device, dtype, options.kernels, side)
        # Last, for it takes the most memory, and where there is too little nothing comes after it.
        yield memory_metrics(subject.generator(Precision()), shapes, options.seconds)

    with torch.inference_mode():
        write_parts(parts(), out, "launch.py", device, settings=settings, counted=COUNTED)
    print(f"written to {out}")
    if find_spec("matplotlib") is None:
        print("charts of it need matplotlib: pip install -e '.[benchmarks]'")
        return 0
    from longtake.benchmarks.plots import draw_speed  # noqa: PLC0415 (it may be missing)

    for picture in draw_speed(out):
        print(f"drawn in {picture}")
    return 0


def measure(
    subject: Subject, seconds: float, settings: dict[str, Any]
) -> Iterator[dict[str, float]]:
    """All but the single kernels and the long memory: metrics by name, part by part.

    Args:
        subject: what is measured.
        seconds: of video, for each number.
        settings: to be filled with what it is measured with, before the first part is.
    """
    weights: list[int] = []
    for label, precision in subject.precisions.items():
        began = time.perf_counter()
        generator = subject.generator(precision)
        cold = time.perf_counter() - began
        settings |= described(generator, subject, seconds)
        weights.append(weights_bytes(generator))
        yield {f"cold_weights_s_{label}": cold, f"weights_mb_{label}": weights[-1] / 1e6}
        yield transformer_metrics(generator, label, seconds)
        for name, codec in subject.decoders(generator).items():
            if precision == Precision():
                yield decoder_metrics(generator, name, codec, seconds)
            yield film_metrics(with_decoder(generator, codec), f"{name}_{label}", seconds)
        # Before the next one is made: two may not fit.
        del generator, codec
    if len(weights) > 1:
        yield {"int8_memory_ratio": weights[1] / weights[0]}


def transformer_alone(
    generator: VideoGenerator, config: StreamingConfig | None = None
) -> VideoGenerator:
    """Without a decoder; `config` as in `with_decoder`."""
    codec = generator.codec
    return with_decoder(generator, NoDecoder(codec.temporal, codec.spatial, codec.channels), config)


def memory_metrics(generator: VideoGenerator, shapes: Shapes, seconds: float) -> dict[str, float]:
    """What a chunk takes after longer memories, seen by radial attention, over the usual one."""
    usual, radial = generator.config, RadialSettings(shapes.block, dense_steps=0)

    def chunk_seconds(held: int, seen: RadialSettings | None) -> float:
        config = replace(usual, window=held - usual.sink, radial=seen)
        alone = transformer_alone(generator, config)
        state = alone.open(PROMPT, 0)
        settle(alone, state)
        return statistics.median(take(laps(alone, state), chunks_of(alone, seconds)))

    dense = chunk_seconds(shapes.held, None)
    return {
        f"radial{held}_over_dense{shapes.held}": chunk_seconds(held, radial) / dense
        for held in shapes.longer
    }


def transformer_metrics(generator: VideoGenerator, label: str, seconds: float) -> dict[str, float]:
    """Of the transformer alone: frames a second, and what a new prompt costs."""
    alone = transformer_alone(generator)
    began = time.perf_counter()
    state = alone.open(PROMPT, 0)
    next(laps(alone, state))
    synchronise(alone.device)
    cold = time.perf_counter() - began
    settle(alone, state)
    usual = statistics.median(take(laps(alone, state), chunks_of(alone, seconds)))
    switched = []
    for index in range(SWITCHES):
        began = time.perf_counter()
        alone.apply(state, Event("prompt", PROMPT if index % 2 else OTHER))
        next(laps(alone, state))
        synchronise(alone.device)
        switched.append(time.perf_counter() - began)
        settle(alone, state)
    return {
        f"cold_first_chunk_s_{label}": cold,
        f"dit_chunk_ms_{label}": 1000 * usual,
        f"dit_fps_{label}": alone.spec.chunk_units / usual,
        f"switch_cost_chunks_{label}": statistics.median(switched) / usual - 1,
    }


def decoder_metrics(
    generator: VideoGenerator, name: str, codec: VideoCodec, seconds: float
) -> dict[str, float]:
    """Milliseconds in which a decoder alone decodes a chunk."""
    config, device = generator.config, generator.device
    size = (config.height // codec.spatial, config.width // codec.spatial)
    latents = torch.randn(1, codec.channels, config.chunk, *size, device=device)
    latents, state = latents.to(generator.dtype), codec.start()
    times = []
    for _ in range(SETTLING + chunks_of(generator, seconds)):
        began = time.perf_counter()
        for some in latents.split(generator.sizes.decoded_together, dim=2):
            _, state = codec.decode(some, state)
        synchronise(device)
        times.append(time.perf_counter() - began)
    return {f"decode_chunk_ms_{name}": 1000 * statistics.median(times[SETTLING:])}


def film_metrics(generator: VideoGenerator, label: str, seconds: float) -> dict[str, float]:
    """Of whole films: frames a second, and the time to the first frame of a new one."""
    state = generator.open(PROMPT, 0)
    settle(generator, state)
    usual = statistics.median(take(laps(generator, state), chunks_of(generator, seconds)))
    first = []
    for seed in range(OPENINGS):
        began = time.perf_counter()
        opened = generator.open(PROMPT, seed)
        while not generator.step(opened).media:
            pass
        first.append(time.perf_counter() - began)
    return {
        f"e2e_fps_{label}": generator.spec.chunk_units / usual,
        f"first_frame_s_{label}": statistics.median(first),
    }


def best(metrics: dict[str, float], plain: str) -> dict[str, float]:
    """The numbers that the precisions and decoders are compared by."""

    def found(prefix: str) -> list[float]:
        return [value for name, value in metrics.items() if name.startswith(prefix)]

    films = {
        name: max(rates)
        for name in ("e2e_fps_tiny_decoder", "e2e_fps_wan_vae")
        if (rates := found(f"{name}_"))
    }
    return films | {
        "first_frame_s": min(found("first_frame_s_")),
        "switch_cost_chunks": metrics[f"switch_cost_chunks_{plain}"],
    }


def laps(generator: VideoGenerator, state: FilmState) -> Iterator[float]:
    """Make chunk after chunk; the seconds that each took.

    Where frames are handed out, a chunk ends on the host with its last one. Where there are none
    the device is waited for instead.
    """
    while True:
        began = time.perf_counter()
        step = generator.step(state)
        silent = True
        while not step.boundary:
            silent = silent and not step.media
            step = generator.step(state)
        if silent:
            synchronise(generator.device)
        yield time.perf_counter() - began


def settle(generator: VideoGenerator, state: FilmState) -> None:
    """Make chunks until the cache is full and nothing happens for the first time."""
    filling = -(-state.cache.settings.slots // generator.config.chunk)
    take(laps(generator, state), filling + SETTLING)


def take(times: Iterator[float], count: int) -> list[float]:
    """The next so many."""
    return [next(times) for _ in range(count)]


def chunks_of(generator: VideoGenerator, seconds: float) -> int:
    """Chunks that so many seconds of video have, at least one."""
    return max(1, math.ceil(seconds * generator.spec.rate / generator.spec.chunk_units))


def described(generator: VideoGenerator, subject: Subject, seconds: float) -> dict[str, Any]:
    """The settings under which all was measured."""
    sizes, config = generator.transformer.config, generator.config
    rows, columns = generator.sizes.token_grid
    shapes = Shapes(
        config.chunk,
        rows * columns,
        config.sink + config.window,
        sizes.num_attention_heads,
        sizes.attention_head_dim,
        sizes.ffn_dim,
        # A third of a frame where a frame is small.
        block=128 if rows * columns >= 1024 else max(1, rows * columns // 3),
        longer=(42, 84, 168),
    )
    return {
        "model": "random weights" if subject.folder is None else subject.folder.name,
        "dtype": DTYPE_NAMES[subject.dtype],
        "seconds": seconds,
        "transformer": asdict(sizes),
        "streaming": asdict(config),
        "shapes": asdict(shapes),
        "kernels": dict(generator.kernels.names),
        "forwards": describe(generator.recorder()),
        "decoding": "beside the transformer" if generator.outlet.runs_beside else "in its turn",
    }
