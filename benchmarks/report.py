"""What every result says about itself: hardware, versions, the command that made it."""

from __future__ import annotations

import json
import platform
import shlex
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from longtake.app.devices import hardware

RESULTS = Path("docs/results")


def result_path(out: Path | None, name: str, device: torch.device) -> Path:
    """Where a result goes: to ``out``, or among the others, by the type of device it is of."""
    return out or RESULTS / f"{name}_{device.type}.json"


def origin(program: str, device: torch.device) -> dict[str, Any]:
    """What made a result: ``hardware``, ``versions``, ``command``; see :func:`write_result`.

    Where the command names a place of this machine, it has the last name of that alone.
    """
    told = [Path(each).name if Path(each).is_absolute() else each for each in sys.argv[1:]]
    return {
        "hardware": hardware(device),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "command": shlex.join(["python", *program.split(), *told]),
    }


def write_result(
    path: Path,
    program: str,
    device: torch.device,
    metrics: Mapping[str, float],
    **more: object,
) -> None:
    """Write a result as JSON.

    Args:
        path: the file, replaced at once; its folder is made if need be.
        program: that Python ran with this process's arguments: ``-m longtake.benchmarks.film``.
        device: measured on.
        metrics: numbers by name.
        more: JSON-like values to be written beside them.
    """
    rounded = {name: round(value, 4) for name, value in metrics.items()}
    result = {**origin(program, device), "metrics": rounded, **more}
    path.parent.mkdir(parents=True, exist_ok=True)
    # Beside it first: whoever stops a benchmark half-way keeps what was measured before.
    half = path.with_suffix(".part")
    half.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    half.replace(path)


def write_parts(
    parts: Iterable[Mapping[str, float]],
    path: Path,
    program: str,
    device: torch.device,
    **more: object,
) -> None:
    """Show the metrics of each part as it is measured, and write them over those before.

    At once: whoever runs out of time keeps what was measured before. See :func:`write_result`.
    """
    metrics: dict[str, float] = {}
    for found in parts:
        show(found)
        metrics |= found
        write_result(path, program, device, metrics, **more)


def show(metrics: Mapping[str, float]) -> None:
    """Print metrics, one a line."""
    for name, value in metrics.items():
        print(f"{name:36} {value:10.4g}", flush=True)
