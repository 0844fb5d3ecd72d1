"""What a longer memory buys: whether what leaves the picture comes back as what it was.

Something that no prompt names comes into the picture, leaves it for ten seconds, and is called
back. A judge reads what it is both times. `longtake/training/departures.py` is what models are
tuned with for it.
"""

from __future__ import annotations

if __name__ == "__main__":
    # Before torch is there, as the command line does it.
    from longtake.app.threads import limit_spinning

    limit_spinning()

import argparse
import json
import shutil
import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import combinations, product
from pathlib import Path

import torch
from torch import Tensor

from longtake.app.api import open_model
from longtake.app.devices import choose_device, choose_dtype
from longtake.benchmarks.camera import StreamCamera
from longtake.benchmarks.int8 import chunk_seconds
from longtake.benchmarks.pictures import save_sheet, sheet
from longtake.benchmarks.report import result_path, show, write_result
from longtake.models.video.load import load_generator
from longtake.training.departures import (
    AT_HOME,
    FILM_SECONDS,
    GONE,
    Departures,
    draw_departures,
)
from longtake.training.judge import Judge, load_judge
from longtake.training.metrics import Album, Script, chunks_in
from longtake.training.valley.film import times
from longtake.training.valley.world import ATTRIBUTES, COLOUR, GROUND, RATE, SHAPE
from longtake.weights import JUDGE

PROGRAM = "-m longtake.benchmarks.departures"
COMES, LEAVES, BACK = 1.0, 3.5, 13.5
"""The seconds at which the thing is asked for, sent away, and asked for again."""
GROUNDS, TIMES = ("grass", "sand", "snow"), ("by day", "at sunset", "at night")
"""What the scenes are; of water, which never stands still, no difference is told."""
DIFFERENT, GONE_SHARE = 0.2, 0.25
"""How far a pixel is from the empty scene's where something else is, and how many of those that it
had are left of a thing that has left."""
CLOUDS = 60
"""Rows at the top of the picture in which clouds come and go."""
TURNS = 20
"""Chunks of each model that are timed, by turns, once its memory is full."""
STRIPS, COLUMNS = 4, 9


def scripts(films: int) -> list[Script]:
    """The prompts of so many films, all kinds by turns, with changes at multiples of half a second.

    Keys are seconds times two.
    """
    kinds = [*product(AT_HOME, GROUNDS, TIMES)]
    made: list[Script] = []
    for index in range(films):
        motion, ground, time = kinds[index % len(kinds)]
        told = (f"something {GONE} over the {ground} {time}", f"it {motion}", f"it {GONE}")
        when = (0.0, COMES, LEAVES, BACK)
        made.append({round(2 * at): said for at, said in zip(when, (*told, told[1]), strict=True)})
    return made


def kept(films: Tensor, judge: Judge) -> dict[str, float]:
    """What came back of films, uint8 [B, T, 3, H, W]; a scene's kinds and seeds differ.

    `returns`: the share in which something came, left and was there in the end; of those, `colour`,
    `shape` and `both`: the share whose thing is read as before, and `chance_...`: that of all pairs
    of different films' things.
    """
    window = judge.config.window

    def seen(second: float) -> Tensor:
        """Share of the pixels that are not as before the thing came, [B]."""
        when = [round((COMES - 0.5) * RATE), round(second * RATE)]
        frames = films[:, when, :, CLOUDS:].float() / 255
        apart = (frames[:, 1] - frames[:, 0]).abs().amax(1)
        return (apart > DIFFERENT).float().mean((1, 2))

    end = films.shape[1] / RATE
    away, here = seen(BACK - 0.5), torch.minimum(seen(LEAVES - 0.25), seen(end - 0.25))
    returned = away < GONE_SHARE * here
    found = {"returns": float(returned.float().mean())}
    first, last = (
        judge.read(films[:, round(second * RATE) - window : round(second * RATE)]).cpu()[returned]
        for second in (LEAVES, end)
    )
    pairs = [*combinations(range(len(first)), 2)]
    for name, columns in {"colour": [COLOUR], "shape": [SHAPE], "both": [COLOUR, SHAPE]}.items():
        same = (first[:, columns] == last[:, columns]).all(1).tolist()
        others = [bool((first[i, columns] == last[j, columns]).all()) for i, j in pairs]
        found[name] = statistics.mean(same or [0])
        found[f"chance_{name}"] = statistics.mean(others or [0])
    return found


