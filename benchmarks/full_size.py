"""Your own weights at full size: from files as they are published to a film, and what that takes.

Random weights in Wan 2.1's published layout are converted, loaded and filmed with by the
application's own code, and what they take is held against what ``doctor`` says of them: once as
they are, then with each setting that saves memory. A part that fails is told in a line, and the
next goes on.
"""

from __future__ import annotations

if __name__ == "__main__":
    # Before torch is there, as the command line does it.
    from longtake.app.threads import limit_spinning

    limit_spinning()

import argparse
import gc
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from longtake.app.api import Model, open_model
from longtake.app.devices import DTYPE_NAMES, DTYPES, choose_device, choose_dtype
from longtake.app.progress import Progress
from longtake.app.resident import resident_bytes
from longtake.app.sizes import changes_of, sizes_in
from longtake.app.take import Take
from longtake.benchmarks.bench import OTHER, PROMPT, SETTLING
from longtake.benchmarks.published import umt5_xxl, write_rest, write_transformer
from longtake.benchmarks.random_model import (
    small_text,
    toy_shape,
    wan_shape,
)
from longtake.benchmarks.report import show, write_result
from longtake.models.video.memory import FilmSizes
from longtake.models.video.settings import StreamingConfig
from longtake.models.video.text_setting import TextSetting

SHORT = 6.0
"""Seconds of the films with other settings: some chunks more than it takes to fill the cache."""
VARIANTS: dict[str, dict[str, Any]] = {
    "": {},
    "offload_text_": {"offload": "text"},
    "offload_text_once_": {"offload": "text-once"},
    "int8_": {"quantize": "int8"},
}
"""What each film's metrics begin with, and its settings, as ``open_model`` takes them."""
WITHIN = 0.1
"""How far a measured peak may be from what was predicted, as a share of that."""
CONVERT_MOST = 1.3
"""The most that converting may hold, in sizes of the largest part that is converted."""
# In a process of its own, so that what it holds is not what was held before.
_CONVERT = (
    "import sys; from longtake.app.cli import main; code = main(sys.argv[1:]); "
    "from longtake.app.resident import peak_bytes; print(peak_bytes()); sys.exit(code)"
)
COUNTED = {
    "weights": "random, in the layout in which Wan 2.1 is published; speed and memory do not "
    "depend on them",
    "convert_peak_mb": "of the process's memory, pages of the mapped files included",
    "predicted_mb": "doctor's arithmetic: weights and one film",
    "peak_mb": "the most that tensors took on the GPU, from loading to the film's end",
    "reserved_mb": "what torch kept of the GPU for that; CUDA's own share is not in it",
    "fps": "frames on the host, hashed, and coded where PyAV is there; after the cache is full",
    "first_frame_s": "from the loaded model to the first frame, compiling and tuning included",
    "switch_s": "from a prompt that is not known to the first frame under it: the text encoder is "
    "loaded, if need be, and reads it, and what is remembered is run again",
    "resident_mb": "of the machine's memory, by the whole process after the film",
}


@dataclass
class Results:
    """What was measured so far.

    Attributes:
        metrics: by name.
        checks: whether what was promised holds, by name.
        failures: one line for each part that failed, by its name.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    checks: dict[str, bool] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """A part of the benchmark; whatever it raises is told in a line."""
        try:
            yield
        except Exception as error:
            line = " ".join(f"{type(error).__name__}: {error}".split())[:500]
            self.failures[name] = line
            print(f"{name} failed: {line}", file=sys.stderr, flush=True)

    def compare(self, name: str, sizes: FilmSizes, weights: int, peak: int, reserved: int) -> None:
        """Hold what a film took of a GPU against what was predicted.

        Args:
            name: what its metrics begin with.
            sizes: that were counted with.
            weights: bytes of tensors when the model was loaded.
            peak: the most bytes of tensors.
            reserved: the most bytes that torch kept for them.
        """
        total = sizes.need.total
        predicted = total - sizes.session_need.total
        for key, size in (
            ("weights_predicted", predicted),
            ("weights", weights),
            ("peak", peak),
            ("reserved", reserved),
        ):
            self.metrics[f"{name}{key}_mb"] = size / 1e6
        self.metrics[f"{name}peak_ratio"] = peak / total
        self.checks[f"{name}peak"] = abs(peak / total - 1) <= WITHIN


class Sink(Protocol):
    """Where a film's frames go."""

    def write(self, pixels: NDArray[np.uint8], prompt: str) -> None:
        """Take one."""
        ...

    def close(self) -> None:
        """There are no more."""
        ...


