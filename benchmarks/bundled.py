"""The bundled model measured through the application's own path, as a JSON, a table and pictures.

All prompts are worded as training never did. The measures themselves are in `training/metrics.py`
and `training/realism.py`; here is which films they are taken on.
"""

from __future__ import annotations

if __name__ == "__main__":
    # Before torch is there, as the command line does it.
    from longtake.app.threads import limit_spinning

    limit_spinning()

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from longtake.app.api import Model, open_model
from longtake.app.devices import DTYPE_NAMES, DTYPES
from longtake.benchmarks.camera import StreamCamera
from longtake.benchmarks.film import generate
from longtake.benchmarks.int8 import precisions
from longtake.benchmarks.pictures import save_sheet, sheet
from longtake.benchmarks.plots import line_chart, save
from longtake.benchmarks.report import RESULTS, origin, show, write_result
from longtake.benchmarks.table import page
from longtake.models.video.rewriter import PromptRewriter
from longtake.models.video.settings import SWITCHES, StreamingConfig
from longtake.models.video.tiny_codec import TinyCodec
from longtake.training import codec
from longtake.training.judge import Judge, accuracy, load_judge
from longtake.training.metrics import (
    BEFORE,
    EARLY,
    LATE,
    PERSISTED,
    PLAIN_SECONDS,
    Album,
    Script,
    Span,
    draw_changes,
    draw_rows,
    drift,
    ends,
    kept,
    motion,
    plain_scripts,
    sharpness,
    spread,
    switching,
    switching_renders,
)
from longtake.training.pool import renders
from longtake.training.realism import realism_auc
from longtake.training.valley.world import (
    COLOUR,
    RATE,
    SHAPE,
    Scenes,
    in_held_out_pair,
    sample_layout,
)
from longtake.weights import GENERATOR, JUDGE

PROGRAM = "-m longtake.benchmarks.bundled"
FILMS = 200
SHARES = {
    "codec": 0.64,
    "training": 0.3,
    "switch": 0.24,
    "long": 0.05,
    "diversity": 0.04,
    "open": 0.12,
    "ablation": 0.1,
}
"""Films of each other part for one with a held-out pair: as many as fit into an hour on two cores.

Of every film some ten attributes are read, so 48 films with a switch are good for a percent or two;
20 are enough for a row of the ablation, as all its rows are of the same scenes and seeds; and ten
films of two minutes, which cost as much as all those, are read 33 times each.
"""
SEEDS = 12
"""Films of each prompt of the diversity part."""
OPEN_SECONDS = 3.0
NAMED = ("shape", "colour", "motion", "ground")
"""What prompts name that leave all else open."""
KEPT_SECONDS = 24.0
LONG_SECONDS = 122.0
SPEED_SECONDS, SPEED_RUNS = 60.0, 3
CHUNKS = (1, 2, 3)
"""Latent frames made at a time that are compared; four frames of a film each."""
SECONDS: tuple[Span, ...] = tuple((second, 1) for second in range(-1, 8))
"""The seconds around a switch that the chart shows."""
STRIPS, COLUMNS = 4, 7
"""Films and frames of each in a contact sheet."""
PICTURES = ("films.webp", "switches.webp", "ablation.png")
"""What is drawn of them, by the end of its file's name."""
AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}


@dataclass(frozen=True)
class Bench:
    """What is measured, with what, and how much.

    `films`: with a held-out pair; the other parts' are in proportion. `out`: the JSON file;
    pictures go beside it.
    """

    model: Model
    judge: Judge
    films: int
    seed: int
    out: Path

    @property
    def device(self) -> torch.device:
        """The model's, and the judge's."""
        return self.model.generator.device

    def share(self, part: str) -> int:
        """How many films a part makes."""
        return max(1, round(SHARES[part] * self.films))

    def prompted(self) -> tuple[Tensor, list[Script]]:
        """Rows with a held-out pair, and their prompts."""
        rows = draw_rows(self.films, self.seed, held_out=True)
        return rows, plain_scripts(rows, self.seed, new_wording=True)

    def picture(self, name: str) -> Path:
        """Where a picture goes, by its file's name."""
        return self.out.with_name(f"{self.out.stem}_{name}")

    def rendered(self, rows: Tensor, seconds: float) -> Tensor:
        """What `ends` gives of films of the rows [N, 11], as true renders of other layouts."""
        layout = sample_layout(len(rows), torch.Generator().manual_seed(self.seed + 1))
        scenes, window = Scenes(rows, layout), self.judge.config.window
        start = seconds - window / RATE
        films = renders(scenes, scenes, start=start, frames=window, change=0.0, device=self.device)
        return torch.cat(list(films))


