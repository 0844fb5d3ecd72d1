"""The three ways in and out of a session: wishes, input frames, and what was made.

None of them locks: the engine's lock guards them all.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from longtake.streaming.events import Event, InputFrame, Media


@dataclass(frozen=True)
class Waiting:
    """An event in the lane.

    Attributes:
        event: what is wished.
        time: presentation time from which it counts: its own, or when it was put if that is later.
        accepted: when it was put, on the engine's monotonic clock.
    """

    event: Event
    time: float
    accepted: float

    def is_due(self, time: float, chunk: int) -> bool:
        """Whether its time has come at a chunk of such a presentation time and index."""
        return self.event.at <= time and self.event.chunk <= chunk


class ControlLane:
    """Events waiting for their chunk; of those due the latest of a field wins.

    None is dropped but what can no longer win, so that a paused session may be steered for ever.

    Args:
        queued: fields of which every event gets its turn, one a chunk, the earliest first.
    """

    def __init__(self, queued: Collection[str] = ()) -> None:
        self._queued = frozenset(queued)
        self._count = 0
        # By field, time and chunk: events equal in these fall due together, and the last one wins;
        # those of a queued field are told apart by a number.
        self._waiting: dict[tuple[str, float, int, int], Waiting] = {}

    def put(self, event: Event, time: float, accepted: float) -> None:
        """Queue an event at a presentation time."""
        waiting = Waiting(event, max(event.at, time), accepted)
        self._count += event.field in self._queued
        number = self._count if event.field in self._queued else 0
        key = (event.field, waiting.time, event.chunk, number)
        # To the end, not to the place of the one it replaces: the order is the order of putting.
        self._waiting.pop(key, None)
        self._waiting[key] = waiting

    def due(self, time: float, chunk: int) -> list[Waiting]:
        """Of the events due at a chunk the winner of each field.

        Among due events of one field the one of the latest time wins, and of those of the same
        time the one put last; of a queued field it is the first one instead.

        Args:
            time: the chunk's presentation time.
            chunk: its index.
        """
        due = [each for each in self._waiting.values() if each.is_due(time, chunk)]
        due.sort(key=lambda waiting: waiting.time)
        winners: dict[str, Waiting] = {}
        for waiting in due:
            name = waiting.event.field
            if name not in self._queued or name not in winners:
                winners[name] = waiting
        return list(winners.values())

    def take_due(self, time: float, chunk: int) -> list[Waiting]:
        """What :meth:`due` gives; it is removed, and what of its fields it has won over."""
        winners = self.due(time, chunk)
        taken = {id(winner) for winner in winners}
        self._waiting = {
            key: each
            for key, each in self._waiting.items()
            if not each.is_due(time, chunk)
            or (each.event.field in self._queued and id(each) not in taken)
        }
        return winners

    def __iter__(self) -> Iterator[Event]:
        return (waiting.event for waiting in self._waiting.values())

    def __len__(self) -> int:
        return len(self._waiting)


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
