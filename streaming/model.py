"""The one protocol that every model meets, a generator and a captioner alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from longtake.streaming.events import Event, InputFrame, Step, Tensors

State = TypeVar("State")


@dataclass(frozen=True)
class Spec:
    """What the engine has to know of a model.

    Attributes:
        rate: units (frames) a second of presentation time.
        chunk_units: units a chunk makes in the steady state.
        burst: the most media items a single chunk can give.
        queued: fields whose events all apply, one a chunk, in the order of their times: questions,
            say.
        gathered: fields whose events that are due at a chunk all apply to it, in the order of
            their times, and at most how many of them, the latest: changes that add up, say. Of any
            other field the latest event wins.
    """

    rate: float
    chunk_units: int
    burst: int
    queued: frozenset[str] = frozenset()
    gathered: Mapping[str, int] = field(default_factory=dict)


class StreamModel(Protocol[State]):
    """Weights and code, immutable and shared; all that changes lives in a session's state.

    An engine calls ``open``, ``apply``, ``step``, ``save`` and ``load`` in its worker only, and the
    rest, which has to be quick, in any thread.
    """

    @property
    def spec(self) -> Spec:
        """Rates and sizes."""
        ...

    def open(self, prompt: str, seed: int) -> State:
        """A new state, before its first chunk.

        Raises:
            StreamError: the prompt does not fit.
        """
        ...

    def check(self, event: Event) -> None:
        """Refuse what could not be applied, before it is queued.

        Raises:
            StreamError: no such field, or no such value for it.
        """
        ...

    def demand(self, state: State) -> int:
        """Input frames needed before the next step; 0 for a generator."""
        ...

    def apply(self, state: State, *arrivals: Event | InputFrame) -> None:
        """Take what came: at a chunk boundary events, in order, then frames that were demanded."""
        ...

    def step(self, state: State) -> Step:
        """Run at most one forward or one token, so that sessions interleave.

        When it raises, the state is as it was at the last boundary or is given up.
        """
        ...

    def close(self, state: State) -> None:
        """The state is given up, perhaps in the middle of a chunk: free what it holds."""
        ...

    def save(self, state: State) -> tuple[Tensors, dict[str, Any]]:
        """Tensors and JSON-like values from which :meth:`load` goes on, at a boundary only."""
        ...

    def load(self, tensors: Tensors, values: dict[str, Any]) -> State:
        """The state that was saved."""
        ...