def measure_codec(bench: Bench) -> dict[str, float]:
    """What the codec alone costs."""
    own = bench.model.generator.codec
    if not isinstance(own, TinyCodec):
        raise TypeError(f"a {type(own).__name__} cannot encode here")
    draw = torch.Generator(bench.device).manual_seed(bench.seed)
    measured = codec.measure(own, bench.judge, bench.share("codec"), draw)
    return {f"codec_{name}": measured[name] for name in ("judge_ratio", "psnr")}


def measure_adherence(bench: Bench) -> dict[str, float]:
    """Films of scenes with a held-out pair: what they show, and how they look beside renders."""
    rows, scripts = bench.prompted()
    album = Album(StreamCamera(bench.model), STRIPS, COLUMNS)
    clips = ends(album, scripts, bench.judge.config.window, bench.seed)
    films = sheet(album.strips, [script[0] for script in album.scripts])
    save_sheet(films, bench.picture("films.webp"))
    read = bench.judge.read(clips).cpu()
    shown = accuracy(read, rows)
    metrics = {"adherence": shown.pop("mean")}
    metrics |= {f"adherence_{name}": value for name, value in shown.items()}
    metrics["adherence_heldout_pairs"] = accuracy(read, rows, in_held_out_pair(rows))["mean"]
    true = bench.rendered(rows, PLAIN_SECONDS)
    metrics["adherence_renders"] = accuracy(bench.judge.read(true), rows)["mean"]
    metrics["motion_ratio"] = motion(clips) / motion(true)
    metrics["sharpness_ratio"] = sharpness(clips) / sharpness(true)
    metrics["realism_auc"] = realism_auc(clips, true, bench.seed, bench.device)
    return metrics


def measure_int8(bench: Bench) -> dict[str, float]:
    """The same films, made in 8 bits and as they are."""
    rows, scripts = bench.prompted()

    def adherence(model: Model) -> float:
        clips = ends(StreamCamera(model), scripts, bench.judge.config.window, bench.seed)
        return accuracy(bench.judge.read(clips), rows)["mean"]

    generator, plain = bench.model.generator, adherence(bench.model)
    metrics = {}
    for name, precision in precisions(bench.device, generator.dtype).items():
        with open_model(
            bench.model.folder,
            device=bench.device.type,
            dtype=DTYPE_NAMES[generator.dtype],
            quantize="int8",
            kv_cache="fp8" if precision.fp8_cache else None,
        ) as model:
            metrics[f"{name}_adherence_delta"] = adherence(model) - plain
    return metrics


def measure_training(bench: Bench) -> dict[str, float]:
    """The same adherence on scenes such as training drew."""
    rows = draw_rows(bench.share("training"), bench.seed)
    scripts = plain_scripts(rows, bench.seed, new_wording=True)
    clips = ends(StreamCamera(bench.model), scripts, bench.judge.config.window, bench.seed)
    return {"adherence_training_pairs": accuracy(bench.judge.read(clips), rows)["mean"]}


def measure_switch(bench: Bench) -> dict[str, float]:
    """Films with a change of prompt, and true renders of the same changes."""
    scenes = draw_changes(bench.share("switch"), bench.seed)
    spans = (BEFORE, EARLY, PERSISTED)
    album = Album(StreamCamera(bench.model), STRIPS, COLUMNS)
    made = switching(album, bench.judge, *scenes, spans, bench.seed, new_wording=True)
    captions = ["\nthen: ".join(script.values()) for script in album.scripts]
    save_sheet(sheet(album.strips, captions), bench.picture("switches.webp"))
    true = switching_renders(bench.judge, *scenes, spans, bench.device)
    return {
        "adherence_after_switch": made.adherence(EARLY),
        "persistence": made.persistence(),
        "seam": made.seam(),
        "adherence_after_switch_renders": true.adherence(EARLY),
        "persistence_renders": true.persistence(),
    }


