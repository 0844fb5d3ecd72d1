"""How many denoising steps this machine can afford and still keep up with playback."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from longtake.models.video.generator import VideoGenerator
from longtake.streaming import Event

# Playback shares the machine with whatever shows it.
HEADROOM = 1.2


@dataclass(frozen=True)
class Probe:
    """What was measured on a full cache.

    Attributes:
        fixed: seconds a chunk costs besides its denoising steps.
        step: seconds a denoising step costs.
        chunk: seconds of film in a chunk.
        most: the steps that the model was trained for.
    """

    fixed: float
    step: float
    chunk: float
    most: int

    def speed(self, steps: int) -> float:
        """Seconds of film a second of computing."""
        return self.chunk / (self.fixed + steps * self.step)

    @property
    def affordable(self) -> int:
        """The most steps that keep up with playback and leave headroom; at least 1."""
        return next((n for n in range(self.most, 1, -1) if self.speed(n) >= HEADROOM), 1)


def probe(generator: VideoGenerator, now: Callable[[], float] = time.perf_counter) -> Probe:
    """Make a few chunks of a film that nobody sees, and time the last two.

    Args:
        generator: loaded.
        now: seconds on a clock.
    """
    state = generator.open("a probe", seed=0)
    most = generator.config.steps

    def chunk_seconds(steps: int) -> float:
        generator.apply(state, Event("steps", steps))
        began = now()
        while not generator.step(state).boundary:
            pass
        return now() - began

    slots = state.cache.settings.slots
    for _ in range(-(-slots // generator.config.chunk)):
        chunk_seconds(1)
    one, several = chunk_seconds(1), chunk_seconds(most + 1)
    step = max(0.0, several - one) / most
    return Probe(one - step, step, generator.spec.chunk_units / generator.spec.rate, most)
