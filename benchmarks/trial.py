"""A model folder measured through the application's own path, chunk by chunk from its cache."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from longtake.app.devices import DTYPES
from longtake.benchmarks.report import write_result
from longtake.models.video.generator import VideoGenerator
from longtake.models.video.load import load_generator
from longtake.models.video.settings import SWITCHES
from longtake.streaming import Event
from longtake.training.judge import load_judge
from longtake.training.metrics import Script, adherence, contact_sheet, drift, switching


class StreamCamera:
    """Makes films one after the other as a viewer would see them; see `metrics.Camera`."""

    def __init__(self, generator: VideoGenerator, switch: str = "recache") -> None:
        self.generator = generator
        self.switch = switch

    def shoot(self, scripts: Sequence[Script], chunks: int, seed: int) -> Tensor:
        """See `metrics.Camera.shoot`."""
        films = [self._film(each, chunks, seed + index) for index, each in enumerate(scripts)]
        return torch.stack(films)

    def _film(self, script: Script, chunks: int, seed: int) -> Tensor:
        model = self.generator
        state = model.open(script[0], seed)
        model.apply(state, Event("switch", self.switch))
        frames = []
        for chunk in range(chunks):
            if chunk in script:
                model.apply(state, Event("prompt", script[chunk]))
            boundary = False
            while not boundary:
                step = model.step(state)
                boundary = step.boundary
                frames += [payload for payload, _ in step.media]
        return torch.cat(frames).permute(0, 3, 1, 2)


def evaluate(options: argparse.Namespace) -> dict[str, float]:
    """Measure and write the JSON and the contact sheet."""
    device = torch.device(options.device)
    generator = load_generator(options.model, device, DTYPES[options.dtype])
    judge = load_judge(options.judge, device)
    camera = StreamCamera(generator)
    plain, films = adherence(camera, judge, options.films, options.seed)
    metrics = {f"adherence_{name}": value for name, value in plain.items()}
    count = max(1, options.films // 2)
    worded, _ = adherence(camera, judge, count, options.seed, new_wording=True)
    metrics["adherence_new_wording"] = worded["mean"]
    sheets = [films[:4]]
    for switch in options.switches:
        changed, films = switching(StreamCamera(generator, switch), judge, count, options.seed)
        metrics |= {f"{switch}_{name}": value for name, value in changed.items()}
        sheets.append(films[:4])
    if options.long:
        count = max(1, options.films // 25)
        drifted = drift(camera, judge, count, options.long, options.seed)
        metrics |= {f"drift_{name}": value for name, value in drifted.items()}
    write_result(options.out, "longtake.benchmarks.trial", device, metrics)
    picture = torch.cat([contact_sheet(sheet, 12) for sheet in sheets]).numpy()
    Image.fromarray(picture).reduce(2).save(options.out.with_suffix(".png"), optimize=True)
    return metrics


def parser() -> argparse.ArgumentParser:
    """The command line of the evaluation."""
    result = argparse.ArgumentParser(description=__doc__)
    result.add_argument("--model", type=Path, required=True, help="model folder")
    result.add_argument("--judge", type=Path, required=True, help="folder of the judge")
    result.add_argument("--out", type=Path, default=Path("docs/results/trial.json"))
    result.add_argument("--films", type=int, default=100, help="held-out combinations")
    result.add_argument("--long", type=float, default=60, help="seconds of the long films; 0: none")
    result.add_argument("--switches", nargs="*", choices=SWITCHES, default=list(SWITCHES))
    result.add_argument("--dtype", choices=DTYPES, default="bf16")
    result.add_argument("--seed", type=int, default=1)
    result.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return result


if __name__ == "__main__":
    evaluate(parser().parse_args())