def measure_long(bench: Bench) -> dict[str, float]:
    """Films of two minutes without a change of prompt, in which the thing moves."""
    rows = draw_rows(bench.share("long"), bench.seed, moving=True)
    camera = StreamCamera(bench.model)
    read = drift(camera, bench.judge, rows, LONG_SECONDS, bench.seed, new_wording=True)
    return {"drift_120s": read["drift"], "identity_60s": read["identity"]}


def measure_diversity(bench: Bench) -> dict[str, float]:
    """Films of prompts that name a shape and a colour only, over what training would draw."""
    prompts, named = bench.share("diversity"), ("shape", "colour")
    rows = draw_rows(prompts, bench.seed)
    scripts = plain_scripts(rows, bench.seed, mention=named, new_wording=True)
    repeated = [script for script in scripts for _ in range(SEEDS)]
    window = bench.judge.config.window
    camera = StreamCamera(bench.model)
    made = ends(camera, repeated, window, bench.seed, seconds=OPEN_SECONDS)
    drawn = draw_rows(prompts * SEEDS, bench.seed + 1)
    drawn[:, [SHAPE, COLOUR]] = rows[:, [SHAPE, COLOUR]].repeat_interleave(SEEDS, 0)
    true = bench.rendered(drawn, OPEN_SECONDS)
    spreads = [
        spread(bench.judge.read(clips).unflatten(0, (prompts, SEEDS)), named)
        for clips in (made, true)
    ]
    return {"diversity_ratio": spreads[0] / spreads[1]}


def measure_open(bench: Bench) -> dict[str, float]:
    """Films of prompts that name few attributes, with the others drawn by the seed and without."""
    rows = draw_rows(bench.share("open"), bench.seed, moving=True)
    encoder = bench.model.generator.text_encoder
    drawing = encoder.rewriter
    ways = {"open": drawing}
    if isinstance(drawing, PromptRewriter):
        ways["open_undrawn"] = PromptRewriter(replace(drawing.lexicon, usual={}))
    asked = (rows, NAMED, KEPT_SECONDS, bench.seed)
    metrics: dict[str, float] = {}
    try:
        for name, way in ways.items():
            encoder.rewriter = way
            found = kept(StreamCamera(bench.model), bench.judge, *asked, new_wording=True)
            metrics |= {f"{name}_{what}": value for what, value in found.items()}
    finally:
        encoder.rewriter = drawing
    return metrics


def measure_speed(bench: Bench) -> dict[str, float]:
    """Frames a second of `generate`, decoded and encoded, each in a process of its own."""
    return _speeds(bench, {"cpu_fps": ()})


def measure_chunks(bench: Bench) -> dict[str, float]:
    """The same with other lengths of a chunk: a prompt is seen sooner in shorter ones."""
    return _speeds(bench, {f"chunk{n}_fps": ("--chunk", str(n)) for n in CHUNKS})


