"""One stream: its lanes, its clock, its state and its log."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any, Generic

from longtake.streaming.clock import Clock
from longtake.streaming.errors import StreamError
from longtake.streaming.events import Applied, Boundary, Event, InputFrame, Media, Tensors
from longtake.streaming.lanes import ControlLane, InputLane, Outbox, Waiting
from longtake.streaming.metrics import Metrics, Summary
from longtake.streaming.model import State, StreamModel

# Presentation time in seconds that no film reaches: thirty years.
MAX_TIME = 1_000_000_000

Saved = tuple[Tensors, dict[str, Any], "Progress"]


class Status(Enum):
    """Where a session's life stands."""

    RUNNING = "running"
    PAUSED = "paused"
    FAILED = "failed"
    CLOSED = "closed"


@dataclass
class Progress:
    """How far a session is: the part of it, besides the model's state, that a snapshot holds.

    Attributes:
        chunk: index of the chunk that is being made or comes next.
        units: units made so far.
        log: every event applied, in order.
        waiting: events whose time has not come (filled in for a snapshot).
    """

    chunk: int = 0
    units: int = 0
    log: list[Applied] = field(default_factory=list)
    waiting: list[Event] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """As JSON-like values."""
        return asdict(self)

    @staticmethod
    def from_json(data: dict[str, Any]) -> Progress:
        """From what :meth:`to_json` gave."""
        log = [
            Applied(Event(**entry["event"]), entry["chunk"], entry["time"]) for entry in data["log"]
        ]
        waiting = [Event(**entry) for entry in data["waiting"]]
        return Progress(data["chunk"], data["units"], log, waiting)