class Uncoded:
    """A sink for machines without PyAV: frames come to the host, and no file is made."""

    def write(self, pixels: NDArray[np.uint8], prompt: str) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def convert(sources: Sequence[Path], out: Path, largest: int, results: Results) -> None:
    """The command, in a process of its own, and the most memory that it held.

    Args:
        sources: files or folders.
        out: the new model folder.
        largest: bytes of the largest part.
        results: added to.

    Raises:
        RuntimeError: it failed; says how.
    """
    command = [sys.executable, "-c", _CONVERT, "convert", *map(str, sources), str(out)]
    began = time.perf_counter()
    done = subprocess.run(
        [*command, "--dtype", "bfloat16"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "?")
    peak = int(done.stdout.split()[-1])
    results.metrics |= {
        "convert_s": time.perf_counter() - began,
        "convert_peak_mb": peak / 1e6,
        "convert_largest_mb": largest / 1e6,
        "convert_peak_ratio": peak / largest,
    }
    results.checks["convert_peak"] = peak < CONVERT_MOST * largest


@dataclass(frozen=True)
class Filming:
    """What all films have in common.

    Attributes:
        folder: of the model.
        device: computed on.
        dtype: of what is not in int8.
        streaming: the picture, the chunk and the cache.
        out: where films and embeddings of prompts are put.
    """

    folder: Path
    device: torch.device
    dtype: torch.dtype
    streaming: StreamingConfig
    out: Path

    def film(self, name: str, settings: Mapping[str, Any], seconds: float, to: Results) -> None:
        """Make one, and say what it took.

        Args:
            name: what its metrics begin with.
            settings: as :func:`.open_model` takes them.
            seconds: of film.
            to: added to, as soon as something is known.
        """
        sizes = self.predicted(settings)
        to.metrics[f"{name}predicted_mb"] = sizes.need.total / 1e6
        # What a film before this one left, if it failed, has to go first.
        gc.collect()
        before = self._begin()
        began = time.perf_counter()
        with open_model(
            self.folder,
            device=self.device.type,
            dtype=DTYPE_NAMES[self.dtype],
            **self._asked,
            **settings,
        ) as model:
            to.metrics[f"{name}load_s"] = time.perf_counter() - began
            weights = self._held() - before
            made = shoot(model, seconds, self.out / f"{name}film.mp4")
            to.metrics |= {f"{name}{key}": value for key, value in made.items()}
        to.metrics[f"{name}resident_mb"] = resident_bytes() / 1e6
        if self.device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(self.device) - before
            reserved = torch.cuda.max_memory_reserved(self.device)
            to.compare(name, sizes, weights, peak, reserved)

    def predicted(self, settings: Mapping[str, Any]) -> FilmSizes:
        """What doctor counts with."""
        text = TextSetting(settings.get("text_encoder"), settings.get("offload"))
        int8 = settings.get("quantize") == "int8"
        sizes = sizes_in(self.folder, self.device, self.dtype, text, int8=int8)
        assert isinstance(sizes, FilmSizes)
        return sizes.changed(changes_of(**self._asked))

    @property
    def _asked(self) -> dict[str, Any]:
        """What a converted model films with anyway, unless it is a toy."""
        config = self.streaming
        size = (config.width, config.height)
        return {"size": size, "chunk": config.chunk, "window": config.window, "sink": config.sink}

    def _begin(self) -> int:
        """Bytes of the GPU that are taken before; peaks are counted from here on."""
        if self.device.type != "cuda":
            return 0
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self.device)
        return self._held()

    def _held(self) -> int:
        return torch.cuda.memory_allocated(self.device) if self.device.type == "cuda" else 0


