"""The bundled captioner measured as it streams: what it says of renders and of other worlds.

Scenes hold pairs that training never had, questions are worded as it never had them, and the other
worlds are of another family, with the photographs that other packages bring along. The measures
are in `training/caption_metrics.py`; here is what they are taken on.
"""

from __future__ import annotations

if __name__ == "__main__":
    # Before torch is there, as the command line does it.
    from longtake.app.threads import limit_spinning

    limit_spinning()

import argparse
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from longtake.app.api import open_model
from longtake.benchmarks.beside import film_beside
from longtake.benchmarks.camera import StreamCamera
from longtake.benchmarks.hours import MEGABYTE, STREAMS
from longtake.benchmarks.photos import sample_photos
from longtake.benchmarks.report import RESULTS, origin, show, write_result
from longtake.models.folder import folder_digest
from longtake.models.vlm.captioner import Captioner
from longtake.models.vlm.load import load_captioner
from longtake.training.caption_metrics import (
    Marked,
    Shares,
    mark_elsewhere,
    mark_recall,
    mark_renders,
    recognised,
    rendered_rounds,
    speak,
    watch,
)
from longtake.training.caption_metrics import show as show_frames
from longtake.training.judge import load_judge
from longtake.training.metrics import chunks_in, draw_rows, plain_scripts
from longtake.training.pictures import Bank, draw_bank, photo_bank
from longtake.training.valley.captions import values_of
from longtake.training.valley.hearing import Listener, marks
from longtake.training.valley.questions import ABOUT_PAST
from longtake.training.valley.script import Scripts, draw_scripts
from longtake.training.valley.world import RATE
from longtake.weights import CAPTIONER, GENERATOR, JUDGE

PROGRAM = "-m longtake.benchmarks.captioner"
SECONDS = 60
"""Length of a clip of the valley."""
SHORT = 6
"""Seconds after which a world has to be known or not."""
RECALL_SECONDS = 90
RECALL_PAUSES = (15.0, 35.0)
"""When the one change that is asked about happens: about a minute before the end."""
FILMS, FILM_SECONDS = 0.3, 23
"""Films for one clip, and how long they are: the scene has just been told again."""
STRANGERS = 60
"""Drawn pictures of other worlds."""
FAST_ROUNDS = 40
"""Rounds that the speed is measured over, once the window is full."""


@dataclass(frozen=True)
class Bench:
    """What is measured, and how much: `clips` of each kind, `beside` seconds with a generator.

    `folder`: of the captioner.
    """

    captioner: Captioner
    folder: Path
    clips: int
    beside: float
    seed: int

    @property
    def device(self) -> torch.device:
        """The captioner's, where the valley is rendered too."""
        return self.captioner.network.device

    def draw(self) -> torch.Generator:
        """The random numbers of a part."""
        return torch.Generator().manual_seed(self.seed)


def measure_renders(bench: Bench) -> dict[str, float]:
    """Attributes, changes and questions on renders."""
    scripts = draw_scripts(bench.clips, SECONDS, bench.draw(), held_out=True).to(bench.device)
    marked = mark_renders(bench.captioner, scripts, SECONDS, bench.seed)
    return {
        "caption_accuracy": marked.attributes.share(),
        **_by_name("caption_accuracy", marked),
        "changes": marked.noticed.share(),
        "changes_3s": marked.late.share(),
        "questions": marked.answers.share(marked.answers.total.keys() - set(ABOUT_PAST)),
        "clauses_read": marked.clauses.share(),
    }


def _by_name(prefix: str, marked: Marked) -> dict[str, float]:
    return {f"{prefix}_{name}": marked.attributes.share([name]) for name in marked.attributes.total}


def measure_generated(bench: Bench) -> dict[str, float]:
    """What is believed at the end of generated films, against what the judge reads there."""
    films = max(1, round(FILMS * bench.clips))
    scripts = plain_scripts(draw_rows(films, bench.seed), bench.seed)
    judge, shares = load_judge(JUDGE), Shares()
    with open_model(GENERATOR) as model:
        camera = StreamCamera(model)
        for made in camera.shoot(scripts, chunks_in(camera, FILM_SECONDS), bench.seed):
            end = FILM_SECONDS * RATE
            read = values_of(judge.read(made[:, end - judge.config.window : end])[0].tolist())
            settings, listener = bench.captioner.settings, Listener()
            seen = made[0, : end : round(RATE / settings.fps)].split(settings.round_frames)
            for words in watch(bench.captioner, seen, {}, bench.seed):
                listener.hear(words)
            for name, right in marks(listener.beliefs, read).items():
                shares.add(name, right)
    return {"caption_on_generated": shares.share()}


def measure_recall(bench: Bench) -> dict[str, float]:
    """What happened a minute ago, with the words of the past and without them."""
    drawn = draw_scripts(bench.clips, RECALL_SECONDS, bench.draw(), pauses=RECALL_PAUSES, still=0)
    changes = drawn.changes.clone()
    changes[:, 1:] = math.inf
    scripts = Scripts(drawn.rows, drawn.layout, changes).to(bench.device)
    forgetful = replace(bench.captioner.settings, text_sink=0, text_window=0)
    watchers = {
        "recall_after_eviction": bench.captioner,
        "recall_without_text": bench.captioner.watching_with(forgetful),
    }
    kinds = tuple(kind for kind in ABOUT_PAST if kind != "last")
    return {
        name: mark_recall(watcher, scripts, RECALL_SECONDS, kinds, bench.seed).share()
        for name, watcher in watchers.items()
    }


