"""One worker for a device: choose a session, run one step, hand on what it made.

Models compute in the worker and nowhere else. An OpenMP runtime keeps a team of threads for every
thread that ever computed; two teams are more threads than cores, and every step waits for them.
"""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

from longtake.streaming.clock import Clock, VirtualClock
from longtake.streaming.errors import StreamError
from longtake.streaming.events import Event, InputFrame, Media, Step, Tensors
from longtake.streaming.lanes import INPUT_CAPACITY, InputLane
from longtake.streaming.model import State, StreamModel
from longtake.streaming.scheduler import Scheduler
from longtake.streaming.session import Progress, Session, Status

OUTBOX_ITEMS = 16

Result = TypeVar("Result")


class Engine:
    """Interleaves sessions on one device, one step at a time; see :class:`.Scheduler`.

    Use it as a context manager for a worker thread, or call :meth:`run_once` yourself.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.RLock())
        self._sessions: list[Session[Any]] = []
        self._scheduler = Scheduler()
        self._requests: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._thread: threading.Thread | None = None
        self._stopping = False

    def open(
        self,
        model: StreamModel[State],
        prompt: str,
        seed: int,
        *,
        clock: Clock | None = None,
        horizon: float = float("inf"),
        outbox: int = OUTBOX_ITEMS,
        live_input: bool = False,
        input_capacity: int = INPUT_CAPACITY,
        input_batch: int = 1,
    ) -> Session[State]:
        """Open a session.

        Args:
            model: what runs it.
            prompt: in force from the first chunk.
            seed: of its noise.
            clock: a :class:`.WallClock` for a live view; an export's by default.
            horizon: presentation time in seconds up to which it may run for now.
            outbox: media items that may wait to be fetched.
            live_input: whether input frames come live (oldest dropped) or from a file (blocking).
            input_capacity: input frames that may wait; more where the model demands more at once.
            input_batch: live input frames that are dropped at a time: as many as belong together.

        Raises:
            StreamError: the model refuses the prompt, or the engine has ended.
        """
        inputs = InputLane(input_capacity, live=live_input, batch=input_batch)
        return self._begin(model, lambda: model.open(prompt, seed), clock, horizon, outbox, inputs)

    def restore(
        self,
        model: StreamModel[State],
        tensors: Tensors,
        values: dict[str, Any],
        progress: Progress,
        *,
        clock: Clock | None = None,
        outbox: int = OUTBOX_ITEMS,
        live_input: bool = False,
    ) -> Session[State]:
        """Go on from a snapshot; it runs once its horizon is extended.

        Args:
            model: what runs it.
            tensors: from :meth:`.Session.snapshot`.
            values: as ``tensors``.
            progress: as ``tensors``.
            clock: as in :meth:`open`.
            outbox: as in :meth:`open`.
            live_input: as in :meth:`open`.

        Raises:
            StreamError: the engine has ended.
        """
        inputs = InputLane(INPUT_CAPACITY, live=live_input)
        return self._begin(
            model, lambda: model.load(tensors, values), clock, 0.0, outbox, inputs, progress
        )

    def call(self, function: Callable[[], Result]) -> Result:
        """Run a function where models compute: in the worker, after the step in flight.

        Where there is no worker, or in the worker itself, it runs at once.

        Returns:
            What the function returns; what it raises is raised here.

        Raises:
            StreamError: the engine has ended.
        """
        request: Future[Result] = Future()
        with self._changed:
            if self._stopping:
                raise _ended()
            here = self._thread in {None, threading.current_thread()}
            if not here:
                self._requests.append((function, request))
                self._changed.notify_all()
        return function() if here else request.result()

    def run_once(self) -> bool:
        """Run one step of the most urgent session; False when none can run now."""
        with self._changed:
            session, _ = self._schedule()
            if session is None:
                return False
            session.stepping = True
        self._advance(session)
        return True

    def start(self) -> None:
        """Start the worker thread."""
        self._thread = threading.Thread(target=self._work, name="longtake-engine", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the worker after the step in flight, and every session. May be repeated."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread and self._thread is not threading.current_thread():
            self._thread.join()
        for session in list(self._sessions):
            session.close()

    def __enter__(self) -> Engine:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def _begin(
        self,
        model: StreamModel[State],
        make_state: Callable[[], State],
        clock: Clock | None,
        horizon: float,
        outbox: int,
        inputs: InputLane,
        progress: Progress | None = None,
    ) -> Session[State]:
        """Make a state where models compute, and the session that it is of."""

        def add() -> Session[State]:
            session = Session(
                model,
                make_state(),
                clock or VirtualClock(),
                self._changed,
                self.call,
                horizon=horizon,
                outbox=outbox,
                inputs=inputs,
                progress=progress,
            )
            with self._changed:
                self._sessions.append(session)
                self._changed.notify_all()
            return session

        return self.call(add)

    def _work(self) -> None:
        try:
            while self._work_once():
                pass
        except BaseException:
            # Nobody will serve the other sessions any more, and somebody may be waiting for them.
            with self._changed:
                for session in self._sessions:
                    if session.state is not None:
                        session.fail(_ended())
            raise
        finally:
            with self._changed:
                self._stopping = True
                while self._requests:
                    self._requests.popleft()[1].set_exception(_ended())
                self._changed.notify_all()

    def _work_once(self) -> bool:
        """Answer a request, run a step or wait; False at the end."""
        with self._changed:
            if self._stopping:
                return False
            job: Callable[[], None]
            if self._requests:
                job = partial(_answer, *self._requests.popleft())
            else:
                session, delay = self._schedule()
                if session is None:
                    self._changed.wait(delay)
                    return True
                session.stepping = True
                job = partial(self._advance, session)
        job()
        return True

    def _schedule(self) -> tuple[Session[Any] | None, float | None]:
        """The session to run now, or else the seconds until one becomes due."""
        self._sessions = [session for session in self._sessions if session.state is not None]
        ready: list[Session[Any]] = []
        delay: float | None = None
        for session in self._sessions:
            try:
                wait = self._wait_before(session)
            except Exception as error:  # a model's demand()
                session.fail(_failure(error))
                self._changed.notify_all()
                continue
            if wait is None:
                continue
            if wait > 0:
                delay = wait if delay is None else min(delay, wait)
            else:
                ready.append(session)
        return self._scheduler.choose(ready), delay

    def _wait_before(self, session: Session[Any]) -> float | None:
        """Seconds until a session's next step should be run; None where it cannot run yet."""
        if not session.runnable():
            if session.at_boundary:
                session.ready_since = None
            return None
        wait = session.clock.wait_before(session.time) if session.at_boundary else 0.0
        if wait > 0:
            session.ready_since = None
        elif session.ready_since is None:
            session.ready_since = time.monotonic()
        return wait

    def _advance(self, session: Session[Any]) -> None:
        """Run one step outside the lock, then hand on its outcome under it."""
        state = session.state
        began = time.monotonic()
        try:
            with self._changed:
                beginning = session.at_boundary
                due = session.begin_chunk() if beginning else []
                frames = [session.inputs.take() for _ in range(session.model.demand(state))]
            arrivals: list[Event | InputFrame] = [*(each.event for each in due), *frames]
            if arrivals:
                session.model.apply(state, *arrivals)
            if beginning:
                with self._changed:
                    session.record(began)
            step = session.model.step(state)
            with self._changed:
                self._postprocess(session, step, began)
        except BaseException as error:
            with self._changed:
                session.fail(_failure(error))
            # As text: a record of the exception itself would keep the state alive.
            logging.getLogger(__name__).error("a session failed\n%s", traceback.format_exc())
            if not isinstance(error, Exception):
                raise  # an interrupt is the caller's; one session's failure is never the engine's
        finally:
            with self._changed:
                session.stepping = False
                session.last_run = time.monotonic()
                self._changed.notify_all()

    def _postprocess(self, session: Session[Any], step: Step, began: float) -> None:
        now = time.monotonic()
        self._scheduler.spent(session, now - began)
        progress = session.progress
        for payload, units in step.media:
            session.outbox.put(Media(payload, units, progress.units, progress.chunk))
            progress.units += units
            session.metrics.media(now, units)
        session.chunk_cost += now - began
        session.at_boundary = step.boundary
        if step.boundary:
            progress.chunk += 1
            session.metrics.chunk(session.chunk_cost)
            # Other sessions' steps count: together they may be too much for playback.
            waited = now - (began if session.ready_since is None else session.ready_since)
            start = session.chunk_start / session.model.spec.rate
            session.clock.chunk_done(start, session.time, waited)
            session.chunk_cost = 0.0
            session.ready_since = None
        if session.status is Status.CLOSED:
            session.free()


def _answer(function: Callable[[], Any], request: Future[Any]) -> None:
    try:
        request.set_result(function())
    except BaseException as error:  # whoever asked meets it
        request.set_exception(error)


def _ended() -> StreamError:
    return StreamError("closed", "the engine has ended", "open another one")


def _failure(error: BaseException) -> StreamError:
    """What the client is told, without the traceback, which would keep the state alive."""
    if isinstance(error, StreamError):
        return StreamError(error.code, error.message, error.hint)
    message = f"the model failed with {type(error).__name__}: {error}"
    return StreamError("model_failed", message, "what was made so far is kept")
