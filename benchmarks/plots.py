"""Charts of results, from their JSON alone: how training went, and what the model shows.

`python -m longtake.benchmarks.plots` draws the charts of `docs/results`.
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from longtake.benchmarks.report import RESULTS
from longtake.training.valley.world import NAMES

Point = tuple[float, float]

COLOURS = ("#0b5fa5", "#d1670a", "#3a8a3a", "#8a4fa3")
INK, GRID = "#333333", "#dddddd"
DPI = 110
PALETTE = 32
"""Colours that a chart is stored with."""
ENOUGH = 3
"""How many times the least the most has to be for a logarithmic axis."""
STAGES = (
    *("judge", "codec", "decoder", "decoder_again", "reader"),
    *("teacher", "teacher_again", "teacher_films"),
    *("teacher_rewritten", "teacher_hours", "teacher_short"),
    *("student", "tune"),
    *("captioner", "captioner_again", "captioner_probed", "captioner_recalled"),
    *("captioner_composed", "captioner_clocked"),
)
"""The logs of the bundled model's stages, in their order."""
CHECKED = ("teacher", "teacher_again", "teacher_films", "tune")
"""Of these what was measured right after it."""
ABLATED = ("teacher", "student", "tuned")
"""The stages after each of which other caches were tried."""
LEARNED = ("said", "told", "seen")
"""The parts of the captioner's loss."""
STREAMS = {
    "hours": "ours",
    "hours_unbounded": "nothing evicted, until memory ends",
    "hours_sinkless": "a window without sinks",
}
"""Parts of the captioner's result that have a course, and what they are called."""
UNITS = {"tflops": ("TFLOP/s", "the largest product"), "gbs": ("GB/s", "the largest copy")}
"""What operations are told in, by what results call it, and what that is a share of."""
FILMS = {
    "dit_fps": "transformer_alone",
    "e2e_fps_tiny_decoder": "with a tiny_decoder",
    "e2e_fps_wan_vae": "with Wan's_decoder",
}
"""The full size's speeds, and what they are called."""
PRECISIONS = {
    "bf16": "bfloat16",
    "int8": "int8",
    "int8_fp8": "int8, keys and values in fp8",
}
"""What they are measured in, and what that is called."""
PUBLISHED = dict(zip(FILMS.values(), (23.9, 34.9, 13.9), strict=True))
"""LongLive's own code, with cuDNN's attention; FlashDreams; LongLive's again."""
COURSE = {
    "accuracy": "attributes right",
    "token_ms": "ms a token",
    "memory_mb": "MB remembered",
}
"""What a course has for every minute."""