def rendered(films: int, seed: int) -> Tensor:
    """True renders of such films, uint8 [films, T, 3, H, W]."""
    draw = torch.Generator().manual_seed(seed)
    scenes = draw_departures(2 * films, 0.5, draw).scenes
    still = scenes.attributes[:, GROUND] != ATTRIBUTES["ground"].index("water")
    scenes = scenes[still][:films]
    changes = torch.tensor([COMES, LEAVES, BACK], dtype=torch.float64).repeat(len(scenes), 1)
    clock = times(torch.zeros(len(scenes)), round(FILM_SECONDS * RATE))
    return Departures(scenes, changes).shoot(clock)


@contextmanager
def variants(models: Mapping[str, Path]) -> Iterator[dict[str, Path]]:
    """The models, and of those with radial attention what is dense, `NAME_dense`, for a while."""
    with tempfile.TemporaryDirectory() as temporary:
        found = dict(models)
        for name, folder in models.items():
            described = json.loads((folder / "streaming.json").read_text("utf-8"))
            if described.get("radial"):
                dense = Path(shutil.copytree(folder, Path(temporary) / name))
                text = json.dumps(described | {"radial": None})
                (dense / "streaming.json").write_text(text, "utf-8")
                found[f"{name}_dense"] = dense
        yield found


def measure_speed(
    folders: Mapping[str, Path], device: torch.device, dtype: torch.dtype, seed: int
) -> dict[str, float]:
    """Milliseconds a chunk once every memory is full, median, by turns."""
    generators = [load_generator(folder, device, dtype) for folder in folders.values()]
    films = [(generator, generator.open(scripts(1)[0][0], seed)) for generator in generators]
    spent = chunk_seconds(films, TURNS)
    return {name: 1000 * seconds for name, seconds in zip(folders, spent, strict=True)}


def evaluate(options: argparse.Namespace) -> dict[str, float]:
    """Measure the models, and true renders beside them; each is written as it is measured."""
    models: dict[str, Path] = dict(options.model)
    device = choose_device(options.device)
    out = result_path(options.out, "departures", device)
    judge = load_judge(options.judge, device)
    metrics: dict[str, float] = {}

    def found(name: str, values: Mapping[str, float]) -> None:
        more = {f"{name}_{key}": value for key, value in values.items()}
        show(more)
        metrics.update(more)
        write_result(out, PROGRAM, device, metrics)

    with variants(models) as folders:
        dtype = choose_dtype(options.dtype, device)
        for name, milliseconds in measure_speed(folders, device, dtype, options.seed).items():
            found(name, {"chunk_ms": milliseconds})
        found("renders", kept(rendered(options.films, options.seed), judge))
        for name, folder in folders.items():
            with open_model(folder, device=options.device, dtype=options.dtype) as model:
                album = Album(StreamCamera(model), STRIPS, COLUMNS)
                told = scripts(options.films)
                made = torch.cat([*album.shoot(told, chunks_in(album, FILM_SECONDS), options.seed)])
            captions = ["; ".join(script.values()) for script in album.scripts]
            picture = out.with_name(f"{out.stem}_{name}.webp")
            save_sheet(sheet(album.strips, captions), picture)
            found(name, kept(made, judge))
    return metrics


def _named(text: str) -> tuple[str, Path]:
    """NAME=FOLDER."""
    name, found, folder = text.partition("=")
    if not (name and found and folder):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=FOLDER")
    return name, Path(folder)


def parser() -> argparse.ArgumentParser:
    """The command line of the benchmark."""
    result = argparse.ArgumentParser(description=__doc__)
    result.add_argument(
        "--model",
        action="append",
        type=_named,
        required=True,
        metavar="NAME=FOLDER",
        help="one of the models; of one with radial attention NAME_dense is measured as well",
    )
    result.add_argument("--judge", type=Path, default=JUDGE, help="default: the bundled judge")
    result.add_argument("--films", type=int, default=72)
    result.add_argument("--seed", type=int, default=1)
    where = "default: docs/results/departures_cpu.json, or _cuda"
    result.add_argument("--out", type=Path, help=where)
    result.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    result.add_argument("--dtype", choices=["auto", "bf16", "fp32"], default="auto")
    return result


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    evaluate(parser().parse_args(arguments))


if __name__ == "__main__":
    main()
