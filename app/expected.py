"""How fast a model will be: what was measured on this very hardware, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

RESULTS = Path(__file__).parents[1] / "docs" / "results"
_BUNDLED = "valley"


def expected_fps(model: str, hardware: str, results: Path = RESULTS) -> list[str]:
    """Frames a second in the benchmarks' results.

    A result is of the model that it names in ``model``, or else of the bundled one.

    Args:
        model: its name.
        hardware: as the results name it, see :func:`.hardware`.
        results: the folder of the results; an installation without them has none.

    Returns:
        A phrase for each, with the file that says more; empty where nothing was measured.
    """
    found = []
    for path in sorted(results.glob("*.json")):
        result = json.loads(path.read_text("utf-8"))
        fps = result.get("metrics", {}).get("fps")
        ours = result.get("hardware") == hardware and result.get("model", _BUNDLED) == model
        if ours and fps is not None:
            found.append(f"{fps:.1f} ({path.name})")
    return found
