"""When the next chunk should start: at once for an export, just in time for a live view."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

# A live chunk starts this much earlier than its usual cost asks for.
MARGIN = 0.3
# Weight of the newest chunk in the running estimate of a chunk's cost.
SMOOTHING = 0.3
# Changes of playback speed below this are not worth telling the viewer.
SPEED_STEP = 0.02


class Clock(Protocol):
    """Paces one session."""

    speed: float

    def wait_before(self, start: float) -> float:
        """Seconds to wait before beginning the chunk presented at ``start`` seconds."""
        ...

    def deadline(self, start: float) -> float:
        """When what is presented at ``start`` is due, on a scale shared by all sessions."""
        ...

    def chunk_done(self, start: float, stop: float, cost: float) -> None:
        """A chunk that covers ``start`` to ``stop`` is made.

        ``cost`` is the seconds from when it could have begun, other sessions' steps included.
        """
        ...


class VirtualClock:
    """As fast as it goes: nothing is ever early, nothing is ever due. For exports and tests."""

    speed = 1.0

    def wait_before(self, start: float) -> float:  # noqa: ARG002
        """Never wait."""
        return 0.0

    def deadline(self, start: float) -> float:  # noqa: ARG002
        """Later than anything live."""
        return float("inf")

    def chunk_done(self, start: float, stop: float, cost: float) -> None:
        """Nothing to learn."""


class WallClock:
    """Real time, for a live view.

    Chunks start just in time, the running estimate of their cost and a margin ahead, so that a
    prompt waits as little as possible. A machine slower than playback slows it evenly: ``speed``
    falls below 1 and every due time with it, instead of a stall after each chunk.

    Args:
        now: seconds on a monotonic clock.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.speed = 1.0
        self._now = now
        self._cost: float | None = None
        self._warm = False
        # Presentation time `_anchor[1]` is due at wall time `_anchor[0]`.
        self._anchor: tuple[float, float] | None = None

    def wait_before(self, start: float) -> float:
        """Until the chunk's due time, less its cost and the margin; the first starts at once."""
        if self._anchor is None or self._cost is None:
            return 0.0
        lead = self._cost * (1 + MARGIN)
        return max(0.0, self.deadline(start) - lead - self._now())

    def deadline(self, start: float) -> float:
        """Wall time at which presentation time ``start`` is due."""
        if self._anchor is None:
            return self._now()
        wall, presented = self._anchor
        return wall + (start - presented) / self.speed

    def chunk_done(self, start: float, stop: float, cost: float) -> None:
        """Learn the cost; slow down where it is more than playback allows, catch up after."""
        now = self._now()
        if self._anchor is None:
            self._anchor = (now, start)
        if self._cost is None or not self._warm:
            # The first chunk pays for warming up, so the second's cost replaces it.
            self._warm = self._cost is not None
            self._cost = cost
        else:
            self._cost += SMOOTHING * (cost - self._cost)
        if stop == start:
            return
        speed = min(1.0, (stop - start) / max(self._cost, 1e-9))
        late = now - self.deadline(start)
        recovered = self.speed < speed == 1.0
        if late > 0 or recovered or abs(speed - self.speed) > SPEED_STEP:
            due = max(now, self.deadline(start))
            self.speed = speed
            self._anchor = (due, start)
