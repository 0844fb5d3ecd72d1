"""Who is served, who waits, and whose time is over."""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Callable
from typing import Protocol

from longtake.app import wire
from longtake.app.api import Model
from longtake.app.studio.settings import StudioSettings
from longtake.app.studio.shelf import Shelf
from longtake.app.studio.visit import Client, Visit
from longtake.app.studio.watching import Captioners
from longtake.app.takes import TakesFolder
from longtake.models.video.settings import MAX_TRANSITION
from longtake.streaming import StreamError


class Guest(Client, Protocol):
    """A connection that said hello."""

    def admit(self, visit: Visit, in_force: wire.Applied | None) -> None:
        """It has its place."""
        ...

    def blocked(self, now: float) -> float:
        """Seconds for which it has not taken what is sent to it."""
        ...

    @property
    def caught_up(self) -> bool:
        """Whether no message waits to be sent to it."""
        ...


class Visits:
    """The places, the queue for them, and the clock that empties both.

    Args:
        model: makes the films.
        settings: what is allowed.
        takes: where films are recorded.
        now: seconds on a monotonic clock.
        captioners: watch what visitors show; None where there are none.

    Attributes:
        shelf: where what visitors saved can be fetched.
        limits: as told to clients.
        is_open: whether visitors are let in.
    """

    def __init__(
        self,
        model: Model,
        settings: StudioSettings,
        takes: TakesFolder,
        now: Callable[[], float],
        captioners: Captioners | None = None,
    ) -> None:
        self.shelf = Shelf(settings.starts)
        self.now = now
        self.settings = settings
        self.model = model
        chunk = model.generator.spec.chunk_units
        encodes = model.generator.codec.encodes
        self.limits = settings.limits(model.rate, chunk, MAX_TRANSITION, encodes=encodes)
        self._takes = takes
        self._captioners = captioners
        # No place is free before the model is warm.
        self.is_open = False
        self._visits: dict[str, Visit] = {}
        self._queue: list[Guest] = []
        self._guests: dict[Guest, Visit | None] = {}
        self._told: dict[Guest, int] = {}
        self._endings: set[asyncio.Task[None]] = set()

    def open(self) -> None:
        """Let visitors in."""
        self.is_open = True
        self._let_in()

    def arrive(self, guest: Guest, hello: wire.Hello) -> None:
        """Give a guest a place, or one in the queue, or the session back that it lost.

        Raises:
            StreamError: ``busy`` or ``no_session``; otherwise the guest has its ``ack``.
        """
        if hello.resume:
            visit = self.find(hello.resume.session, hello.resume.resume_token)
            guest.tell(wire.Ack(id=hello.id))
            self._guests[guest] = visit
            guest.admit(visit, visit.attach(guest, hello.resume.next))
            if visit.resting is not None:
                guest.tell(visit.resting)
            return
        if len(self._queue) >= self.settings.queue and not self._has_place:
            problem = f"all {self.settings.sessions} places are taken, and the queue is full"
            raise StreamError("busy", problem, "try again in a few minutes")
        guest.tell(wire.Ack(id=hello.id))
        self._guests[guest] = None
        self._queue.append(guest)
        self._let_in()

    def find(self, session: str, resume_token: str) -> Visit:
        """The visit of a session, for who proves that it is theirs.

        Raises:
            StreamError: ``no_session``.
        """
        visit = self._visits.get(session)
        token = visit.resume_token if visit else ""
        right = hmac.compare_digest(token.encode(), resume_token.encode())
        if visit is None or visit.ended or not right:
            problem = "there is no such session, or it was given up"
            raise StreamError("no_session", problem, "say hello without resume to begin a new one")
        return visit

    def leave(self, guest: Guest) -> None:
        """A connection is gone; a session is kept for a while, a place in the queue is not."""
        visit = self._guests.pop(guest, None)
        self._told.pop(guest, None)
        if visit is not None:
            visit.detach(guest, self.now())
        elif guest in self._queue:
            self._queue.remove(guest)
            self._tell_positions()

    def end(self, visit: Visit) -> asyncio.Task[None]:
        """End a visit, which has not ended: its take is saved, and the next one let in."""
        visit.ended = True
        task = asyncio.create_task(self._end(visit))
        self._endings.add(task)
        task.add_done_callback(self._endings.discard)
        return task

    def tick(self) -> None:
        """See to what is overdue; send measurements."""
        now = self.now()
        for standing in self.standing:
            client = standing.client
            if reason := standing.overdue(now, bool(self._queue)):
                if client is not None:
                    client.close(reason)
                self.end(standing)
            elif notice := standing.rest(now):
                if client is not None:
                    client.tell(notice)
            elif client is not None and standing.stalled(now):
                client.close("stalled")
        for guest, visit in list(self._guests.items()):
            if guest.blocked(now) > self.limits.stall:
                guest.close("stalled")
            elif guest.caught_up and visit and visit.take and not visit.take.ended:
                guest.tell(visit.take.metrics())

    async def close(self) -> None:
        """Say bye to everybody; every take is on disk afterwards."""
        self.is_open = False
        for guest in list(self._guests):
            guest.close("shutdown")
        for visit in self.standing:
            self.end(visit)
        if self._endings:
            await asyncio.wait(self._endings)
        self.shelf.close()

    @property
    def standing(self) -> list[Visit]:
        """Visits that have not ended."""
        return [visit for visit in self._visits.values() if not visit.ended]

    @property
    def _has_place(self) -> bool:
        return self.is_open and len(self._visits) < self.settings.sessions

    def _let_in(self) -> None:
        while self._queue and self._has_place:
            guest = self._queue.pop(0)
            visit = Visit(
                self.model, self._takes, self.shelf, self.limits, self._captioners, self.now()
            )
            self._visits[visit.name] = self._guests[guest] = visit
            guest.admit(visit, visit.attach(guest, None))
        self._tell_positions()

    def _tell_positions(self) -> None:
        if not self.is_open:
            return
        for position, guest in enumerate(self._queue, 1):
            if self._told.get(guest) != position:
                self._told[guest] = position
                guest.tell(wire.Queued(position=position))

    async def _end(self, visit: Visit) -> None:
        try:
            await visit.end()
        except Exception:
            logging.getLogger(__name__).exception("a take could not be ended")
        del self._visits[visit.name]
        if self.is_open:
            self._let_in()
            asyncio.get_running_loop().call_later(self.limits.grace, self.shelf.clear, visit.name)
