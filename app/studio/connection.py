"""One WebSocket: what comes in is read, checked and carried out; one task sends what goes out."""

from __future__ import annotations

import asyncio
import logging
from collections import deque

from starlette.types import Message
from starlette.websockets import WebSocket, WebSocketDisconnect

from longtake.app import wire
from longtake.app.studio.access import fingerprint, is_let_in
from longtake.app.studio.bucket import Bucket
from longtake.app.studio.failures import failure
from longtake.app.studio.outgoing import Item
from longtake.app.studio.visit import Visit
from longtake.app.studio.visits import Visits
from longtake.app.wire_coding import decode_client, encode, pack_frame, unpack_shown
from longtake.app.wire_faults import Reason, RequestError
from longtake.streaming import StreamError

# Answers that may wait to be sent before no more requests are read.
MAX_REPLIES = 64


class Connection:
    """Serves one WebSocket from its opening to its end.

    Args:
        socket: not yet accepted.
        visits: the places there are.
        knows_token: whether the request that opened it proved to know the access token, so that
            ``hello`` need not.
    """

    def __init__(self, socket: WebSocket, visits: Visits, knows_token: bool) -> None:
        self._socket = socket
        self._visits = visits
        self._settings = visits.settings
        self._knows_token = knows_token
        self._visit: Visit | None = None
        self._reason: Reason | None = None
        self._replies: deque[str] = deque()
        self._something_to_send = asyncio.Event()
        self._room_for_replies = asyncio.Event()
        self._room_for_replies.set()
        self._sending_since: float | None = None
        self._requests = Bucket(self._settings.requests, self._settings.requests, visits.now)
        self._frames = Bucket(self._settings.requests, self._settings.requests, visits.now)
        self._refusals = Bucket(10, self._settings.refusals, visits.now)
        self._tasks: list[asyncio.Task[None]] = []
        self._cut: asyncio.TimerHandle | None = None

    async def serve(self) -> None:
        """Return when the connection has ended."""
        await self._socket.accept()
        reader, writer = asyncio.create_task(self._read()), asyncio.create_task(self._write())
        self._tasks = [reader, writer]
        try:
            await asyncio.wait([reader])
        finally:
            self._visits.leave(self)
            if self._cut is not None:
                self._cut.cancel()
            for task in self._tasks:
                task.cancel()
            for outcome in await asyncio.gather(*self._tasks, return_exceptions=True):
                if isinstance(outcome, Exception) and not isinstance(outcome, WebSocketDisconnect):
                    logging.getLogger(__name__).error("a connection failed", exc_info=outcome)

    # --- for visits ---

    def admit(self, visit: Visit, in_force: wire.Applied | None) -> None:
        """It has its place, and perhaps a take that runs already."""
        self._visit = visit
        config, spec = self._visits.model.generator.config, self._visits.model.generator.spec
        self.tell(
            wire.Ready(
                version=wire.PROTOCOL,
                session=visit.name,
                resume_token=visit.resume_token,
                received=visit.received,
                model=self._visits.model.folder.name,
                width=config.width,
                height=config.height,
                rate=spec.rate,
                chunk=spec.chunk_units,
                limits=self._visits.limits,
            )
        )
        if in_force is not None:
            self.tell(in_force)

    def tell(self, message: wire.ServerMessage) -> None:
        """Send a message; after the reason to close there is none."""
        if self._reason is None:
            self._replies.append(encode(message))
            if len(self._replies) >= MAX_REPLIES:
                self._room_for_replies.clear()
            self.wake()

    def wake(self) -> None:
        """There may be something to send."""
        self._something_to_send.set()

    def close(self, reason: Reason) -> None:
        """Say bye after the answers that wait; whoever does not take it is cut off."""
        if self._reason is not None:
            return
        self._reason = reason
        self.wake()
        loop = asyncio.get_running_loop()
        self._cut = loop.call_later(self._settings.closing, self._cut_off)

    def blocked(self, now: float) -> float:
        """Seconds for which the client has not taken what is sent to it."""
        return 0.0 if self._sending_since is None else now - self._sending_since

    @property
    def caught_up(self) -> bool:
        """Whether no message waits to be sent."""
        return not self._replies

    # --- out ---

    async def _write(self) -> None:
        while True:
            while (data := self._next()) is not None:
                await self._send(data)
            if self._reason is not None:
                await self._send(encode(wire.Goodbye(reason=self._reason)))
                await self._socket.close()
                return
            self._something_to_send.clear()
            await self._something_to_send.wait()

    def _next(self) -> str | bytes | None:
        """What to send now: answers come first, the take's frames and receipts in their order."""
        if self._replies:
            reply = self._replies.popleft()
            if len(self._replies) < MAX_REPLIES:
                self._room_for_replies.set()
            return reply
        visit = self._visit
        if self._reason is not None or visit is None or visit.take is None:
            return None
        item: Item | None = visit.take.outgoing.take() if visit.client is self else None
        if isinstance(item, wire.EncodedFrame):
            return pack_frame(item)
        return encode(item) if item is not None else None

    async def _send(self, data: str | bytes) -> None:
        self._sending_since = self._visits.now()
        if isinstance(data, bytes):
            await self._socket.send_bytes(data)
        else:
            await self._socket.send_text(data)
        self._sending_since = None

    def _cut_off(self) -> None:
        for task in self._tasks:
            task.cancel()

    # --- in ---

    async def _read(self) -> None:
        try:
            async with asyncio.timeout(self._settings.hello):
                hello = await self._receive()
            self._greet(decode_client(_text(hello)))
        except TimeoutError:
            self.close("refused")
        except RequestError as error:
            self._refuse(error)
            self.close("refused")
        while True:
            message = await self._receive()
            await self._room_for_replies.wait()
            if self._reason is not None:
                continue
            try:
                if (data := message.get("bytes")) is not None:
                    self._show(data)
                else:
                    await self._answer(decode_client(_text(message)))
            except RequestError as error:
                self._refuse(error)

    async def _receive(self) -> Message:
        message = await self._socket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005))
        return message

    def _greet(self, hello: wire.ClientMessage) -> None:
        if not isinstance(hello, wire.Hello):
            problem = f"{hello.type} came before hello"
            raise RequestError("out_of_order", problem, "say hello first", hello.id)
        given = hello.token or ""
        if not self._knows_token and not is_let_in(self._settings.token, fingerprint(given)):
            problem = "the access token is wrong" if given else "an access token is needed"
            hint = "use the one that the server printed when it started"
            raise RequestError("bad_token", problem, hint, hello.id)
        try:
            self._visits.arrive(self, hello)
        except StreamError as error:
            self.tell(failure(error, hello.id))
            self.close("refused")

    async def _answer(self, request: wire.ClientMessage) -> None:
        visit = self._visit
        if isinstance(request, wire.Hello):
            raise RequestError("out_of_order", "hello was said", "say it only once", request.id)
        if visit is None and not isinstance(request, wire.Bye):
            problem = f"{request.type} came before there was a place"
            raise RequestError("out_of_order", problem, "wait for ready", request.id)
        if visit is not None:
            visit.count(request.id)
        if not self._requests.take():
            problem = "too many requests came within a second"
            hint = f"send at most {self._settings.requests}"
            raise RequestError("too_fast", problem, hint, request.id)
        if isinstance(request, wire.Bye):
            if visit is not None and not visit.ended:
                await asyncio.shield(self._visits.end(visit))
            self.tell(wire.Ack(id=request.id))
            self.close("asked")
        elif visit is not None:
            await asyncio.shield(visit.begin(request, self.tell, self._visits.now()))

    def _show(self, data: bytes) -> None:
        """A frame for the captioner has come; those that come too fast are dropped."""
        frame, visit = unpack_shown(data), self._visit
        if visit is None:
            raise RequestError("out_of_order", "a frame came before there was a place", "wait")
        if visit.ended or not self._frames.take():
            return
        try:
            visit.show(frame, self._visits.now())
        except StreamError as error:
            raise RequestError("out_of_order", error.message, error.hint) from None

    def _refuse(self, error: RequestError) -> None:
        """Tell why; what has an id was received all the same."""
        if self._visit is not None and error.request_id is not None:
            self._visit.received = max(self._visit.received, error.request_id)
        self.tell(failure(error, error.request_id))
        if not self._refusals.take():
            self.close("refused")


def _text(message: Message) -> str:
    text: str | None = message.get("text")
    if text is None:
        raise RequestError("bad_message", "a binary message came", "send text")
    return text