def _speeds(bench: Bench, options: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """Medians of frames a second by turns, with those options and once more with AVX2 alone."""
    own = ("--device", "cpu", "--model", str(bench.model.folder))
    avx2 = {f"{name}_avx2": (*given, "--dtype", "fp32") for name, given in options.items()}
    runs: dict[str, list[float]] = {name: [] for name in (*options, *avx2)}
    for _ in range(SPEED_RUNS):
        for name, given in {**options, **avx2}.items():
            environment = AVX2 if name in avx2 else {}
            film = generate(SPEED_SECONDS, *own, *given, environment=environment)
            runs[name].append(film["fps"])
    return {name: statistics.median(each) for name, each in runs.items()}


def ablation_settings(config: StreamingConfig) -> dict[str, dict[str, int | str]]:
    """The rows of the paper's table: what to do at a switch, and how far to look back."""
    rows: dict[str, dict[str, int | str]] = {switch: {"switch": switch} for switch in SWITCHES}
    others = [size for size in range(9, 13) if size % config.chunk == 0]
    rows |= {f"sink{sink}": {"sink": sink} for sink in {0} - {config.sink}}
    windows = [size for size in (6, *others) if size != config.window]
    return rows | {f"window{size}": {"window": size} for size in windows[:2]}


def measure_ablation(bench: Bench) -> dict[str, float]:
    """The same switches with another cache; the first row is the model's own."""
    scenes = draw_changes(bench.share("ablation"), bench.seed)
    metrics: dict[str, float] = {}
    series = {}
    for name, settings in ablation_settings(bench.model.generator.config).items():
        camera = StreamCamera(bench.model, **settings)
        spans = {EARLY, LATE, *SECONDS} if name in SWITCHES else {EARLY, LATE}
        made = switching(camera, bench.judge, *scenes, spans, bench.seed, new_wording=True)
        row = f"ablation_{name}"
        metrics[f"{row}_after_switch"] = made.adherence(EARLY)
        metrics[f"{row}_late"] = made.adherence(LATE)
        metrics[f"{row}_seam"] = made.seam()
        if name in SWITCHES:
            points = {span[0]: made.adherence(span) for span in SECONDS}
            metrics |= {f"{row}_second_{second}": value for second, value in points.items()}
            legend = f"{name} (seam {made.seam():.1f})"
            series[legend] = [(second + 0.5, value) for second, value in points.items()]
    labels = ("seconds after the switch", "adherence to the new state, second by second")
    save(line_chart(series, *labels, 0.0), bench.picture("ablation.png"))
    return metrics


PARTS: dict[str, Callable[[Bench], dict[str, float]]] = {
    "codec": measure_codec,
    "adherence": measure_adherence,
    "int8": measure_int8,
    "training": measure_training,
    "switch": measure_switch,
    "long": measure_long,
    "diversity": measure_diversity,
    "open": measure_open,
    "speed": measure_speed,
    "chunks": measure_chunks,
    "ablation": measure_ablation,
}


def evaluate(options: argparse.Namespace) -> dict[str, float]:
    """Measure part after part; what each gives is written at once, over what it gave before.

    Returns all metrics of the file, those of parts that were not run again included.
    """
    earlier = json.loads(options.out.read_text("utf-8")) if options.out.exists() else {}
    metrics: dict[str, float] = earlier.get("metrics", {})
    parts: dict[str, Any] = earlier.get("parts", {})
    with open_model(options.model, device=options.device, dtype=options.dtype) as model:
        device = model.generator.device
        judge = load_judge(options.judge, device)
        bench = Bench(model, judge, options.films, options.seed, options.out)
        for name in options.only or PARTS:
            began = time.perf_counter()
            metrics |= PARTS[name](bench)
            seconds = round(time.perf_counter() - began)
            weights = model.conditions["weights"]
            parts[name] = origin(PROGRAM, device) | {"weights": weights, "seconds": seconds}
            write_result(options.out, PROGRAM, device, metrics, parts=parts)
            print(f"{name}: {seconds} s", flush=True)
    result = json.loads(options.out.read_text("utf-8"))
    pictures = [bench.picture(name) for name in PICTURES]
    text = page(result, [picture for picture in pictures if picture.exists()])
    options.out.with_suffix(".md").write_text(text, "utf-8")
    measured: dict[str, float] = result["metrics"]
    show(measured)
    return measured


def parser() -> argparse.ArgumentParser:
    """The command line of the evaluation."""
    result = argparse.ArgumentParser(description=__doc__)
    result.add_argument("--model", type=Path, default=GENERATOR, help="default: the bundled model")
    result.add_argument("--judge", type=Path, default=JUDGE, help="default: the bundled judge")
    result.add_argument("--out", type=Path, default=RESULTS / "bundled.json")
    shares = ", ".join(f"{part} {round(share * FILMS)}" for part, share in SHARES.items())
    result.add_argument(
        "--films",
        type=int,
        default=FILMS,
        help=f"films with a held-out pair, at least five (default: {FILMS}); the other parts make "
        f"fewer, in proportion: of {FILMS}, {shares}",
    )
    result.add_argument(
        "--only",
        nargs="+",
        choices=PARTS,
        metavar="PART",
        help=f"run these parts again and keep the rest of the result: {', '.join(PARTS)}",
    )
    result.add_argument("--seed", type=int, default=1)
    result.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    result.add_argument("--dtype", choices=["auto", *DTYPES], default="auto")
    return result


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the evaluation."""
    evaluate(parser().parse_args(arguments))


if __name__ == "__main__":
    main()
