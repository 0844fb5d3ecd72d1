"""What every source of a watched video gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from longtake.app.sampling import Pixels


@dataclass(frozen=True)
class Shot:
    """A frame of a source, whose pixels are only made where they are wanted.

    Attributes:
        time: presentation time in seconds since the source's beginning.
        read: gives uint8 RGB, [height, width, 3]; before the next shot is asked for.
        duration: seconds that it is shown for, 0 where the source does not say.
    """

    time: float
    read: Callable[[], Pixels]
    duration: float = 0.0


class Source(Protocol):
    """A video being watched; nothing of it is kept anywhere.

    Attributes:
        name: for people.
        live: it goes on whether or not anybody keeps up.
        duration: seconds, or None where it is not known.
    """

    name: str
    live: bool
    duration: float | None

    def shots(self) -> Iterator[Shot]:
        """Every frame, in order, once; waits for those of a live source.

        Raises:
            StreamError: it broke off.
        """
        ...

    def close(self) -> None:
        """Let go of it; whoever waits for a shot gets no more. May be repeated."""
        ...
