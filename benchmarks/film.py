"""The bundled model at work: speed, latency and memory as a viewer meets them."""

from __future__ import annotations

if __name__ == "__main__":
    # Before torch is there, as the command line does it.
    from longtake.app.threads import limit_spinning

    limit_spinning()

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from longtake.app.api import open_model
from longtake.app.resident import resident_bytes
from longtake.benchmarks.report import RESULTS, show, write_result

PROMPTS = (
    "a red ball bounces on green grass on a sunny day",
    "@20s night falls and it starts to snow",
    "@40s the sun comes up",
)


def command_line(*arguments: str) -> list[str]:
    """Longtake's command line as a process of its own."""
    code = "import sys; from longtake.app.cli import main; sys.exit(main())"
    return [sys.executable, "-c", code, *arguments]


def generate(
    seconds: float, *options: str, environment: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The summary of one ``generate`` in a process of its own.

    Args:
        seconds: length of the film; more than 40, for the last prompt to be in it.
        options: more of the command line.
        environment: variables set for the process, besides those of this one.
    """
    with tempfile.TemporaryDirectory() as folder:
        prompts = [part for prompt in PROMPTS for part in ("--prompt", prompt)]
        command = command_line("generate", "--json", *prompts, *options)
        command += ["--seconds", str(seconds), "--out", f"{folder}/film.mp4"]
        told = {**os.environ, **(environment or {})}
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=told)
    summary: dict[str, Any] = json.loads(done.stdout)
    return summary


def memory_growth(minutes: int) -> dict[str, float]:
    """What a long film adds to memory between its first minute and its last."""
    with open_model() as model:
        take = model.take(PROMPTS[0], seed=1)
        held = []
        for minute in range(minutes):
            take.prompt("it starts to snow" if minute % 2 else "the sky clears")
            for _ in take.frames(60):
                pass
            held.append(resident_bytes() / 2**20)
    return {"memory_minute_1_mb": held[0], "memory_growth_mb": held[-1] - held[0]}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="length of each film")
    parser.add_argument("--repeats", type=int, default=3, help="films of each kind; the median")
    parser.add_argument("--minutes", type=int, default=10, help="length of the memory test")
    parser.add_argument("--out", type=Path, default=RESULTS / "film_cpu.json")
    options = parser.parse_args()
    metrics: dict[str, float] = {}
    for name, extra in (("", ()), ("steps2_", ("--steps", "2")), ("fp32_", ("--dtype", "fp32"))):
        films = [generate(options.seconds, *extra) for _ in range(options.repeats)]
        for key in ("fps", "first_frame_s", "switch_s", "load_s", "peak_memory_mb"):
            metrics[name + key] = statistics.median(film[key] for film in films)
    metrics |= memory_growth(options.minutes)
    write_result(options.out, "-m longtake.benchmarks.film", torch.device("cpu"), metrics)
    show(metrics)


if __name__ == "__main__":
    main()
