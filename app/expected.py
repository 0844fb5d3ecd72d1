"""How fast a model will be: what was measured on this very hardware, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from longtake.app.devices import DTYPE_NAMES, DTYPES
from longtake.models.memory import Sizes
from longtake.models.video.memory import FilmSizes
from longtake.models.video.tiny_codec import TinyCodec

RESULTS = Path(__file__).parents[1] / "docs" / "results"
_BUNDLED = "valley"
# Of the streaming config what a chunk's cost depends on.
_COSTS = ("width", "height", "chunk", "sink", "window", "steps", "radial")


def expected_fps(
    model: str | None, sizes: Sizes, hardware: str, results: Path = RESULTS
) -> list[str]:
    """Frames a second in the benchmarks' results.

    A result that says in its ``settings`` what it filmed with holds for every model of these
    shapes, as speed does not depend on weights; any other one is of the model that it names in
    ``model``, or else of the bundled one.

    Args:
        model: its name; None where it is asked for with other settings than its own.
        sizes: of it, as it is asked for.
        hardware: as the results name it, see :func:`.hardware`.
        results: the folder of the results; an installation without them has none.

    Returns:
        A phrase for each, with the file that says more; empty where nothing was measured.
    """
    found = []
    for path in sorted(results.glob("*.json")):
        result = json.loads(path.read_text("utf-8"))
        if result.get("hardware") != hardware:
            continue
        metrics, settings = result.get("metrics", {}), result.get("settings", {})
        names: list[str] = []
        if "streaming" in settings:
            if isinstance(sizes, FilmSizes) and _is_of(settings, sizes):
                names = [*_metrics_of(sizes)]
        elif result.get("model", _BUNDLED) == model:
            names = ["fps"]
        found += [f"{metrics[name]:.1f} ({path.name})" for name in names if name in metrics]
    return found


def _is_of(settings: Mapping[str, Any], sizes: FilmSizes) -> bool:
    """Whether a result was measured in these shapes, and in this precision."""
    config, measured = asdict(sizes.config), settings["streaming"]
    # As JSON has it.
    transformer = json.loads(json.dumps(asdict(sizes.transformer)))
    return (
        DTYPES.get(settings["dtype"]) == sizes.dtype
        and settings["transformer"] == transformer
        and all(measured[name] == config[name] for name in _COSTS)
    )


def _metrics_of(sizes: FilmSizes) -> Iterator[str]:
    """What the benchmarks call the speed of films with these settings."""
    tiny = isinstance(sizes.codec, TinyCodec)
    precision = "int8" if sizes.any_int8 else DTYPE_NAMES[sizes.dtype]
    precision += "_fp8" if sizes.fp8_cache else ""
    # `bench` has a prompt in force all the time, and so nothing for a text encoder to do.
    yield f"e2e_fps_{'tiny_decoder' if tiny else 'wan_vae'}_{precision}"
    if not tiny:  # `full_size` films with Wan's codec
        offload = sizes.setting.offload
        changed = ["offload_" + offload.replace("-", "_")] if offload else []
        changed += ["int8"] if sizes.int8 else []
        changed += ["fp8"] if sizes.fp8_cache else []
        yield "_".join([*changed, "fps"])
