"""What the bundled model has to reach, and a page that says what it did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Range = tuple[float, float]
"""The least and the most that will do."""

INF = float("inf")
TARGETS: dict[str, tuple[Range, Range]] = {
    "codec_judge_ratio": ((0.96, INF), (0.99, INF)),
    "adherence": ((0.93, INF), (0.98, INF)),
    "adherence_heldout_pairs": ((0.85, INF), (0.95, INF)),
    "adherence_after_switch": ((0.92, INF), (0.97, INF)),
    "persistence": ((0.90, INF), (0.97, INF)),
    "seam": ((-INF, 3.0), (-INF, 1.5)),
    "drift_120s": ((-0.03, INF), (0.0, INF)),
    "identity_60s": ((0.93, INF), (0.98, INF)),
    "motion_ratio": ((0.85, 1.15), (0.95, 1.05)),
    "sharpness_ratio": ((0.85, 1.15), (0.95, 1.05)),
    "diversity_ratio": ((0.8, INF), (0.95, INF)),
    "realism_auc": ((-INF, 0.85), (-INF, 0.65)),
    "cpu_fps": ((20, INF), (30, INF)),
    "cpu_fps_avx2": ((8, INF), (12, INF)),
}
"""Metric -> what it must be and what is aimed at."""
ABLATION = "ablation_"
COLUMNS = {"after_switch": "after the switch", "late": "late", "seam": "seam"}


def page(result: Mapping[str, Any], pictures: Sequence[Path]) -> str:
    """A result as Markdown: the table of targets, the ablation, all else, the pictures.

    Args:
        result: with ``metrics`` and ``parts``, as `benchmarks/bundled.py` writes it.
        pictures: beside the page.
    """
    metrics: Mapping[str, float] = result["metrics"]
    lines = ["# The bundled model, measured", ""]
    made: dict[str, list[str]] = {}
    for name, part in result["parts"].items():
        made.setdefault(f"`{part['command']}` ({part['hardware']})", []).append(name)
    lines += [f"- {', '.join(names)}: {how}" for how, names in made.items()]
    if len({part["weights"] for part in result["parts"].values()}) > 1:
        lines += ["", "Not all of it was measured with the same weights: see `parts` in the JSON."]
    lines += ["", "What is in bold is not what it must be.", ""]
    lines += ["| metric | must | goal | reached |", "|---|---|---|---|"]
    for name, (must, goal) in TARGETS.items():
        reached = _reached(metrics[name], must) if name in metrics else ""
        lines.append(f"| {name} | {_words(must)} | {_words(goal)} | {reached} |")
    lines += _ablation(metrics)
    rest = [name for name in metrics if name not in TARGETS and not name.startswith(ABLATION)]
    if rest:
        lines += ["", "| for comparison | |", "|---|---|"]
        lines += [f"| {name} | {metrics[name]:.3g} |" for name in rest]
    for picture in pictures:
        lines += ["", f"![{picture.stem.replace('_', ' ')}]({picture.name})"]
    return "\n".join(lines) + "\n"


def _words(wanted: Range) -> str:
    low, high = wanted
    if high == INF:
        return f"≥ {low:g}"
    return f"≤ {high:g}" if low == -INF else f"{low:g} to {high:g}"


def _reached(value: float, must: Range) -> str:
    text = f"{value:.3g}"
    return text if must[0] <= value <= must[1] else f"**{text}**"


def _ablation(metrics: Mapping[str, float]) -> list[str]:
    suffix = "_seam"
    names = [name for name in metrics if name.startswith(ABLATION) and name.endswith(suffix)]
    if not names:
        return []
    lines = [
        "",
        f"| ablation | {' | '.join(COLUMNS.values())} |",
        "|---" * (1 + len(COLUMNS)) + "|",
    ]
    for name in names:
        row = name.removesuffix(suffix)
        cells = " | ".join(f"{metrics[f'{row}_{column}']:.3g}" for column in COLUMNS)
        lines.append(f"| {row.removeprefix(ABLATION)} | {cells} |")
    return lines