def shoot(model: Model, seconds: float, path: Path) -> dict[str, float]:
    """A film, and then a chunk under another prompt.

    Args:
        model: loaded.
        seconds: of the film.
        path: of the MP4.

    Returns:
        ``frames``, ``first_frame_s``, ``switch_s`` and, of a film that is long enough, ``fps``.
    """
    config, spec = model.generator.config, model.generator.spec
    filling = -(-(config.sink + config.window) // config.chunk)
    progress = Progress(time.perf_counter(), (filling + SETTLING) * spec.chunk_units)
    with closing(model.take(PROMPT, seed=1)) as take, closing(sink_for(path, take)) as sink:
        for frame in take.frames(seconds):
            sink.write(frame.pixels, frame.prompt)
            progress.frame(frame)
        fps = progress.fps
        take.prompt(OTHER)
        for frame in take.frames(spec.chunk_units / spec.rate):
            sink.write(frame.pixels, frame.prompt)
            progress.frame(frame)
        switch = take.summary().reaction_max
    made = {"frames": progress.frames, "first_frame_s": progress.first_frame, "switch_s": switch}
    return made | ({"fps": fps} if fps else {})


def sink_for(path: Path, take: Take) -> Sink:
    """An MP4, or what takes its place where PyAV is missing."""
    if not find_spec("av"):
        return Uncoded()
    from longtake.app.mp4 import Mp4Writer  # noqa: PLC0415

    config = take.model.generator.config
    return Mp4Writer(path, config.width, config.height, config.rate, take.about)


@contextmanager
def knowing_no_prompt(folder: Path) -> Iterator[None]:
    """Within, embeddings of prompts are kept in a folder of their own, so none is known before."""
    name = "XDG_CACHE_HOME"
    before = os.environ.get(name)
    os.environ[name] = str(folder)
    try:
        yield
    finally:
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before


def measure(options: argparse.Namespace) -> Results:
    """All parts, one after the other; what is known is written after each."""
    device = choose_device(options.device)
    dtype = choose_dtype(options.dtype, device)
    shape = toy_shape() if options.toy else wan_shape()
    text = umt5_xxl() if options.umt5_xxl else small_text(shape)
    short = min(SHORT, options.seconds)
    settings: dict[str, Any] = {
        "dtype": DTYPE_NAMES[dtype],
        "seconds": options.seconds,
        "short_seconds": short,
        "transformer": asdict(shape.transformer),
        "text_encoder": "of umT5-xxl's size" if options.umt5_xxl else "a stand-in of one layer",
        "films": "coded as MP4" if find_spec("av") else "not coded: PyAV is missing",
    }
    results, out = Results(), options.out
    out.mkdir(parents=True, exist_ok=True)

    def write() -> None:
        path, model = out / f"full_size_{device.type}.json", "toy" if options.toy else "longlive"
        write_result(
            path, "-m longtake.benchmarks.full_size", device, results.metrics, model=model,
            checks=results.checks, failures=results.failures, settings=settings, counted=COUNTED,
        )  # fmt: skip

    with tempfile.TemporaryDirectory(dir=out, prefix="weights-") as place:
        weights = Path(place)
        model = weights / "model"
        with results.part("convert"):
            began = time.perf_counter()
            sources = weights / "Wan2.1-T2V", weights / "parts"
            sizes = (
                write_transformer(sources[0], shape, device),
                *write_rest(sources[1], shape, text, device),
            )
            results.metrics["write_s"] = time.perf_counter() - began
            convert(sources, model, max(sizes), results)
        write()
        filming = Filming(model, device, dtype, shape.streaming, out)
        if model.is_dir():
            settings["streaming"] = asdict(filming.predicted({}).config)
        for name, changes in VARIANTS.items() if model.is_dir() else ():
            with knowing_no_prompt(weights / f"{name}cache"), results.part(f"{name}film"):
                filming.film(name, changes, short if changes else options.seconds, results)
            write()
    return results


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit code: 1 if a part failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="for the result and the films; weights are put there too and removed at the end",
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="of the film (default: 60)")
    parser.add_argument(
        "--umt5-xxl",
        action="store_true",
        help="with a text encoder of umT5-xxl's size (11 GB, on the disk twice), instead of a "
        "stand-in of one layer",
    )
    parser.add_argument("--toy", action="store_true", help="a shape that measures nothing")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", choices=["auto", *DTYPES], default="auto")
    results = measure(parser.parse_args(arguments))
    show(results.metrics)
    for name, holds in results.checks.items():
        print(f"{name:36} {'holds' if holds else 'does not hold'}")
    return 1 if results.failures else 0


if __name__ == "__main__":
    sys.exit(main())