def measure_worlds(bench: Bench) -> dict[str, float]:
    """Clips of other worlds recognised as such, and clips of the valley not."""
    captioner, fps = bench.captioner, bench.captioner.settings.fps
    banks: dict[str, Bank] = {"drawn": draw_bank(STRANGERS, bench.draw(), unseen=True)}
    if photos := sample_photos():
        banks["photos"] = photo_bank(photos)
    metrics = {
        f"out_of_world_{name}": mark_elsewhere(captioner, bank, bench.clips, SHORT, bench.seed)
        for name, bank in banks.items()
    }
    scripts = draw_scripts(bench.clips, SHORT, bench.draw(), held_out=True).to(bench.device)
    mistaken = [
        recognised(captioner, rendered_rounds(scripts[k : k + 1], SHORT, fps), bench.seed)
        for k in range(bench.clips)
    ]
    metrics["in_world"] = 1 - sum(mistaken) / len(mistaken)
    others = sum(metrics[f"out_of_world_{name}"] for name in banks) / len(banks)
    return {"out_of_world": (others + metrics["in_world"]) / 2, **metrics}


def measure_speed(bench: Bench) -> dict[str, float]:
    """Frames a second that it could watch, everything but rendering counted."""
    captioner, settings = bench.captioner, bench.captioner.settings
    rounds = math.ceil(settings.vision_seconds) + FAST_ROUNDS
    scripts = draw_scripts(1, rounds, bench.draw()).to(bench.device)
    frames = list(rendered_rounds(scripts, rounds, settings.fps))
    began, state = 0.0, captioner.open("", bench.seed)
    for second, each in enumerate(frames):
        if second == rounds - FAST_ROUNDS:
            began = time.perf_counter()
        show_frames(captioner, state, second, each)
        speak(captioner, state)
    spent = time.perf_counter() - began
    captioner.close(state)
    return {"caption_fps_alone": FAST_ROUNDS * settings.round_frames / spent}


def measure_beside(bench: Bench) -> dict[str, float]:
    """Frames a second by the clock on the wall, while a live film is made on the same engine."""
    return film_beside(bench.folder, bench.device.type, bench.beside, bench.seed)


PARTS: dict[str, Callable[[Bench], dict[str, float]]] = {
    "renders": measure_renders,
    "generated": measure_generated,
    "recall": measure_recall,
    "worlds": measure_worlds,
    "speed": measure_speed,
    "beside": measure_beside,
}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(description=__doc__)
    result.add_argument("--model", type=Path, default=CAPTIONER, help="default: the bundled one")
    result.add_argument("--out", type=Path, default=RESULTS / "captioner.json")
    result.add_argument("--clips", type=int, default=60, help="clips in each part")
    result.add_argument("--hours", type=float, default=2, help="length of the long streams")
    result.add_argument(
        "--memory", type=int, default=1000, help="MB that the stream that forgets nothing may fill"
    )
    result.add_argument("--beside", type=float, default=60, help="seconds beside a generator")
    names = [*PARTS, *STREAMS]
    result.add_argument("--only", nargs="+", choices=names, default=names, help="some parts")
    result.add_argument("--seed", type=int, default=1)
    result.add_argument("--device", default="cpu")
    return result


def _measure(
    name: str, bench: Bench, options: argparse.Namespace
) -> tuple[dict[str, float], dict[str, Any]]:
    """The metrics of a part, and what of its making is written beside them."""
    if stream := STREAMS.get(name):
        seconds, memory = round(3600 * options.hours), MEGABYTE * options.memory
        watched = stream(bench.captioner, seconds, bench.seed, memory)
        return watched.metrics, watched.about | {"memory_mb": options.memory}
    made: dict[str, Any] = {"clips": bench.clips}
    if name == "beside":
        made = {"beside_seconds": bench.beside}
    elif name == "worlds":
        made |= {"photos": [photo.name for photo in sample_photos()]}
    return PARTS[name](bench), made


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure part after part; each is written at once, over what it gave before."""
    options = parser().parse_args(arguments)
    earlier = json.loads(options.out.read_text("utf-8")) if options.out.exists() else {}
    metrics: dict[str, float] = earlier.get("metrics", {})
    parts: dict[str, Any] = earlier.get("parts", {})
    device = torch.device(options.device)
    captioner = load_captioner(options.model, device, torch.float32)
    weights = folder_digest(options.model)
    bench = Bench(captioner, options.model, options.clips, options.beside, options.seed)
    for name in options.only:
        began = time.perf_counter()
        found, more = _measure(name, bench, options)
        # Of what never came up, as the clauses of one who is silent, there is no share.
        measured = {key: value for key, value in found.items() if math.isfinite(value)}
        show(measured)
        metrics |= measured
        made = {"weights": weights, "seconds": round(time.perf_counter() - began), **more}
        parts[name] = origin(PROGRAM, device) | made
        write_result(options.out, PROGRAM, device, metrics, parts=parts)


if __name__ == "__main__":
    main()