class Session(Generic[State]):
    """Made by :meth:`.Engine.open`; every method may be called from any thread.

    The worker makes chunks while presentation time is short of ``horizon`` and the outbox has
    room for one more. Events apply at the next chunk boundary.
    """

    def __init__(
        self,
        model: StreamModel[State],
        state: State,
        clock: Clock,
        changed: threading.Condition,
        call: Callable[[Callable[[], Saved]], Saved],
        *,
        horizon: float,
        outbox: int,
        inputs: InputLane,
        progress: Progress | None = None,
    ) -> None:
        self.model = model
        self.clock = clock
        self.state: State | None = state
        self.status = Status.RUNNING
        self.error: StreamError | None = None
        done = progress or Progress()
        self.progress = Progress(done.chunk, done.units, list(done.log))
        self.horizon = horizon
        self.controls = ControlLane(model.spec.queued, model.spec.gathered)
        self.inputs = inputs
        self.outbox = Outbox(max(outbox, model.spec.burst))
        self.metrics = Metrics(time.monotonic())
        self.at_boundary = True
        # Events of the chunk that begins, until the model has been given them.
        self.beginning: list[Waiting] = []
        self.stepping = False
        self.saving = 0
        self.chunk_start = self.progress.units
        self.chunk_began = self.metrics.opened
        self.chunk_cost = 0.0
        self.ready_since: float | None = None
        self.last_run = 0.0
        self._changed = changed
        self._call = call
        for event in done.waiting:
            self.controls.put(event, 0.0, self.metrics.opened)

    # --- for the client ---

    @property
    def time(self) -> float:
        """Presentation time made so far, in seconds."""
        return self.progress.units / self.model.spec.rate

    @property
    def boundary(self) -> Boundary:
        """The next one: the first chunk that has not begun."""
        with self._changed:
            return self._next()

    def submit(self, *events: Event) -> Boundary:
        """Queue events; which of those due at a chunk win is said by :class:`.Spec`.

        Returns:
            Where they will apply, the last of them if their times differ.

        Raises:
            StreamError: the model refuses one, no film has its time, or the session has ended;
                then none is queued.
        """
        for event in events:
            if not abs(event.at) <= MAX_TIME:
                problem = f"the time {event.at} is none that a film can have"
                raise StreamError("bad_time", problem, f"give seconds, at most {MAX_TIME:,}")
            self.model.check(event)
        with self._changed:
            self._ensure_open()
            for event in events:
                self.controls.put(event, self.time, time.monotonic())
            self._changed.notify_all()
            return self._due(events[-1]) if events else self._next()

    def wanted(self) -> list[Event]:
        """All that has applied, and then what is due at the next chunk, in their order."""
        with self._changed:
            after = self._next()
            waiting = self.beginning + self.controls.due(after.time, after.chunk)
            applied = [entry.event for entry in self.progress.log]
            return applied + [each.event for each in waiting]

    def feed(self, frame: InputFrame) -> None:
        """Give a watched video's next frame; blocks while a file's lane is full.

        Raises:
            StreamError: the session or its input has ended.
        """
        with self._changed:
            if not self.inputs.live:
                self._changed.wait_for(lambda: not self.inputs.full or self.state is None)
            self._ensure_open()
            if self.inputs.ended:
                raise StreamError("input_ended", "the input has ended", "open another session")
            self.inputs.put(frame)
            self._changed.notify_all()

    def end_input(self) -> None:
        """There are no more frames to watch: what can be made of those given is the rest."""
        with self._changed:
            self.inputs.ended = True
            self._changed.notify_all()

    def extend(self, horizon: float) -> None:
        """Let the session run until presentation time reaches ``horizon`` seconds."""
        with self._changed:
            self.horizon = max(self.horizon, horizon)
            self._changed.notify_all()

    def next(self, timeout: float | None = None) -> Media | None:
        """The next media, in order; waits for it.

        Returns:
            None when there will be no more before something changes: the horizon is reached, the
            input has ended, the session is paused or closed, or the timeout (seconds) is over.

        Raises:
            StreamError: the session failed; what was made before is delivered first.
        """
        return self._deliver(lambda: not self._busy(), timeout)

    def __iter__(self) -> Iterator[Media]:
        while (media := self.next()) is not None:
            yield media

    def follow(self) -> Iterator[Media]:
        """Media as they come, through pauses and horizons, until the session has ended.

        Raises:
            StreamError: the session failed; what was made before is delivered first.
        """
        while (media := self._deliver(lambda: self.state is None)) is not None:
            yield media

    def pause(self) -> Boundary:
        """Stop at the next chunk boundary, which is returned."""
        return self._switch(Status.RUNNING, Status.PAUSED)

    def resume(self) -> Boundary:
        """Go on after a pause, from the boundary that is returned."""
        return self._switch(Status.PAUSED, Status.RUNNING)

    def close(self) -> None:
        """Cancel, at once or after the step in flight; frees the state. May be repeated."""
        with self._changed:
            if self.status is not Status.FAILED:
                self.status = Status.CLOSED
            self._changed.wait_for(lambda: not self.stepping)
            self.free()
            self._changed.notify_all()

    def snapshot(self) -> Saved:
        """The model's saved tensors and values, and the progress, at the next boundary.

        Waits for a chunk that is being made. Media still in the outbox is not part of it.

        Raises:
            StreamError: the session has ended, or its input within a chunk.
        """
        with self._changed:
            # The next chunk does not begin while somebody waits for the boundary before it.
            self.saving += 1
        try:
            with self._changed:
                self._changed.wait_for(lambda: not self.stepping and self._settled())
                self._ensure_open()
                if not self.at_boundary:
                    problem = "the input has ended within a chunk"
                    raise StreamError("input_ended", problem, "take a snapshot before it ends")
            return self._call(self._save)
        finally:
            with self._changed:
                self.saving -= 1
                self._changed.notify_all()

    def summary(self) -> Summary:
        """A reading of the session's measurements."""
        with self._changed:
            metrics = self.metrics
            return Summary(
                chunks=metrics.chunks,
                units=metrics.units,
                rate=metrics.rate,
                first_media=metrics.first_media,
                chunk_p50=metrics.percentile(0.5),
                chunk_p95=metrics.percentile(0.95),
                reaction=metrics.reaction,
                reaction_max=metrics.reaction_max,
                outbox=len(self.outbox),
                controls=len(self.controls),
                dropped=self.inputs.dropped,
            )

    # --- for the engine, under its lock ---

    def runnable(self) -> bool:
        """Whether a step could be run now, the clock left aside."""
        if self.state is None or self.stepping:
            return False
        if not self.at_boundary:
            return self._fed()
        return (
            self.status is Status.RUNNING
            and not self.saving
            and self.time < self.horizon
            and self.outbox.has_room(self.model.spec.burst)
            and self._fed()
        )

    def begin_chunk(self) -> list[Waiting]:
        """Leave a boundary; returns the events that win of those whose time has come."""
        self.at_boundary = False
        self.chunk_start = self.progress.units
        self.beginning = self.controls.take_due(self.time, self.progress.chunk)
        return self.beginning

    def record(self, began: float) -> None:
        """Log that the chunk's events were applied; it began at a time of the engine's clock."""
        applied, self.beginning = self.beginning, []
        for each in applied:
            self.progress.log.append(Applied(each.event, self.progress.chunk, self.time))
            # What was scheduled long ago counts from the chunk in which its time came.
            self.metrics.applied(max(each.accepted, self.chunk_began))
        self.chunk_began = began

    def fail(self, error: StreamError) -> None:
        """End with an error; what was made is still delivered, the state is freed."""
        self.error = error
        self.status = Status.FAILED
        self.beginning = []  # what it failed at is not wanted again
        self.free()

    def free(self) -> None:
        """Give up the state. May be repeated."""
        if self.state is not None:
            self.model.close(self.state)
            self.state = None

    def _save(self) -> Saved:
        """At a boundary, outside the lock; until it is done nobody steps or frees the state."""
        with self._changed:
            # Only where there is no worker can another save be at it.
            self._changed.wait_for(lambda: not self.stepping)
            self._ensure_open()
            assert self.state is not None
            state, done = self.state, self.progress
            progress = Progress(done.chunk, done.units, list(done.log), list(self.controls))
            self.stepping = True
        try:
            return *self.model.save(state), progress
        finally:
            with self._changed:
                self.stepping = False
                self._changed.notify_all()

    def _deliver(self, over: Callable[[], bool], timeout: float | None = None) -> Media | None:
        """The next media; None where there is none and nothing more to wait for."""
        with self._changed:
            self._changed.wait_for(lambda: len(self.outbox) > 0 or over(), timeout)
            if len(self.outbox):
                media = self.outbox.get()
                self._changed.notify_all()
                return media
            if self.error:
                raise self.error
            return None

    def _next(self, skipped: int = 0) -> Boundary:
        """The next boundary, or that after skipping some chunks."""
        chunk, units, spec = self.progress.chunk, self.progress.units, self.model.spec
        if not self.at_boundary:
            chunk, units = chunk + 1, self.chunk_start + spec.chunk_units
        return Boundary(chunk + skipped, (units + skipped * spec.chunk_units) / spec.rate)

    def _due(self, event: Event) -> Boundary:
        """The first boundary at which an event is due, were every chunk as long as usual."""
        after, spec = self._next(), self.model.spec
        chunks = max(0, event.chunk - after.chunk)
        if not spec.chunk_units:
            return self._next(chunks)
        chunks = max(chunks, int((event.at - after.time) * spec.rate / spec.chunk_units))
        while (due := self._next(chunks)).time < event.at:
            chunks += 1
        return due

    def _fed(self) -> bool:
        assert self.state is not None
        demanded = self.model.demand(self.state)
        self.inputs.capacity = max(self.inputs.capacity, demanded)
        return len(self.inputs) >= demanded

    def _busy(self) -> bool:
        """Whether more media may come without anybody's doing."""
        if self.state is None:
            return False
        if self.stepping:
            return True
        if self.inputs.ended and not self._fed():
            return False
        return not self.at_boundary or (self.status is Status.RUNNING and self.time < self.horizon)

    def _settled(self) -> bool:
        """Whether, between two steps, no boundary is to be waited for."""
        if self.state is None or self.at_boundary:
            return True
        return self.inputs.ended and not self._fed()

    def _ensure_open(self) -> None:
        if self.state is None:
            raise self.error or StreamError("closed", "the session is closed", "open a new one")

    def _switch(self, before: Status, after: Status) -> Boundary:
        with self._changed:
            if self.status is before:
                self.status = after
            self._changed.notify_all()
            return self._next()
