"""A visitor's session: what outlives a connection, and how its requests are carried out."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from longtake.app import wire
from longtake.app.api import Model
from longtake.app.start import Start
from longtake.app.studio.failures import failure, idle_notice
from longtake.app.studio.live import LiveTake, Opening, Requested
from longtake.app.studio.outgoing import Item
from longtake.app.studio.shelf import Shelf
from longtake.app.studio.watches import Watches
from longtake.app.studio.watching import Captioners
from longtake.app.takes import TakesFolder
from longtake.app.wire_faults import Reason, RequestError
from longtake.streaming import Boundary, StreamError

# Saves and stills that a visitor may have going on at once.
SAVES_PENDING = 4

Tell = Callable[[wire.ServerMessage], None]


class Client(Protocol):
    """The connection that a visit has at the moment."""

    def tell(self, message: wire.ServerMessage) -> None:
        """Send a message."""
        ...

    def wake(self) -> None:
        """There may be something new to send of the visit's take."""
        ...

    def close(self, reason: Reason) -> None:
        """Say bye."""
        ...


class Visit:
    """One visitor's session; all of it happens on the event loop.

    Args:
        model: makes the films.
        takes: where they are recorded.
        shelf: where what is saved can be fetched.
        limits: as told to the client.
        captioners: watch what the client shows; None where there are none.
        now: on the server's clock.

    Attributes:
        name: of the session.
        resume_token: proves whose it is.
        received: the highest ``id`` of a request so far.
        client: its connection, or None while that is lost.
        take: the film being made, or that was made last; None before the first.
        watches: what the client shows to the captioner.
        resting: what its client was told of asking for nothing for long; None while it asks.
        ended: whether the visit is over.
    """

    def __init__(
        self,
        model: Model,
        takes: TakesFolder,
        shelf: Shelf,
        limits: wire.Limits,
        captioners: Captioners | None,
        now: float,
    ) -> None:
        self.name = f"s-{secrets.token_hex(6)}"
        self.resume_token = secrets.token_urlsafe(16)
        self.received = 0
        self.client: Client | None = None
        self.take: LiveTake | None = None
        self.watches = Watches(captioners, self._say, lambda: self._running)
        self.resting: wire.Notice | None = None
        self.ended = False
        self._model = model
        self._takes = takes
        self._shelf = shelf
        self._limits = limits
        self._began = self._asked = self._lost = self._rested = now
        # The frame that lacks credit, and since when.
        self._held: tuple[int, float] | None = None
        self._count = 0
        self._order = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._saving = 0

    # --- its connections ---

    def attach(self, client: Client, lacks: wire.FrameId | None) -> wire.Applied | None:
        """Take a client in, the first one or one that comes back; the one before is let go.

        Args:
            client: to be served from now on.
            lacks: the first frame that it did not get; None where it does not know.

        Returns:
            What is in force, where nothing can be repeated for it.
        """
        if self.client is not None:
            self.client.close("replaced")
        self.client, self._held = client, None
        if self.take is None:
            return None
        number = self.take.opening.number
        if lacks is None or lacks.take > number:
            return self.take.outgoing.in_force
        # Takes come in order: of one after the take that it names, it got nothing.
        self.take.outgoing.repeat_from(lacks.index if lacks.take == number else 0)
        return None

    def detach(self, client: Client, now: float) -> None:
        """A connection is gone."""
        if self.client is client:
            self.client, self._lost = None, now

    def overdue(self, now: float, others_wait: bool) -> Reason | None:
        """Why the visit is to end, or None."""
        limits = self._limits
        is_idle = self.resting is not None and now - self._rested > limits.idle_grace
        if is_idle or (self.client is None and now - self._lost > limits.grace):
            return "idle"
        if others_wait and limits.visit is not None and now - self._began > limits.visit:
            return "time_up"
        return None

    def rest(self, now: float) -> wire.Notice | None:
        """Pause the film of a visitor who asked for nothing for long; what to tell, once."""
        if self.resting is not None or now - self._asked <= self._limits.idle:
            return None
        take = self.take
        runs = take is not None and not take.paused and not take.ended
        if take is not None and runs:
            take.pause()
        self.resting, self._rested = idle_notice(self._limits, paused=runs), now
        return self.resting

    @property
    def waits(self) -> bool:
        """Whether the film was seen to wait for the client's reports."""
        return self._held is not None

    def stalled(self, now: float) -> bool:
        """Whether the film waits for the client's reports, and for too long."""
        take = self.take
        held = None if take is None or take.paused or take.ended else take.outgoing.held
        if held is None:
            self._held = None
        elif self._held is None or self._held[0] != held:
            self._held = (held, now)
        return self._held is not None and now - self._held[1] > self._limits.stall

    # --- its requests ---

    def count(self, request_id: int) -> None:
        """A request came that has an id, whatever else is wrong with it.

        Raises:
            RequestError: ``out_of_order``: an id before was as high.
        """
        if request_id <= self.received:
            problem = f"the id {request_id} is not above {self.received}"
            raise RequestError(
                "out_of_order", problem, "give every request a higher id", request_id
            )
        self.received = request_id

    def begin(self, request: wire.ClientMessage, tell: Tell, now: float) -> asyncio.Task[None]:
        """Do what is asked and tell of it, after the requests before.

        The task goes on whatever becomes of the connection. Between the beginning of a take and
        the answer nothing else can be sent.
        """
        if not isinstance(request, wire.Playback):
            self._asked, self.resting = now, None
        return self._spawn(self._serve(request, tell))

    def show(self, frame: wire.ShownFrame, now: float) -> None:
        """Give a frame to what is watched; whoever shows something is no idler.

        Raises:
            StreamError: ``out_of_order``: there is no such watch yet.
        """
        self.watches.show(frame)
        self._asked, self.resting = now, None

    async def _serve(self, request: wire.ClientMessage, tell: Tell) -> None:
        async with self._order:
            try:
                ack = await self._carry_out(request, tell)
            except Exception as error:
                tell(failure(error, request.id))
            else:
                if ack is not None:
                    tell(ack)

    async def end(self) -> None:
        """End the visit; its take and what it saves are on disk afterwards. May be repeated."""
        self.ended = True
        while self._tasks:
            await asyncio.wait(self._tasks)
        await self.watches.close()
        if self.take is not None:
            await asyncio.to_thread(self.take.close)

    async def _carry_out(self, request: wire.ClientMessage, tell: Tell) -> wire.Ack | None:
        if self.ended:
            raise StreamError("closed", "the session has ended", "begin another one")
        match request:
            case wire.Open() | wire.Restart():
                return await self._open(request)
            case wire.Prompt():
                return await self._change_prompt(request)
            case wire.Set() | wire.Pause() | wire.Resume():
                return _due(request, self._steer(request))
            case wire.Save() | wire.Still():
                self._keep(request, tell)
                return None
            case wire.Watch():
                self._spawn(self._begin_watch(request, tell))
                return None
            case wire.Ask():
                self.watches.ask(request.text)
            case wire.Unwatch():
                self.watches.end()
            case wire.Playback():
                self._report(request.frame)
        return wire.Ack(id=request.id)

    @property
    def _running(self) -> LiveTake:
        if self.take is None:
            raise StreamError("out_of_order", "there is no take yet", "open one first")
        return self.take

    async def _remark(self, prompt: str) -> str | None:
        # Looking for near words takes a while.
        return await asyncio.to_thread(self._model.remark, prompt)

    async def _open(self, request: wire.Open | wire.Restart) -> wire.Ack:
        """Begin a take in place of the one before; if it cannot begin, that one goes on."""
        note, seed = None, request.seed
        if isinstance(request, wire.Open):
            name = request.start
            prompt, settings = request.prompt, request.settings.model_dump(exclude_none=True)
            note = await self._remark(prompt)
        else:
            name = self._running.opening.start
            prompt, settings = self._running.wanted()
            seed = self._running.opening.seed if seed is None else seed
        opening = Opening(request.id, self._count + 1, prompt, seed or 0, settings, name)
        start: Start | None = None
        if name is not None:
            path = self._shelf.find_start(self.name, name)
            start = await asyncio.to_thread(self._model.read_sent, path)
        loop = asyncio.get_running_loop()

        def post(take: LiveTake, item: Item) -> None:
            loop.call_soon_threadsafe(self._put, take, item)

        ahead = self._limits.ahead
        take = await asyncio.to_thread(
            LiveTake, self._model, self._takes, opening, ahead, post, start
        )
        if self.take is not None:
            await asyncio.to_thread(self.take.close)
        self._count += 1
        self.take = take
        name = take.recording.folder.name
        return wire.Ack(id=request.id, take=self._count, recording=name, note=note)

    def _put(self, take: LiveTake, item: Item) -> None:
        take.outgoing.put(item)
        if self.client is not None:
            self.client.wake()

    async def _change_prompt(self, request: wire.Prompt) -> wire.Ack:
        take, note = self._running, await self._remark(request.text)
        event = Requested(
            "prompt",
            request.text,
            request.at,
            transition=request.transition,
            request=request.id,
        )
        return _due(request, take.submit(event), note)

    def _steer(self, request: wire.Set | wire.Pause | wire.Resume) -> Boundary:
        take = self._running
        if isinstance(request, wire.Set):
            values = request.settings.model_dump(exclude_none=True)
            return take.submit(
                *(
                    Requested(key, value, request.at, request=request.id)
                    for key, value in values.items()
                )
            )
        return take.pause() if isinstance(request, wire.Pause) else take.resume()

    def _report(self, frame: wire.FrameId) -> None:
        take = self._running
        if frame.take > self._count:
            problem = f"there is no take {frame.take} yet"
            raise StreamError("out_of_order", problem, "report frames that came")
        if frame.take < self._count:
            return  # on its way when the new take began
        take.outgoing.report(frame.index)
        take.grant()
        if self.client is not None:
            self.client.wake()

    def _keep(self, request: wire.Save | wire.Still, tell: Tell) -> None:
        """Save what was sent up to now; the answer comes when it is there."""
        take, sent = self._running, self._running.outgoing.sent
        if self._saving >= SAVES_PENDING:
            problem = f"{SAVES_PENDING} files are being saved"
            raise StreamError("too_fast", problem, "wait for one of them")
        self._spawn(self._kept(request, take, sent, tell))

    async def _begin_watch(self, request: wire.Watch, tell: Tell) -> None:
        """Nothing else waits for a captioner that is being loaded."""
        try:
            tell(await self.watches.begin(request))
        except Exception as error:
            tell(failure(error, request.id))

    def _say(self, message: wire.ServerMessage) -> None:
        if self.client is not None:
            self.client.tell(message)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _kept(
        self, request: wire.Save | wire.Still, take: LiveTake, sent: int, tell: Tell
    ) -> None:
        shelf, number, note = self._shelf, take.opening.number, None
        self._saving += 1
        try:
            if isinstance(request, wire.Save):
                file, note = await asyncio.to_thread(
                    shelf.save_film, self.name, number, take.recording, sent, request.seconds
                )
            else:
                index = _frame_of(request, number, sent)
                file = await asyncio.to_thread(
                    shelf.save_still, self.name, number, take.recording, index
                )
        except Exception as error:
            tell(failure(error, request.id))
        else:
            tell(wire.Ack(id=request.id, file=file, note=note))
        finally:
            self._saving -= 1


def _due(request: wire.Request, boundary: Boundary, note: str | None = None) -> wire.Ack:
    return wire.Ack(id=request.id, chunk=boundary.chunk, time=boundary.time, note=note)


def _frame_of(request: wire.Still, take: int, sent: int) -> int:
    """Index of the frame to be kept, of a take of which so many were sent."""
    if request.frame is None:
        index = sent - 1
    elif request.frame.take == take:
        index = request.frame.index
    else:
        problem = f"take {request.frame.take} is not the one that runs"
        raise StreamError("nothing_recorded", problem, f"take {take} runs")
    if not 0 <= index < sent:
        problem = f"frame {index} was not sent" if sent else "no frame was sent yet"
        raise StreamError("nothing_recorded", problem, "choose one that came")
    return index
