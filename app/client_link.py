"""A client's end of the WebSocket: requests and answers over connections that may break."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from websockets.exceptions import ConnectionClosed, ConnectionClosedError
from websockets.frames import CloseCode
from websockets.sync.client import ClientConnection

from longtake.app.client_dial import (
    CLOSE_SECONDS,
    HELLO_ID,
    RETRYABLE,
    Address,
    as_error,
    dial,
    read_message,
)
from longtake.app.client_inbox import Inbox, decode
from longtake.app.frames import Frame
from longtake.app.wire import (
    Ack,
    Applied,
    ClientMessage,
    EncodedFrame,
    Error,
    Goodbye,
    Metrics,
    Notice,
    Open,
    Prompt,
    Ready,
    Restart,
    Resume,
    Resumption,
    Save,
    ServerMessage,
    Still,
)
from longtake.app.wire_coding import decode_client, encode
from longtake.app.wire_faults import REASONS, Reason, broken
from longtake.streaming import StreamError

# Seconds of wall time before a lost connection is tried again: at first, and at most.
FIRST_RETRY = 0.1
LAST_RETRY = 2.0
# Where these say why the connection was closed by this side, another one would end so, too.
_REFUSED = {CloseCode.PROTOCOL_ERROR, CloseCode.INVALID_DATA, CloseCode.MESSAGE_TOO_BIG}


@dataclass
class _Asked:
    """A request that waits for its answer."""

    request: ClientMessage
    answer: Ack | StreamError | None = None


class Link:
    """One session on a server; every method may be called from any thread.

    A thread of its own reads what comes, and resumes the session when the connection is lost.

    Args:
        address: of the server.
        token: its access token, if it has one.
        queued: called with the place in the queue whenever that changes, before this returns.

    Raises:
        StreamError: there is no connection, or no place.

    Attributes:
        ready: what the server said of the model and its limits.
        inbox: what came of the take; guarded by ``changed``.
        changed: notified of whatever comes.
    """

    def __init__(
        self, address: Address, token: str | None, queued: Callable[[int], object]
    ) -> None:
        self.address = address
        self.token = token
        self.inbox = Inbox()
        self.changed = threading.Condition()
        self._dial = partial(dial, address, token, queued=queued)
        # Held from the choice of an id until its request is sent, so that ids go out in order.
        self._sending = threading.Lock()
        self._last_id = HELLO_ID
        self._asked: dict[int, _Asked] = {}
        self._report_at = 0.0
        self._goodbye: Reason | None = None
        self._closing = False
        self._ended: StreamError | None = None
        self._connection, self.ready = self._dial(None)
        self._reader = threading.Thread(target=self._run, name="longtake-client", daemon=True)
        self._reader.start()

    def request(self, kind: str, **fields: Any) -> Ack:  # noqa: ANN401
        """Ask for something, and wait for the answer, over another connection if need be.

        Args:
            kind: the message's type.
            fields: its other fields but ``id``.

        Raises:
            StreamError: as the server answers, or the session has ended.
        """
        with self._sending:
            asked = _Asked(self._message(kind, **fields))
            with self.changed:
                self._ensure_open()
                self._asked[asked.request.id] = asked
                self._expect(asked.request)
                self.changed.notify_all()
            self._send(asked.request)
        with self.changed:
            self.changed.wait_for(lambda: asked.answer is not None)
        if isinstance(asked.answer, StreamError):
            raise asked.answer
        assert asked.answer is not None
        return asked.answer

    def next_frame(self) -> Frame:
        """The next frame of the take; waits for it, and reports those handed out.

        Raises:
            StreamError: no take was begun; or, after the last frame that came, why there are no
                more.
        """
        coded = None
        while coded is None:
            with self.changed:
                while not self._has_news() and self._report_due() != 0:
                    self.changed.wait(self._report_due())
                if len(self.inbox):
                    coded, prompt = self.inbox.take()
                    self.changed.notify_all()
                elif self._has_news():
                    self._raise_end()
            self._report()
        try:
            return decode(coded, prompt, self.ready)
        except StreamError:
            self.close()
            raise

    def close(self) -> None:
        """End the session. May be repeated."""
        with self.changed:
            self._closing = True
            self.changed.notify_all()
        with self._sending:
            self._send(self._message("bye"))
        # The server says bye, too, and closes.
        self._reader.join(CLOSE_SECONDS)
        self._connection.close()
        self._reader.join(CLOSE_SECONDS)

    # --- sending ---

    def _message(self, kind: str, **fields: Any) -> ClientMessage:  # noqa: ANN401
        """A request under the next id, checked as the server would."""
        self._last_id += 1
        return decode_client(json.dumps({"type": kind, "id": self._last_id, **fields}))

    def _send(self, request: ClientMessage) -> None:
        # What a lost connection swallows is sent again over the next one.
        with suppress(ConnectionClosed):
            self._connection.send(encode(request))

    def _expect(self, request: ClientMessage, lost: int | None = None) -> None:
        if isinstance(request, Open | Prompt | Restart):
            self.inbox.expect(request.id, getattr(request, "at", 0.0), lost)

    def _report(self) -> None:
        """Tell the server of the last frame handed out, if it is time."""
        with self._sending:
            with self.changed:
                if self._report_due() != 0:
                    return
                limits, rate = self.ready.limits, self.ready.rate
                # Often enough for the film to flow, and to leave room for other requests.
                pause = min(1.0, max(limits.ahead / rate / 4, 2 / limits.requests))
                self._report_at = time.monotonic() + pause
                frame = self.inbox.report().model_dump()
                buffer_ms = min(round(1000 * len(self.inbox) / rate), 3_600_000)
            self._send(self._message("playback", frame=frame, buffer_ms=buffer_ms))

    def _report_due(self) -> float | None:
        """Seconds until the next report, or None where there is nothing to report."""
        if self.inbox.reported:
            return None
        return max(0.0, self._report_at - time.monotonic())

    # --- receiving ---

    def _run(self) -> None:
        """Read until the session ends, over as many connections as it takes."""
        error = StreamError("closed", "the session is closed", "connect again")
        try:
            while self._read():
                self._resume()
        except StreamError as caught:
            error = caught
        except Exception as caught:  # nobody else would hear of it
            error = StreamError("internal", f"the client failed ({caught!r})", "report this")
        with self.changed:
            self._ended = error
            for asked in self._asked.values():
                asked.answer = error
            self._asked.clear()
            self.changed.notify_all()
        self._connection.close()

    def _read(self) -> bool:
        """Read until the connection ends; whether to go on over another one."""
        try:
            for data in self._connection:
                message = read_message(data)
                with self.changed:
                    self._handle(message)
                    self.changed.notify_all()
        except ConnectionClosedError as error:
            if error.sent and error.sent.code in _REFUSED and not error.rcvd_then_sent:
                raise broken(error.sent.reason or "its messages cannot be read") from None
        with self.changed:
            goodbye, shown = self._goodbye, self.inbox.shown
            if self._closing or goodbye == "asked":
                return False
            if goodbye == "stalled":
                # Until frames are taken again, or something is asked for, it would stall again.
                self.changed.wait_for(
                    lambda: (
                        self._closing
                        or self._asked
                        or self.inbox.shown != shown
                        or not len(self.inbox)
                    )
                )
            elif goodbye is not None:
                reason = REASONS[goodbye].replace("`", "")
                raise StreamError(
                    "closed", f"the server ended the session: {reason}", "connect again"
                )
            return not self._closing

    def _handle(self, message: ServerMessage | EncodedFrame) -> None:
        match message:
            case EncodedFrame():
                self.inbox.put(message, self.ready.limits.ahead)
            case Ack():
                self._answer(message.id, message)
            case Error(id=None):
                self.inbox.failure = as_error(message)
            case Error(id=int(number)):
                self._answer(number, as_error(message))
            case Applied():
                self.inbox.apply(message)
            case Metrics():
                self.inbox.metrics = message
            case Notice(paused=True):
                self.inbox.resting = StreamError("idle", message.message, message.hint)
            case Notice():
                told = StreamError("notice", message.message, message.hint)
                logging.getLogger(__name__).warning("%s", told)
            case Goodbye():
                self._goodbye = message.reason
            case _:
                raise broken(f"{message.type} came after ready")

    def _answer(self, request_id: int, answer: Ack | StreamError) -> None:
        asked = self._asked.get(request_id)
        if asked is None:  # of a report; one that was refused is made again
            self.inbox.reported &= isinstance(answer, Ack)
            return
        if isinstance(answer, StreamError):
            self.inbox.forget(request_id)
        elif isinstance(asked.request, Open | Restart):
            if answer.take is None:
                raise broken("a take has no number")
            self.inbox.begin(answer.take, request_id)
        elif isinstance(asked.request, Resume):
            self.inbox.resting = None
        elif isinstance(asked.request, Save | Still) and answer.file is None:
            raise broken("a saved file has no name")
        del self._asked[request_id]
        asked.answer = answer

    def _has_news(self) -> bool:
        """Whether there is a frame, or a reason why none will come."""
        inbox = self.inbox
        stopped = inbox.failure or inbox.resting or self._ended
        return len(inbox) > 0 or not inbox.begun or bool(stopped)

    def _raise_end(self) -> None:
        missing = StreamError("out_of_order", "no take was begun", "open one first")
        raise self.inbox.failure or self._ended or self.inbox.resting or missing

    def _ensure_open(self) -> None:
        if self._ended:
            raise self._ended

    # --- connecting ---

    def _resume(self) -> None:
        """Go on with the session over another connection; returns early when it is to be closed.

        Raises:
            StreamError: the session is lost.
        """
        grace = self.ready.limits.grace
        deadline = time.monotonic() + grace
        delay = FIRST_RETRY
        while True:
            try:
                connection, ready = self._dial(self._resumption())
                break
            except StreamError as error:
                if error.code not in RETRYABLE:
                    raise
                if time.monotonic() + delay > deadline:
                    problem = f"the connection was lost for {grace:g} s ({error.message})"
                    raise StreamError("no_session", problem, "connect again") from None
            with self.changed:
                if self.changed.wait_for(lambda: self._closing, delay):
                    return
            delay = min(2 * delay, LAST_RETRY)
        with self._sending:
            for request in self._take_up(connection, ready):
                self._send(request)
        if self._closing:
            connection.close()

    def _resumption(self) -> Resumption:
        ready, lacks = self.ready, self.inbox.next
        return Resumption(session=ready.session, resume_token=ready.resume_token, next=lacks)

    def _take_up(self, connection: ClientConnection, ready: Ready) -> list[ClientMessage]:
        """Use another connection; what is to be sent again over it, in order."""
        with self.changed:
            self._connection, self.ready, self._goodbye = connection, ready, None
            # A report may have been lost.
            self.inbox.reported = self.inbox.shown is None
            unanswered = list(self._asked.values())
            self._asked.clear()
            for asked in unanswered:
                request = asked.request
                if request.id <= ready.received and not isinstance(
                    request, Open | Restart | Save | Still
                ):
                    # It was heard, and its answer would have said little.
                    asked.answer = Ack(id=request.id)
                    logging.getLogger(__name__).warning(
                        "the answer to %s was lost with the connection", request.type
                    )
                    continue
                self._last_id += 1
                asked.request = request.model_copy(update={"id": self._last_id})
                self._asked[self._last_id] = asked
                self._expect(asked.request, request.id)
            self.changed.notify_all()
            return [asked.request for asked in self._asked.values()]
