"""Wan 2.1's decoder: diffusers' own way, ours, and ours with one thing changed, in one run.

Weights are random, of the full size unless ``--toy`` is given. Each variant decodes the same film
of three chunks, which is set against diffusers in float32 (PSNR), and then more of it against the
clock. Single operations follow. What fails is told in a line, and the next goes on; what was
measured is written after each variant.
"""

from __future__ import annotations

if __name__ == "__main__":
    # Before torch is there, as the command line does it.
    from longtake.app.threads import limit_spinning

    limit_spinning()

import argparse
import copy
import gc
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from longtake.app.devices import DTYPES, choose_device, choose_dtype
from longtake.benchmarks.codec_operations import operations
from longtake.benchmarks.report import result_path, show, write_result
from longtake.benchmarks.timing import synchronise
from longtake.kernels import implementations, reference
from longtake.models.video.recorded import recorder_for
from longtake.models.video.wan_codec import WanCodec, WanDecoderState
from longtake.models.video.wan_decoder import NormSiluWrite

CHUNKS = 3
"""That are compared: the first, a second, and one in which a recording is replayed."""
SETTLING = 2
ENOUGH = 3.0
"""Seconds that one number is worth."""
SPREAD = 0.5
"""Standard deviation of the pictures in [-1, 1]: those of random weights would be all grey."""
COUNTED = {
    "_ms": "a chunk's latents decoded, pictures left on the device: median",
    "_cold_s": "the stream's first chunk, compiling included",
    "_psnr": "of three chunks against diffusers in float32 with the same weights, peak 1",
    "_peak_mb": "beyond the weights, what is carried included",
    "_counted_mb": "what decode_bytes says of it",
    "op_": "one operation at the size that it has in a chunk",
}


@dataclass(frozen=True)
class Film:
    """What is decoded.

    Attributes:
        vae: its weights.
        latents: of a whole film, [1, channels, frames, h, w].
        chunk: latents of a chunk.
        expected: its pictures, by diffusers in float32.
    """

    vae: Any
    latents: Tensor
    chunk: int
    expected: Tensor


class Decoder(Protocol):
    """What is measured of a codec."""

    def decode(self, latents: Tensor, state: Any) -> tuple[Tensor, Any]:  # noqa: ANN401
        """See :class:`.VideoCodec`."""
        ...


@dataclass(frozen=True)
class Variant:
    """One way to decode.

    Attributes:
        name: in the metrics.
        make: the decoder, from the vae.
        together: latents a call; None means a chunk's.
        search: whether cuDNN tries all that it has for each convolution, and keeps the fastest.
    """

    name: str
    make: Callable[[Any], Decoder]
    together: int | None = None
    search: bool = False


class Stock:
    """diffusers' own decoder, latent by latent."""

    def __init__(self, vae: Any) -> None:  # noqa: ANN401
        self.codec = WanCodec(vae)
        for each in vae.decoder.parameters():
            # As diffusers loads them, and not as ours has laid them out.
            each.data = each.data.contiguous()
        vae.clear_cache()
        self._convolutions = len(vae._feat_map)

    def decode(self, latents: Tensor, state: list[Any] | None) -> tuple[Tensor, list[Any]]:
        """See :class:`.VideoCodec`."""
        features = list(state or [None] * self._convolutions)
        vae, raw, pieces = self.codec.vae, self.codec.raw(latents), []
        for index, latent in enumerate(raw.split(1, 2)):
            first = state is None and index == 0
            pieces.append(vae.decoder(latent, feat_cache=features, feat_idx=[0], first_chunk=first))
        return torch.cat(pieces, 2).clamp(-1, 1).add(1).div(2).transpose(1, 2), features


class Graphed:
    """A codec whose third and later calls are replayed from one CUDA graph."""

    def __init__(self, codec: WanCodec, device: torch.device) -> None:
        self.codec = codec
        self._record = recorder_for(device)
        self._calls = 0

    def decode(
        self, latents: Tensor, state: WanDecoderState | None
    ) -> tuple[Tensor, WanDecoderState]:
        """See :class:`.VideoCodec`; the pictures are overwritten by the next call."""
        self._calls += 1
        if self._calls <= SETTLING or state is None:
            return self.codec.decode(latents, state)
        if self._calls == SETTLING + 1:
            self._take_down(latents, state)
        self._latents.copy_(latents)
        self._replay()
        torch._foreach_copy_(self._state.carried, self._next.carried)
        return self._pictures, self._state

    def _take_down(self, latents: Tensor, state: WanDecoderState) -> None:
        if self._record is None:
            raise RuntimeError("CUDA graphs need an NVIDIA GPU")
        self._latents = latents.clone()
        self._state = WanDecoderState([each.clone() for each in state.carried])

        def run() -> Tensor:
            self._pictures, self._next = self.codec.decode(self._latents, self._state)
            return self._pictures

        _, self._replay = self._record(run)


