"""What a take has for its client: sent as far as its credit goes, kept until it was shown."""

from __future__ import annotations

from collections import deque

from longtake.app.wire import Applied, EncodedFrame, Error, Notice, Settings
from longtake.streaming import StreamError

Item = EncodedFrame | Applied | Notice | Error


class Outgoing:
    """Frames in order, with the receipts between them.

    Args:
        ahead: frames that may be sent beyond the last one reported.
    """

    def __init__(self, ahead: int) -> None:
        self._ahead = ahead
        self._items: deque[Item] = deque()
        # Of the items, those before it were sent.
        self._cursor = 0
        self._next = 0
        self._sent = -1
        self._reported = 0
        self._in_force: Applied | None = None

    @property
    def last_allowed(self) -> int:
        """Index of the last frame that there is credit for."""
        return self._reported + self._ahead

    @property
    def sent(self) -> int:
        """Frames sent so far, those repeated counted once."""
        return self._sent + 1

    @property
    def unsent(self) -> int:
        """Frames that wait to be sent."""
        waiting = list(self._items)[self._cursor :]
        return sum(isinstance(item, EncodedFrame) for item in waiting)

    @property
    def held(self) -> int | None:
        """Index of the next frame, made already or not, if it lacks credit."""
        return self._next if self._next > self.last_allowed else None

    @property
    def in_force(self) -> Applied | None:
        """The prompt and every setting of what was sent last; None before anything was."""
        return self._in_force

    def put(self, item: Item) -> None:
        """Add what comes next."""
        self._items.append(item)

    def take(self) -> Item | None:
        """The next item to send; None where there is none or it lacks credit."""
        if self._cursor == len(self._items):
            return None
        item = self._items[self._cursor]
        if isinstance(item, EncodedFrame):
            if item.index > self.last_allowed:
                return None
            self._next = item.index + 1
            self._sent = max(self._sent, item.index)
        elif isinstance(item, Applied):
            self._in_force = _merged(self._in_force, item)
        self._cursor += 1
        return item

    def report(self, index: int) -> None:
        """The client is done with a frame and those before it: forget them, and send as many more.

        Raises:
            StreamError: ``out_of_order``: it was not sent yet.
        """
        if index > self._sent:
            problem = f"frame {index} was not sent yet"
            raise StreamError("out_of_order", problem, "report frames that came")
        self._reported = max(self._reported, index)
        done = self._after(index)
        for _ in range(done):
            self._items.popleft()
        self._cursor = max(0, self._cursor - done)

    def repeat_from(self, index: int) -> None:
        """Send again every frame from one on that is kept, and the receipts before them."""
        self._cursor = min(self._cursor, self._after(index - 1))
        self._next = min(self._next, max(self._reported + 1, index))

    def _after(self, index: int) -> int:
        """How many items there are up to and with a frame."""
        count = 0
        for position, item in enumerate(self._items, 1):
            if isinstance(item, EncodedFrame):
                if item.index > index:
                    break
                count = position
        return count


def _merged(before: Applied | None, now: Applied) -> Applied:
    """All that is in force, under the first receipt's id."""
    if before is None:
        return now
    settings = [each.model_dump(exclude_none=True) for each in (before, now)]
    values = {**settings[0].get("settings", {}), **settings[1].get("settings", {})}
    return now.model_copy(
        update={
            "id": before.id,
            "prompt": now.prompt or before.prompt,
            "read": now.read if now.prompt else before.read,
            "settings": Settings(**values),
        }
    )
