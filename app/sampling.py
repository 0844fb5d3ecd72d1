"""Frames of a watched video, chosen by their real times: so many a second, in whole rounds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import floor

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

# A source may show nothing new for so long before it counts as a gap.
GAP_SECONDS = 2.0


@dataclass(frozen=True)
class Sample:
    """A frame that is to be looked at.

    Attributes:
        time: presentation time in seconds: the frame's own, or that of the slot in which it is
            still, or already, on show because no other one came.
        pixels: uint8 RGB, [height, width, 3].
    """

    time: float
    pixels: Pixels


@dataclass(frozen=True)
class Gap:
    """The source shows nothing from ``start`` to ``stop``, in seconds of presentation time."""

    start: float
    stop: float


@dataclass(frozen=True)
class Resized:
    """From ``time`` seconds on frames have another size, in pixels."""

    time: float
    width: int
    height: int


class Sampler:
    """Chooses the frames to look at.

    Time is cut into slots, ``fps`` a second; the first frame in a slot is its sample. So samples
    are different frames wherever the source has that many, whatever its rate, and a live source's
    are handed on as soon as they come. A slot in which no frame begins shows the one before it.

    Rounds, ``per_round`` slots each, are whole: a model looks at a round at a time, and one that
    began late or broke off would put all later ones out of step with the clock.

    Args:
        fps: samples a second.
        per_round: samples a round.
    """

    def __init__(self, fps: float, per_round: int) -> None:
        self._fps = fps
        self._per_round = per_round
        self._gap = max(GAP_SECONDS, per_round / fps)
        self._slot = 0
        self._shown: Pixels | None = None
        self._size: tuple[int, ...] = ()
        # Until when the newest frame is on show, in seconds.
        self._until = 0.0
        self._newest = float("-inf")
        # What is added to the source's times, which may jump back.
        self._shift = 0.0

    def push(
        self, time: float, read: Callable[[], Pixels], duration: float = 0.0
    ) -> Iterator[Sample | Gap | Resized]:
        """Take the next frame.

        Args:
            time: its presentation time in seconds, at least 0. One that is earlier than the frame
                before by more than a gap begins anew behind it; other earlier ones are left out.
            read: gives its pixels, uint8 RGB, [height, width, 3]; called only if they are wanted.
            duration: seconds that it is known to be shown for, 0 where nothing is known.
        """
        if time + self._shift < self._newest - GAP_SECONDS:
            self._shift = self._until - time
        time += self._shift
        slot = floor(time * self._fps)
        before, self._newest = self._until, max(self._newest, time)
        self._until = max(self._until, time + duration)
        if slot < self._slot:
            return
        if time - before > self._gap:
            yield from self._complete()
            # Whole rounds are left out: the one in which it goes on begins with this frame.
            self._slot = max(self._slot, slot - slot % self._per_round)
            self._shown = None
            yield Gap(before, time)
        pixels = read()
        yield from self._hold(slot, pixels if self._shown is None else self._shown)
        size = pixels.shape[:2]
        if self._size not in {(), size}:
            yield Resized(time, width=size[1], height=size[0])
        self._size, self._shown = size, pixels
        self._slot = slot + 1
        yield Sample(time, pixels)

    def finish(self) -> Iterator[Sample]:
        """There are no more frames: what is left of the last round shows the last one."""
        if self._shown is not None:
            yield from self._hold(floor(self._until * self._fps), self._shown)
        yield from self._complete()

    def _complete(self) -> Iterator[Sample]:
        if self._shown is not None:
            yield from self._hold(self._slot + -self._slot % self._per_round, self._shown)

    def _hold(self, slot: int, pixels: Pixels) -> Iterator[Sample]:
        """Fill the slots before one with a frame."""
        for each in range(self._slot, slot):
            yield Sample(each / self._fps, pixels)
        self._slot = max(self._slot, slot)
