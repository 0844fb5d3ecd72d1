"""A quick measure of a trained generator with batched rollouts: no model folder needed.

Only scenes and wordings of the training side are drawn, so that it may be looked at as often as one
likes while the recipe is being made; what was held out is for `benchmarks/bundled.py`.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image

from longtake.training.codec import load_codec
from longtake.training.dataset import streaming_config
from longtake.training.denoiser import load_denoiser
from longtake.training.judge import accuracy, load_judge
from longtake.training.metrics import (
    EARLY,
    LATE,
    Album,
    contact_sheet,
    draw_changes,
    draw_rows,
    drift,
    ends,
    plain_scripts,
    switching,
)
from longtake.training.rollout import BatchCamera


def check(options: argparse.Namespace) -> dict[str, float]:
    """Measure, write `check.json` and contact sheets into the generator's folder."""
    device = torch.device(options.device)
    denoiser, described = load_denoiser(options.generator, device)
    streaming = streaming_config(described)
    streaming = replace(streaming, steps=options.steps or streaming.steps)
    codec, judge = load_codec(options.codec, device), load_judge(options.judge, device)
    camera = BatchCamera(denoiser, codec, streaming)
    plain, changes = Album(camera, 16, 8), Album(camera, 16, 8)
    rows = draw_rows(options.films, options.seed)
    clips = ends(plain, plain_scripts(rows, options.seed), judge.config.window, options.seed)
    read = accuracy(judge.read(clips), rows)
    metrics = {f"adherence_{name}": value for name, value in read.items()}
    scenes = draw_changes(options.films, options.seed)
    switched = switching(changes, judge, *scenes, (EARLY, LATE), options.seed)
    metrics |= {
        "switch_early": switched.adherence(EARLY),
        "switch_late": switched.adherence(LATE),
        "switch_changed": switched.right(LATE, changed=True),
        "switch_kept": switched.right(LATE, changed=False),
        "switch_seam": switched.seam(),
    }
    if options.long:
        moving = draw_rows(options.films // 4, options.seed, moving=True)
        drifted = drift(camera, judge, moving, options.long, options.seed)
        metrics |= {f"drift_{name}": value for name, value in drifted.items()}
    (options.generator / "check.json").write_text(json.dumps(metrics, indent=1) + "\n")
    for name, album in (("plain", plain), ("switch", changes)):
        picture = contact_sheet(album.strips).numpy()
        Image.fromarray(picture).save(options.generator / f"{name}.png")
    print(json.dumps(metrics))
    return metrics


def parser() -> argparse.ArgumentParser:
    """The command line of this check."""
    result = argparse.ArgumentParser(description=__doc__)
    for name in ("generator", "codec", "judge"):
        result.add_argument(f"--{name}", type=Path, required=True, help=f"folder of the {name}")
    result.add_argument("--films", type=int, default=96, help="films in each measure")
    result.add_argument("--long", type=float, default=60, help="seconds of the long films; 0: none")
    result.add_argument("--steps", type=int, help="default: the model's")
    result.add_argument("--seed", type=int, default=1)
    result.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return result


if __name__ == "__main__":
    check(parser().parse_args())