def make_film(device: torch.device, dtype: torch.dtype, *, toy: bool) -> Film:
    """Random weights, random latents, and their pictures by diffusers in float32."""
    from diffusers import AutoencoderKLWan  # noqa: PLC0415 (it takes a second)

    torch.manual_seed(0)
    # diffusers' defaults are Wan 2.1's.
    vae = AutoencoderKLWan(**({"base_dim": 4} if toy else {})).eval()
    vae.requires_grad_(requires_grad=False)
    # Rounded first, so that both compute with the same weights. The plain method: diffusers' own
    # warns of parts to be kept in float32, and names none.
    wide = nn.Module.to(nn.Module.to(vae, device, dtype), torch.float32)
    chunk, size = 3, (4, 4) if toy else (60, 104)
    latents = torch.randn(1, vae.config.z_dim, CHUNKS * chunk, *size).to(device, dtype)
    first, _ = Stock(wide).decode(latents[:, :, :1].float(), None)
    last = wide.decoder.conv_out
    for parameter in (last.weight, last.bias):
        scaled = parameter * (SPREAD / 2 / first.std())
        parameter.data = scaled.to(dtype).float()
    decoder, state, pieces = Stock(wide), None, []
    for piece in latents.float().split(chunk, 2):
        pictures, state = decoder.decode(piece, state)
        pieces.append(pictures)
    return Film(nn.Module.to(wide, dtype), latents, chunk, torch.cat(pieces, 1))


def variants(device: torch.device, fused: NormSiluWrite) -> Iterator[Variant]:
    """diffusers' way, ours, and what may be changed in it; what searches comes last."""
    ours = partial(WanCodec, norm_silu=fused)
    yield Variant("diffusers", Stock)
    yield Variant("ours", ours)
    yield Variant("by_latent", ours, together=1)
    yield Variant("graphed", lambda vae: Graphed(ours(vae), device))
    yield Variant("reference_norm", WanCodec)
    yield Variant("searched", ours, search=True)


def measure_variant(variant: Variant, film: Film, repeats: int) -> dict[str, float]:
    """PSNR, milliseconds a chunk and memory of one variant, by metric."""
    device = film.latents.device
    held = settle_memory(device)
    decoder, together = variant.make(film.vae), variant.together or film.chunk
    state: Any = None
    chunks = film.latents.split(film.chunk, 2)

    def decode(chunk: Tensor) -> Tensor:
        nonlocal state
        pieces = []
        for piece in chunk.split(together, 2):
            pictures, state = decoder.decode(piece, state)
            pieces.append(pictures)
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces, 1)

    began = time.perf_counter()
    wrong, start = 0.0, 0
    for index, chunk in enumerate(chunks):
        pictures = decode(chunk)
        synchronise(device)
        if index == 0:
            cold = time.perf_counter() - began
        expected = film.expected[:, start : start + pictures.shape[1]]
        wrong += float((pictures.float() - expected).square().sum())
        start += pictures.shape[1]
        del pictures, expected
    metrics = {
        f"{variant.name}_psnr": psnr(wrong / film.expected.numel()),
        f"{variant.name}_cold_s": cold,
    }
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with searching(variant.search):
        clock = partial(decode, chunks[-1])
        metrics[f"{variant.name}_ms"] = 1000 * seconds_of(clock, device, repeats, SETTLING)
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device) - held
        metrics[f"{variant.name}_peak_mb"] = peak / 1e6
    if isinstance(decoder, WanCodec):
        height, width = film.expected.shape[-2:]
        counted = decoder.decode_bytes(height, width, film.latents.dtype, together)
        metrics[f"{variant.name}_counted_mb"] = counted / 1e6
    return metrics


def psnr(mean_square: float) -> float:
    """Peak signal-to-noise ratio of pictures in [0, 1], dB, at most 200."""
    return -10 * math.log10(max(mean_square, 1e-20))


def seconds_of(
    run: Callable[[], object], device: torch.device, repeats: int, settling: int
) -> float:
    """Median time of a call with the device's work, after a few that do not count.

    What is slow is measured less often.
    """
    times: list[float] = []
    while len(times) < settling + repeats and (len(times) <= settling or sum(times) < ENOUGH):
        synchronise(device)
        began = time.perf_counter()
        run()
        synchronise(device)
        times.append(time.perf_counter() - began)
    return statistics.median(times[settling:])


