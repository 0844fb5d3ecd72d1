"""Measurements of one session, taken where things happen and in constant memory."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

RECENT_CHUNKS = 256


@dataclass(frozen=True)
class Summary:
    """A reading of a session's measurements; times in seconds, NaN-free.

    Attributes:
        chunks: chunks finished.
        units: units made (native frames for a generator).
        rate: units a second of computing, the first chunk left out; 0 before the second.
        first_media: from opening to the first media; 0 before there is any.
        chunk_p50: median cost of a recent chunk.
        chunk_p95: 95th percentile of it.
        reaction: from accepting the last applied event to the first media made under it.
        reaction_max: the longest reaction so far.
        outbox: media waiting to be fetched.
        controls: events waiting for their chunk.
        dropped: input frames lost to a full live lane.
    """

    chunks: int
    units: int
    rate: float
    first_media: float
    chunk_p50: float
    chunk_p95: float
    reaction: float
    reaction_max: float
    outbox: int
    controls: int
    dropped: int


class Metrics:
    """Collects; the engine says what happened and when, on its monotonic clock."""

    def __init__(self, opened: float) -> None:
        self.opened = opened
        self.chunks = 0
        self.units = 0
        self.first_media = 0.0
        self.reaction = 0.0
        self.reaction_max = 0.0
        self._accepted: float | None = None
        self._busy = 0.0
        self._steady_units = 0
        self._costs: deque[float] = deque(maxlen=RECENT_CHUNKS)

    def media(self, now: float, units: int) -> None:
        """So many units were made."""
        if not self.first_media:
            self.first_media = now - self.opened
        self.units += units
        if self.chunks:
            self._steady_units += units
        if self._accepted is not None:
            self.reaction = now - self._accepted
            self.reaction_max = max(self.reaction_max, self.reaction)
            self._accepted = None

    def applied(self, accepted: float) -> None:
        """An event accepted then is in force from the chunk that begins now."""
        # Before the first chunk there is nothing that it could change.
        if self.chunks:
            self._accepted = accepted

    def chunk(self, cost: float) -> None:
        """A chunk was finished; its steps took ``cost`` seconds together."""
        if self.chunks:
            self._busy += cost
            self._costs.append(cost)
        self.chunks += 1

    @property
    def rate(self) -> float:
        """Units a second of computing, the first chunk left out."""
        return self._steady_units / self._busy if self._busy else 0.0

    def percentile(self, share: float) -> float:
        """Of recent chunks' costs; ``share`` in [0, 1]."""
        ordered = sorted(self._costs)
        return ordered[round(share * (len(ordered) - 1))] if ordered else 0.0
