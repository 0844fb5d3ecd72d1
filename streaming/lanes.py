"""The three ways in and out of a session: wishes, input frames, and what was made.

None of them locks: the engine's lock guards them all.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from longtake.streaming.events import Event, InputFrame, Media


class ControlLane:
    """Events waiting for their chunk: never dropped; of those due the latest of a field wins."""

    def __init__(self, events: tuple[Event, ...] = ()) -> None:
        self._waiting: list[Event] = list(events)

    def put(self, event: Event) -> None:
        """Queue an event."""
        self._waiting.append(event)

    def take_due(self, time: float) -> list[Event]:
        """Remove every event due at a presentation time; return the winner of each field.

        Among due events of one field the one scheduled last wins, and of those scheduled for the
        same time the one put last.
        """
        due = sorted((e for e in self._waiting if e.at <= time), key=lambda event: event.at)
        self._waiting = [event for event in self._waiting if event.at > time]
        return list({event.field: event for event in due}.values())

    def __iter__(self) -> Iterator[Event]:
        return iter(self._waiting)

    def __len__(self) -> int:
        return len(self._waiting)


class InputLane:
    """Frames of a watched video.

    Args:
        capacity: frames held at most.
        live: a live source loses its oldest frames when full; a file has to wait instead.
    """

    def __init__(self, capacity: int, *, live: bool) -> None:
        self.live = live
        self.dropped = 0
        self.capacity = capacity
        self._frames: deque[InputFrame] = deque()

    @property
    def full(self) -> bool:
        """Whether a frame of a file would have to wait."""
        return len(self._frames) >= self.capacity

    def put(self, frame: InputFrame) -> None:
        """Add a frame; where a live lane is full, its oldest goes and is counted."""
        if self.full:
            self._frames.popleft()
            self.dropped += 1
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
        """Whether so many more items fit; an empty outbox has room for any chunk."""
        return not self._items or len(self._items) + items <= self._capacity

    def put(self, media: Media) -> None:
        """Add an item; room was looked for when its chunk began."""
        self._items.append(media)

    def get(self) -> Media:
        """The oldest item."""
        return self._items.popleft()

    def __len__(self) -> int:
        return len(self._items)
