"""The clips that the captioner is trained on: drawn from numbers, rendered into a ring in memory.

Rendering a batch anew for every step would cost more than the step, and a pool that is rendered
once would be learned by heart. So a ring is renewed as training goes: each set of clips is used
for some steps and then gives way to the next one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from longtake.training import elsewhere
from longtake.training.elsewhere import Elsewhere, draw_elsewhere
from longtake.training.loop import SEED_STRIDE
from longtake.training.valley import script
from longtake.training.valley.script import Scripts, draw_scripts
from longtake.training.valley.world import HEIGHT, WIDTH

SECONDS = 24
"""Length of a clip: StreamingVLM's window in training (Xu et al. 2025, section 3.2)."""
HISTORY = 108
"""The most seconds that a script goes on before its clip begins."""
FROM_START = 0.3
"""Share of the clips that begin where their script does."""
RARE = 0.5
"""Share of the sets whose changes are rare: there is something to remember for long."""
RARE_PAUSES = (20.0, 60.0)
PAUSES = (3.0, 9.0)
"""Seconds between two changes in the others, less than in a script that is watched: a change is
what is hard to tell of, and most seconds have none."""
STRANGE = 0.15
"""Share of the clips that are of other worlds."""


@dataclass(frozen=True)
class Clips:
    """A set of clips of `SECONDS` each: first those of the valley, then those of other worlds.

    `starts`: int64, the second of its script at which each clip of the valley begins.
    """

    scripts: Scripts
    starts: Tensor
    elsewhere: Elsewhere

    def __len__(self) -> int:
        return len(self.scripts) + len(self.elsewhere)


def draw_clips(n: int, number: int, seed: int, pictures: int) -> Clips:
    """The `number`-th set of `n` clips, on the CPU; `pictures`: how many others worlds have."""
    generator = torch.Generator().manual_seed(seed * SEED_STRIDE + number)
    strange = round(n * STRANGE)
    rare = float(torch.rand(1, generator=generator)) < RARE
    pauses = RARE_PAUSES if rare else PAUSES
    scripts = draw_scripts(n - strange, HISTORY + SECONDS, generator, pauses=pauses)
    starts = torch.randint(1, HISTORY + 1, (n - strange,), generator=generator)
    starts[torch.rand(n - strange, generator=generator) < FROM_START] = 0
    return Clips(scripts, starts, draw_elsewhere(strange, SECONDS, pictures, generator))


def render(clips: Clips, pictures: Tensor, fps: float) -> Tensor:
    """Their frames, uint8 [clips, SECONDS * fps, 3, HEIGHT, WIDTH], on the device of `pictures`.

    `pictures`: uint8, of a `Bank`.
    """
    device = pictures.device
    clock = torch.arange(round(SECONDS * fps), device=device, dtype=torch.float64) / fps
    seconds = clips.starts.to(device)[:, None] + clock
    # Many frames at a time where they are launched, as in `pool.shoot`; the ring needs the memory.
    fast = {} if device.type == "cpu" else {"dtype": torch.float16, "batch": 2048}
    valley = script.shoot(clips.scripts.to(device), seconds, **fast)  # type: ignore[arg-type]
    others = clips.elsewhere.to(device)
    strange = elsewhere.shoot(others, pictures, clock.expand(len(others), -1))
    return torch.cat((valley, strange))


class Ring:
    """The frames of the newest `sets` sets of clips, `size` clips each.

    A set is the same whenever it is drawn, so a run that goes on from a checkpoint has them again.
    """

    def __init__(self, sets: int, size: int, seed: int, pictures: Tensor, fps: float) -> None:
        self.sets, self.size, self.seed, self.fps = sets, size, seed, fps
        self.pictures = pictures
        shape = (sets, size, round(SECONDS * fps), 3, HEIGHT, WIDTH)
        self.frames = torch.empty(shape, dtype=torch.uint8, device=pictures.device)
        self.newest = -1

    def advance(self, newest: int) -> None:
        """Render what is missing of the sets up to `newest`."""
        first = max(self.newest + 1, newest - self.sets + 1)
        for number in range(first, newest + 1):
            clips = draw_clips(self.size, number, self.seed, len(self.pictures))
            self.frames[number % self.sets] = render(clips, self.pictures, self.fps)
        self.newest = newest

    def take(self, numbers: Tensor, places: Tensor, firsts: Tensor, seconds: int) -> Tensor:
        """Some seconds of clips, uint8 [B, seconds * fps, 3, HEIGHT, WIDTH].

        `numbers`: of their sets; `places`: in those; `firsts`: their first seconds; int64 [B] each.
        """
        frames = torch.arange(round(seconds * self.fps), device=firsts.device)
        shown = (firsts * self.fps).long()[:, None] + frames
        return self.frames[(numbers % self.sets)[:, None], places[:, None], shown]
