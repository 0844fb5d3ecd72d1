"""The three ways in and out of a session: wishes, input frames, and what was made.

None of them locks: the engine's lock guards them all.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain

from longtake.streaming.events import Event, InputFrame, Media

INPUT_CAPACITY = 32


@dataclass(frozen=True)
class Waiting:
    """An event in the lane.

    Attributes:
        event: what is wished.
        time: presentation time from which it counts: its own, or when it was put if that is later.
        accepted: when it was put, on the engine's monotonic clock.
        number: how many were put before it.
    """

    event: Event
    time: float
    accepted: float
    number: int

    def is_due(self, time: float, chunk: int) -> bool:
        """Whether its time has come at a chunk of such a presentation time and index."""
        return self.event.at <= time and self.event.chunk <= chunk


class ControlLane:
    """Events waiting for their chunk; of those due the latest of a field wins.

    None is dropped but what can no longer win, so that a paused session may be steered for ever.

    Args:
        queued: fields of which every event gets its turn, one a chunk, the earliest first.
        gathered: fields of which several events win at a chunk: how many at most, the latest.
    """

    def __init__(
        self, queued: Collection[str] = (), gathered: Mapping[str, int] | None = None
    ) -> None:
        self._queued = frozenset(queued)
        self._gathered = dict(gathered or {})
        self._count = 0
        # By field, time and chunk: events equal in these fall due together, so only as many of
        # them are held as can win.
        self._waiting: dict[tuple[str, float, int], deque[Waiting]] = {}

    def put(self, event: Event, time: float, accepted: float) -> None:
        """Queue an event at a presentation time."""
        waiting = Waiting(event, max(event.at, time), accepted, self._count)
        self._count += 1
        name = event.field
        most = None if name in self._queued else self._gathered.get(name, 1)
        alike = self._waiting.setdefault((name, waiting.time, event.chunk), deque(maxlen=most))
        alike.append(waiting)

    def due(self, time: float, chunk: int) -> list[Waiting]:
        """Of the events due at a chunk those that win, in the order of their times.

        Among due events of one field the one of the latest time wins, and of those of the same
        time the one put last; of a gathered field so many of the latest do, and of a queued field
        it is the first one.

        Args:
            time: the chunk's presentation time.
            chunk: its index.
        """
        due: dict[str, list[Waiting]] = {}
        for each in sorted(self._all(), key=_order):
            if each.is_due(time, chunk):
                due.setdefault(each.event.field, []).append(each)
        winners = [
            each
            for name, events in due.items()
            for each in (
                events[:1] if name in self._queued else events[-self._gathered.get(name, 1) :]
            )
        ]
        return sorted(winners, key=_order)

    def take_due(self, time: float, chunk: int) -> list[Waiting]:
        """What :meth:`due` gives; it is removed, and what of its fields it has won over."""
        winners = self.due(time, chunk)
        taken = {winner.number for winner in winners}
        for key, alike in list(self._waiting.items()):
            kept = [
                each
                for each in alike
                if not each.is_due(time, chunk)
                or (each.event.field in self._queued and each.number not in taken)
            ]
            if not kept:
                del self._waiting[key]
            elif len(kept) < len(alike):
                self._waiting[key] = deque(kept, alike.maxlen)
        return winners

    def __iter__(self) -> Iterator[Event]:
        """The events in the order of putting; one that counts from when it was put says so."""
        waiting = sorted(self._all(), key=lambda each: each.number)
        return (replace(each.event, at=each.time) for each in waiting)

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def _all(self) -> Iterator[Waiting]:
        return chain.from_iterable(self._waiting.values())


def _order(waiting: Waiting) -> tuple[float, int]:
    return waiting.time, waiting.number


class InputLane:
    """Frames of a watched video.

    Args:
        capacity: frames held at most.
        live: a live source loses its oldest frames when full; a file has to wait instead.
        batch: frames lost at a time, at most the capacity: those that belong together, or all
            that a model sees afterwards would begin in the middle of such.
    """

    def __init__(self, capacity: int, *, live: bool, batch: int = 1) -> None:
        self.live = live
        self.ended = False
        self.dropped = 0
        self.capacity = capacity
        self._batch = batch
        self._frames: deque[InputFrame] = deque()

    @property
    def full(self) -> bool:
        """Whether a frame of a file would have to wait."""
        return len(self._frames) >= self.capacity

    def put(self, frame: InputFrame) -> None:
        """Add a frame; where a live lane is full, its oldest batch goes and is counted."""
        if self.full:
            for _ in range(self._batch):
                self._frames.popleft()
            self.dropped += self._batch
        self._frames.append(frame)

    def take(self) -> InputFrame:
        """The oldest frame."""
        return self._frames.popleft()

    def __len__(self) -> int:
        return len(self._frames)


class Outbox:
    """What was made and not yet fetched: never dropped, so room is looked for before a chunk.

    Args:
        capacity: media items held at most.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._items: deque[Media] = deque()

    def has_room(self, items: int) -> bool:
        """Whether so many more items fit."""
        return len(self._items) + items <= self._capacity

    def put(self, media: Media) -> None:
        """Add an item; room was looked for when its chunk began."""
        self._items.append(media)

    def get(self) -> Media:
        """The oldest item."""
        return self._items.popleft()

    def __len__(self) -> int:
        return len(self._items)