def settle_memory(device: torch.device) -> int:
    """Let go of all that nobody holds; bytes that are left."""
    gc.collect()
    if device.type != "cuda":
        return 0
    torch.cuda.empty_cache()
    return torch.cuda.memory_allocated(device)


@contextmanager
def searching(search: bool) -> Iterator[None]:
    """Within, cuDNN tries what it has, or goes by its own order."""
    before, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, search
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def fused_norm(device: torch.device, dtype: torch.dtype) -> NormSiluWrite:
    """The fastest that runs here and gives what the reference gives."""
    for each in reversed(implementations("norm_silu_write")):
        if each.refusal(device, dtype) is not None:
            continue
        with told(f"norm_silu_write/{each.name}"):
            draw = partial(torch.randn, device=device, dtype=dtype)
            parts = [draw(1, 3, 50, 96), draw(1, 3, 50, 96), draw(96), draw(96)]
            outs = []
            for run in (each.run, reference.norm_silu_write):
                x, residual, bias, weight = copy.deepcopy(parts)
                out = x.new_zeros(1, 3, 50, reference.TAPS * 96)
                outs.append(run(x, residual, bias, weight, 1e-24, out))
            torch.testing.assert_close(*outs, rtol=2e-2, atol=4e-2)
            return each.run
    return reference.norm_silu_write


@contextmanager
def told(name: str) -> Iterator[None]:
    """What fails within is told in a line."""
    try:
        yield
    except Exception as error:  # whatever it is, the next may work
        reason = " ".join(str(error).split())[:200]
        print(f"{name} failed: {type(error).__name__}: {reason}", flush=True)


def measure(
    device: torch.device,
    dtype: torch.dtype,
    options: argparse.Namespace,
    write: Callable[[dict[str, float]], None],
) -> dict[str, float]:
    """All metrics by name; `write` gets them again and again."""
    began = time.perf_counter()
    metrics: dict[str, float] = {}

    def attempt(name: str, measured: Callable[[], dict[str, float]]) -> None:
        if time.perf_counter() - began > options.seconds:
            print(f"{name} left out: {options.seconds:.0f} seconds are over", flush=True)
            return
        with told(name):
            found = measured()
            show(found)
            metrics.update(found)
            write(metrics)

    with told("the comparison, and so all"):
        # In float32 a product has all its bits.
        torch.backends.cudnn.allow_tf32 = False
        film = make_film(device, dtype, toy=options.toy)
        torch.backends.cudnn.allow_tf32 = True
        fused = fused_norm(device, dtype)
        for each in variants(device, fused):
            attempt(each.name, partial(measure_variant, each, film, options.repeats))
        with told("the rest of the operations"):
            chunk = film.latents[:, :, : film.chunk]
            for name, run, work in operations(film.vae.config, chunk, fused):
                attempt(name, partial(measure_operation, name, run, work, device, options.repeats))
    return metrics


def measure_operation(
    name: str, run: Callable[[], object], work: float, device: torch.device, repeats: int
) -> dict[str, float]:
    """Milliseconds, and work a second."""
    seconds = seconds_of(run, device, repeats, SETTLING)
    unit = "s" if name.endswith("gb") else "_tflops"
    return {f"op_{name}_ms": 1000 * seconds, f"op_{name}{unit}": work / seconds}


def parser() -> argparse.ArgumentParser:
    """The command line of the benchmark."""
    result = argparse.ArgumentParser(description=__doc__)
    result.add_argument("--device", default="auto")
    result.add_argument("--dtype", choices=["auto", *DTYPES], default="auto")
    result.add_argument("--toy", action="store_true", help="tiny, to see what comes out")
    result.add_argument("--repeats", type=int, default=5, help="each median is of")
    result.add_argument(
        "--seconds", type=float, default=100.0, help="after which nothing more is begun"
    )
    result.add_argument("--out", type=Path, help="default: docs/results/codec_cpu.json, or _cuda")
    return result


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    options = parser().parse_args(arguments)
    device = choose_device(options.device)
    dtype = choose_dtype(options.dtype, device)
    out = result_path(options.out, "codec", device)
    settings = {
        "dtype": str(dtype),
        "cudnn": torch.backends.cudnn.version(),
        "cuda": torch.version.cuda,
        "size": "toy" if options.toy else "832x480, 3 latents a chunk",
    }

    def write(metrics: dict[str, float]) -> None:
        program = "-m longtake.benchmarks.codec"
        write_result(out, program, device, metrics, settings=settings, counted=COUNTED)

    with torch.inference_mode():
        metrics = measure(device, dtype, options, write)
    if metrics:
        print(f"written to {out}")


if __name__ == "__main__":
    main()