def line_chart(
    series: Mapping[str, Sequence[Point]], x_label: str, y_label: str, mark: float
) -> Figure:
    """A line for each series of points, from left to right, and a dashed upright line at `mark`."""
    figure, axes = _figure(7.2, 4.0)
    for (name, points), colour in zip(series.items(), COLOURS, strict=False):
        axes.plot(*zip(*points, strict=True), "o-", color=colour, markersize=4, label=name)
    axes.axvline(mark, color=INK, linewidth=1, linestyle="--")
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.legend(frameon=False, ncols=len(series), loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure


def bars(
    series: Mapping[str, Mapping[str, float]], y_label: str, most: float = 1.0, form: str = "%.2f"
) -> Figure:
    """Bars from 0 to `most`: a group for each name, in it a bar for each series that has it."""
    names = list(dict.fromkeys(name for values in series.values() for name in values))
    figure, axes = _figure(9.0, 3.6)
    width = 0.8 / len(series)
    for row, ((label, values), colour) in enumerate(zip(series.items(), COLOURS, strict=False)):
        shown = [names.index(name) + (row + 0.5) * width - 0.4 for name in values]
        drawn = axes.bar(shown, list(values.values()), 0.92 * width, color=colour, label=label)
        axes.bar_label(drawn, fmt=form, fontsize=6, color=INK)
    axes.set_xticks(range(len(names)), [name.replace("_", "\n") for name in names])
    axes.set_ylim(0, 1.08 * most)
    axes.set_ylabel(y_label)
    axes.legend(frameon=False, ncols=len(series), loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure


def shares(metrics: Mapping[str, float]) -> Figure:
    """What the best implementation of each operation gets out of the machine, as a bar.

    Args:
        metrics: of `longtake.benchmarks.kernels`.
    """
    best = _best(metrics)
    figure, axes = _figure(7.2, 0.6 + 0.22 * len(best))
    for (key, (unit, ceiling)), colour in zip(UNITS.items(), COLOURS, strict=False):
        of_it = {row: each for row, each in enumerate(best) if each.key == key}
        lengths = [each.share for each in of_it.values()]
        drawn = axes.barh(list(of_it), lengths, 0.7, color=colour, label=f"of {ceiling}")
        told = [f"{each.rate:,.0f} {unit}" for each in of_it.values()]
        for label in axes.bar_label(drawn, told, padding=3, fontsize=6, color=INK):
            label.set_bbox({"color": "white", "pad": 1})
    axes.set_yticks(range(len(best)), [each.label for each in best])
    axes.invert_yaxis()
    axes.axvline(1.0, color=INK, linewidth=1, linestyle="--")
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("share")
    axes.legend(frameon=False, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure


class _Achieved(NamedTuple):
    label: str
    share: float
    rate: float
    key: str


def _best(metrics: Mapping[str, float]) -> list[_Achieved]:
    """The fastest implementation of each operation that was measured."""
    best: dict[str, _Achieved] = {}
    for name in (each.removesuffix("_share") for each in metrics if each.endswith("_share")):
        key = next(key for key in UNITS if f"{name}_{key}" in metrics)
        share, rate = metrics[f"{name}_share"], metrics[f"{name}_{key}"]
        operation, implementation = name.split("/")
        if operation not in best or share > best[operation].share:
            best[operation] = _Achieved(f"{operation}: {implementation}", share, rate, key)
    return list(best.values())


def speeds(metrics: Mapping[str, float]) -> Figure:
    """Frames a second of the full size, beside what others' code made of the same work.

    Args:
        metrics: of `launch.py bench`.
    """
    made = {
        label: {shown: metrics[f"{name}_{precision}"] for name, shown in FILMS.items()}
        for precision, label in PRECISIONS.items()
        if _is_whole(metrics, precision)
    }
    most = max(value for values in made.values() for value in values.values())
    return bars(made | {"others, on an H100": PUBLISHED}, "frames a second", most, "%.1f")


def _is_whole(metrics: Mapping[str, float], precision: str) -> bool:
    """Whether every kind of film was measured in a precision."""
    return all(f"{name}_{precision}" in metrics for name in FILMS)


def curves(logs: Mapping[str, Sequence[Mapping[str, float]]]) -> Figure:
    """The loss of each stage over its seconds, in parts where it has some; see `_losses`."""
    columns = 4
    rows = -(-len(logs) // columns)
    figure = Figure(figsize=(11, 2.5 * rows), dpi=DPI, layout="constrained")
    for place, (name, lines) in enumerate(logs.items(), 1):
        axes = figure.add_subplot(rows, columns, place)
        _plain(axes)
        axes.set_title(name.replace("_", " "), fontsize=10)
        axes.set_xlabel("seconds")
        # The first steps stand at the far left for as long as compiling took.
        for (label, points), colour in zip(_losses(lines[2:]).items(), COLOURS, strict=False):
            axes.plot(*zip(*points, strict=True), color=colour, linewidth=1, label=label)
        _logarithmic(axes)
        axes.legend(frameon=False, fontsize=7)
    return figure


def _losses(lines: Sequence[Mapping[str, float]]) -> dict[str, list[Point]]:
    """The generator's for films and for openings, the captioner's for each thing it learns."""
    found: dict[str, list[Point]] = {}
    for line in lines:
        if "opening" in line:
            parts = {("films", "openings")[int(line["opening"])]: line["loss"]}
        else:
            # A step in which there was nothing of a kind says 0 of it.
            parts = {name: line[name] for name in LEARNED if line.get(name)}
        for label, loss in (parts or {"loss": line["loss"]}).items():
            found.setdefault(label, []).append((line["seconds"], loss))
    # So that a colour means the same in every panel.
    return dict(sorted(found.items()))


def courses(streams: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """A panel for each measure of `COURSE`, in it a line over the minutes of each stream.

    Times and memory that span much are on a logarithmic scale; a stream that ends before the others
    has a cross at its end.
    """
    figure = Figure(figsize=(7.2, 6.6), dpi=DPI, layout="constrained")
    longest = max(len(course["accuracy"]) for course in streams.values())
    for place, (key, label) in enumerate(COURSE.items(), 1):
        axes = figure.add_subplot(len(COURSE), 1, place)
        _plain(axes)
        for (name, course), colour in zip(streams.items(), COLOURS, strict=False):
            values = course[key]
            axes.plot(range(1, len(values) + 1), values, color=colour, linewidth=1.2, label=name)
            if len(values) < longest:
                axes.plot(len(values), values[-1], "x", color=colour)
        axes.set_ylabel(label)
        if key != "accuracy":
            _logarithmic(axes)
        if place == 1:
            axes.legend(frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    axes.set_xlabel("minutes of video")
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a PNG of few colours, a third as large as one of all; its folder is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=DPI)
    # By coverage, as the lines' own colours stay then, which are few beside all their edges'.
    kind = Image.Quantize.MAXCOVERAGE
    few = Image.open(drawn).convert("RGB").quantize(PALETTE, kind, dither=Image.Dither.NONE)
    few.save(path, optimize=True)


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    _plain(axes)
    return figure, axes


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color=GRID)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", labelsize=8, colors=INK)


def _logarithmic(axes: Axes) -> None:
    """What is drawn on a logarithmic upright axis, in plain numbers, where it spans enough."""
    least, most = axes.dataLim.intervaly
    if most < ENOUGH * least:
        return
    axes.set_yscale("log", subs=(2, 5))
    for formatted in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        formatted("{x:g}")


def _obeyed(path: Path) -> dict[str, float]:
    """The adherence after a switch of each cache in an ablation's result."""
    metrics = json.loads(path.read_text())["metrics"]
    first, last = "ablation_", "_after_switch"
    return {
        name.removeprefix(first).removesuffix(last): value
        for name, value in metrics.items()
        if name.endswith(last)
    }


def draw_speed(path: Path) -> list[Path]:
    """Draw beside a result what it has: speeds in some precisions with both decoders, kernels.

    Args:
        path: of `launch.py bench` or of `longtake.benchmarks.kernels`.

    Returns:
        The pictures.
    """
    metrics = json.loads(path.read_text())["metrics"]
    whole = [each for each in PRECISIONS if _is_whole(metrics, each)]
    charts = [speeds(metrics)] if len(whole) > 1 else []
    charts += [shares(metrics)] if _best(metrics) else []
    drawn = [path.with_name(f"{path.stem}{end}.png") for end in ("", "_kernels")][: len(charts)]
    for figure, picture in zip(charts, drawn, strict=True):
        save(figure, picture)
    return drawn


def draw(folder: Path) -> None:
    """Draw the charts of a results folder beside its JSON files."""
    training = folder / "training"
    logs = {
        name: [json.loads(line) for line in (training / f"{name}.jsonl").read_text().splitlines()]
        for name in STAGES
    }
    save(curves(logs), folder / "training.png")
    checks = {name: json.loads((training / f"check_{name}.json").read_text()) for name in CHECKED}
    shown = {
        "adherence_mean": "adherence",
        "adherence_camera": "camera",
        "adherence_motion": "motion",
        "adherence_shape": "shape",
        "switch_changed": "changed_by_a switch",
        "switch_kept": "kept_over a_switch",
        "drift_late": "after_20 s",
        "drift_identity": "identity",
    }
    stages = {
        name.replace("_", " "): {label: check[key] for key, label in shown.items() if key in check}
        for name, check in checks.items()
    }
    save(bars(stages, "right, of what was asked for"), folder / "training_stages.png")
    obeyed = {name: _obeyed(folder / f"ablation_{name}.json") for name in ABLATED}
    save(bars(obeyed, "right, in the second second after a switch"), folder / "ablation_stages.png")
    parts = json.loads((folder / "captioner.json").read_text())["parts"]
    if streams := {
        label: parts[name]["course"] for name, label in STREAMS.items() if name in parts
    }:
        save(courses(streams), folder / "captioner_hours.png")
    metrics = json.loads((folder / "bundled.json").read_text())["metrics"]
    found = {name: metrics[f"adherence_{name}"] for name in NAMES}
    series = {"held-out scenes, in new words": found | {"mean": metrics["adherence"]}}
    save(bars(series, "right, of what was asked for"), folder / "bundled_attributes.png")
    draw_speed(folder / "bench_cuda.json")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(description=__doc__)
    result.add_argument("--results", type=Path, default=RESULTS)
    return result


if __name__ == "__main__":
    draw(parser().parse_args().results)
