"""Clips of other worlds than the valley, and what is to be said of them.

A picture moves about or does not, in one light or another, and this may change once. Of it the
captioner is to say that it does not know this world, and what colour, light and motion there is.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from longtake.training.pictures import BRIGHT, COLUMNS, DARK, ROWS, Bank
from longtake.training.valley import phrases as p
from longtake.training.valley.narration import EVERY, Said, sentence
from longtake.training.valley.questions import Asked
from longtake.training.valley.wordings import KINDS, draw_wording
from longtake.training.valley.world import ATTRIBUTES, HEIGHT, WIDTH

GAINS = (0.4, 1.0)
"""How much of a picture's light is left where it is dimmed, and where it is not."""
SWINGS = (0.11, 0.3)
"""Swings a second of a picture that moves: the slowest and the fastest."""


@dataclass(frozen=True)
class Elsewhere:
    """A batch of clips; of the pairs, one value before `change` and one after it.

    `picture`: int64 [B], of a bank; `dimmed`, `moving`: bool [B, 2]; `change`: float64 [B] seconds,
    infinite for none; `phase`, `pace`: float64 [B] in [0, 1), of the motion.
    """

    picture: Tensor
    dimmed: Tensor
    moving: Tensor
    change: Tensor
    phase: Tensor
    pace: Tensor

    def __len__(self) -> int:
        return len(self.picture)

    def __getitem__(self, index: slice | Tensor) -> Elsewhere:
        return Elsewhere(*(value[index] for value in vars(self).values()))

    def to(self, device: torch.device | str) -> Elsewhere:
        """The same clips on another device."""
        return Elsewhere(*(value.to(device) for value in vars(self).values()))


def draw_elsewhere(n: int, seconds: float, pictures: int, generator: torch.Generator) -> Elsewhere:
    """`n` random clips of a bank of so many pictures; half of them change within the seconds."""
    u = torch.rand(7, n, generator=generator, dtype=torch.float64)
    change = torch.where(u[0] < 0.5, 4 + (seconds - 6) * u[1], torch.inf)
    # What changes is either light or motion.
    light = u[2] < 0.5
    dimmed = torch.stack([u[3] < 0.3, (u[3] < 0.3) ^ (light & change.isfinite())], 1)
    moving = torch.stack([u[4] < 0.7, (u[4] < 0.7) ^ (~light & change.isfinite())], 1)
    picture = torch.randint(pictures, (n,), generator=generator)
    return Elsewhere(picture, dimmed, moving, change, u[5], u[6])


def shoot(clips: Elsewhere, bank: Tensor, seconds: Tensor) -> Tensor:
    """Frames at `seconds` [B, T], uint8 [B, T, 3, HEIGHT, WIDTH], all on the bank's device.

    `bank`: uint8 [N, 3, ROWS, COLUMNS].
    """
    clock = seconds.double()
    since = clock - clips.change[:, None]
    share = since.clamp(0, 1)
    gains = torch.tensor(GAINS, device=bank.device, dtype=torch.float64)[(~clips.dimmed).long()]
    gain = torch.lerp(gains[:, :1], gains[:, 1:], share)
    first, second = (clips.moving[:, k, None].double() for k in range(2))
    # Seconds that it has moved so far: what stops stays where it is.
    moved = first * torch.minimum(clock, clips.change[:, None]) + second * since.clamp(min=0)
    swing = SWINGS[0] + (SWINGS[1] - SWINGS[0]) * clips.pace[:, None]
    turns = 2 * torch.pi * (moved * swing + clips.phase[:, None])
    left = (COLUMNS - WIDTH) / 2 * (1 + turns.sin())
    top = (ROWS - HEIGHT) / 2 * (1 + (0.7 * turns).cos())
    rows = top.long()[..., None] + torch.arange(HEIGHT, device=bank.device)
    columns = left.long()[..., None] + torch.arange(WIDTH, device=bank.device)
    channels = torch.arange(3, device=bank.device)[:, None, None]
    which = clips.picture[:, None, None, None, None]
    pixels = bank[which, channels, rows[:, :, None, :, None], columns[:, :, None, None, :]]
    lit = pixels.float() * gain[:, :, None, None, None].float()
    return lit.round().to(torch.uint8)


@dataclass
class ElsewhereTelling:
    """How a narration of such a clip goes; as `narration.Telling`, but there is no scene.

    `colour`, `light`: of the picture, see `Bank`; `dimmed`, `moving`, `change`: see `Elsewhere`.
    """

    colour: str
    light: float
    dimmed: tuple[bool, bool]
    moving: tuple[bool, bool]
    change: float
    due: list[str] = field(default_factory=list)

    def round(
        self, second: int, rng: random.Random, *, asking: float = 0.0, held_out: bool = False
    ) -> Said:
        """What is said of the second from `second` on; see `narration.Telling.round`."""
        after = int(self.change <= second)
        fresh = second - 1 < self.change <= second
        if fresh and self.dimmed[0] != self.dimmed[1]:
            self.due.append(rng.choice(p.ELSEWHERE_CHANGES["dark" if self.dimmed[1] else "bright"]))
        if fresh and self.moving[0] != self.moving[1]:
            moves = "moving" if self.moving[1] else "still"
            self.due.append(rng.choice(p.ELSEWHERE_CHANGES[moves]))
        if second % EVERY == 0:
            self.due += [rng.choice(p.ELSEWHERE), self._look(after)]
        elif second % EVERY == 1:
            self.due.append(self._motion(after))
        if second > 2 and not fresh and rng.random() < asking:
            asked = self._ask(after, rng, held_out=held_out)
            return Said(sentence(asked.answer), {}, asked)
        words = " ".join(sentence(text) for text in self.due)
        self.due.clear()
        return Said(words, {})

    def from_second(self, first: int) -> ElsewhereTelling:
        """The telling of what is left of the clip from that second on, which becomes second 0."""
        if self.change > first:
            return replace(self, change=self.change - first)
        dimmed, moving = (pair[1:] * 2 for pair in (self.dimmed, self.moving))
        return replace(self, dimmed=dimmed, moving=moving, change=math.inf)

    def _look(self, after: int) -> str:
        """Colour and light in one clause."""
        light = self.light * GAINS[not self.dimmed[after]]
        words = ["dark"] if light < DARK else ["bright"] if light > BRIGHT else []
        return "it is " + " and ".join([*words, f"mostly {self.colour}"])

    def _motion(self, after: int) -> str:
        return p.ELSEWHERE_MOTIONS["moving" if self.moving[after] else "still"][0]

    def _ask(self, after: int, rng: random.Random, *, held_out: bool) -> Asked:
        kind = rng.choice(KINDS)
        answers: Mapping[str, str] = {
            "colour": f"it is mostly {self.colour}",
            "motion": self._motion(after),
            "camera": self._motion(after),
        }
        shape = rng.choice(ATTRIBUTES["shape"])
        question = draw_wording(kind, shape, rng, held_out=held_out)
        return Asked(question, answers.get(kind, p.ELSEWHERE[0]), kind)


def tellings(clips: Elsewhere, bank: Bank) -> list[ElsewhereTelling]:
    """The telling of each clip."""
    rows = zip(
        clips.picture.tolist(),
        clips.dimmed.tolist(),
        clips.moving.tolist(),
        clips.change.tolist(),
        strict=True,
    )
    return [
        ElsewhereTelling(bank.colours[k], bank.lights[k], tuple(dimmed), tuple(moving), change)
        for k, dimmed, moving, change in rows
    ]
