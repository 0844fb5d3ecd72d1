"""How often something may happen."""

from __future__ import annotations

from collections.abc import Callable


class Bucket:
    """A token bucket: so many at once, and so many more a second.

    Args:
        rate: a second.
        capacity: at once.
        now: seconds on a monotonic clock.
    """

    def __init__(self, rate: float, capacity: float, now: Callable[[], float]) -> None:
        self._rate = rate
        self._capacity = self._level = capacity
        self._now = now
        self._filled = now()

    def take(self) -> bool:
        """Whether it may happen once more."""
        now = self._now()
        self._level = min(self._capacity, self._level + (now - self._filled) * self._rate)
        self._filled = now
        if self._level < 1:
            return False
        self._level -= 1
        return True
