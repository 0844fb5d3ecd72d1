"""What goes into a session and what comes out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Event:
    """A wish that a field have a value: the prompt, a setting.

    Attributes:
        field: e.g. ``"prompt"`` or ``"steps"``; the model says which there are.
        value: JSON-like.
        at: presentation time in seconds before which it does not apply; 0 is at once.
        chunk: index of the chunk before which it does not apply, for a replay of a log.
        transition: chunks over which it takes over from the value before; 0 is at once. The model
            says which fields can.
    """

    field: str
    value: Any
    at: float = 0.0
    chunk: int = 0
    transition: int = 0


@dataclass(frozen=True)
class Boundary:
    """Where one chunk ends and the next begins, as far as it can be foreseen.

    Attributes:
        chunk: index of the chunk that begins.
        time: its presentation time in seconds.
    """

    chunk: int
    time: float


@dataclass(frozen=True)
class Applied:
    """The acknowledgement of an event, and its entry in the log.

    Attributes:
        event: what was applied.
        chunk: the first chunk made under it.
        time: that chunk's presentation time in seconds.
    """

    event: Event
    chunk: int
    time: float

    def note(self) -> dict[str, Any]:
        """As it is told in a film's metadata: its time, and its value under the field's name."""
        note = {"time": self.time, self.event.field: self.event.value}
        return note | ({"transition": self.event.transition} if self.event.transition else {})

    def again(self) -> Event:
        """The event that applies at the same chunk when the log is replayed."""
        return replace(self.event, at=self.time, chunk=self.chunk)


@dataclass(frozen=True)
class InputFrame:
    """One frame of a watched video.

    Attributes:
        time: presentation time in seconds.
        data: the picture, in whatever form the model takes.
    """

    time: float
    data: Any


@dataclass(frozen=True)
class Media:
    """What a step made.

    Attributes:
        payload: frames or text, in the model's form.
        units: how many of the model's units it holds (frames for a generator): the presentation
            clock advances by ``units / rate``.
        start: index of the first unit.
        chunk: index of the chunk it is part of.
    """

    payload: Any
    units: int
    start: int
    chunk: int


@dataclass(frozen=True)
class Step:
    """The outcome of one step of a model.

    Attributes:
        media: payloads with their number of units, in order; often none.
        boundary: the next step begins a new chunk: events may be applied and the state saved.
    """

    media: tuple[tuple[Any, int], ...] = ()
    boundary: bool = False


Tensors = Mapping[str, Any]
"""Named tensors of a saved state; the engine only hands them on."""
