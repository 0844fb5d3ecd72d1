"""The captioner beside a live film, on one engine: what each of them gets of the machine."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from contextlib import closing
from itertools import count
from pathlib import Path

import torch

from longtake.app.api import open_model
from longtake.app.witness import open_witness
from longtake.streaming import WallClock
from longtake.training.caption_metrics import rendered_rounds
from longtake.training.metrics import draw_rows, plain_scripts
from longtake.training.valley.script import draw_scripts
from longtake.weights import GENERATOR


def film_beside(folder: Path, device: str, seconds: float, seed: int) -> dict[str, float]:
    """Make a live film and watch another one as fast as it goes, for so many seconds of real time.

    `folder`: the captioner's. The film is the bundled generator's, at its own settings.
    """
    prompt = plain_scripts(draw_rows(1, seed), seed)[0][0]
    with (
        open_model(GENERATOR, device=device) as model,
        open_witness(folder, device=device, beside=model.engine) as witness,
        closing(model.begin(prompt, seed, clock=WallClock())) as film,
        witness.watch(seed=seed) as watch,
    ):
        settings = witness.captioner.settings
        warm = math.ceil(settings.vision_seconds)
        script = draw_scripts(1, warm, torch.Generator().manual_seed(seed))
        # These are shown again and again, so that nothing is rendered meanwhile.
        rounds = torch.cat(list(rendered_rounds(script, warm, settings.fps)))
        shown = rounds.permute(0, 2, 3, 1).numpy()
        threading.Thread(target=lambda: deque(film.follow(), maxlen=0), daemon=True).start()
        film.extend(math.inf)
        began: float | None = None
        seen = made = 0.0
        for frame in count():
            # It waits while two rounds wait.
            watch.feed(shown[frame % len(shown)], frame / settings.fps)
            if began is None and watch.time >= warm and film.time:
                began, seen, made = time.monotonic(), watch.time, film.time
            if began is not None and time.monotonic() >= began + seconds:
                break
        spent = time.monotonic() - (began or 0.0)
        return {
            "caption_fps_beside": (watch.time - seen) * settings.fps / spent,
            "film_speed_beside": (film.time - made) / spent,
        }
