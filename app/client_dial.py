"""Where a server is, how a connection to it is made, and what one is told where that fails."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from websockets.exceptions import InvalidHandshake, InvalidStatus, WebSocketException
from websockets.sync.client import ClientConnection, connect

from longtake.app.wire import (
    HELLO_SECONDS,
    MAX_PAYLOAD,
    PROTOCOL,
    Ack,
    EncodedFrame,
    Error,
    Queued,
    Ready,
    Resumption,
    ServerMessage,
)
from longtake.app.wire_coding import (
    FRAME_HEADER,
    decode_client,
    decode_server,
    encode,
    unpack_frame,
)
from longtake.app.wire_faults import ERRORS, broken
from longtake.streaming import StreamError

PATH = "/stream"
"""Where on a server the WebSocket is."""
# Of every hello; the other requests' are above it.
HELLO_ID = 1
# Codes of errors after which another try may succeed.
RETRYABLE = {"unreachable", *(code for code, fault in ERRORS.items() if fault.retryable)}
# Seconds of wall time.
OPEN_SECONDS = 10
CLOSE_SECONDS = 3
_SCHEMES = {
    "http": ("ws", "http"),
    "https": ("wss", "https"),
    "ws": ("ws", "http"),
    "wss": ("wss", "https"),
}


@dataclass(frozen=True)
class Address:
    """Of a server.

    Attributes:
        stream: the WebSocket's URL.
        files: what the path of a saved file is put behind.
        token: the access token in it, or None.
    """

    stream: str
    files: str
    token: str | None = None

    @classmethod
    def of(cls, url: str) -> Address:
        """From a URL as people write it, or as the server prints it, with ``?token=``.

        Raises:
            StreamError: ``bad_url``.
        """
        try:
            parts = urlsplit(url)
            # Reading the port refuses one that is no number.
            named = parts.hostname is not None and parts.port != 0
        except ValueError:
            named = False
        if not named or parts.scheme not in _SCHEMES or parts.path not in {"", "/", PATH}:
            hint = "write it as ws://127.0.0.1:7860, or wss:// for a server with TLS"
            raise StreamError("bad_url", f"{url!r} is no address of a server", hint)
        socket_scheme, file_scheme = _SCHEMES[parts.scheme]
        place = parts.netloc.rpartition("@")[2]
        token = parse_qs(parts.query).get("token", [None])[0]
        return cls(f"{socket_scheme}://{place}{PATH}", f"{file_scheme}://{place}", token)


def dial(
    address: Address,
    token: str | None,
    resume: Resumption | None,
    queued: Callable[[int], object],
) -> tuple[ClientConnection, Ready]:
    """Connect and get a place, or the one that was lost.

    Args:
        address: of the server.
        token: its access token, if it has one.
        resume: the session to go on with.
        queued: called with the place in the queue whenever that changes.

    Returns:
        The connection, to be closed by the caller, and what the server said of itself.

    Raises:
        StreamError: ``unreachable``: there is no server; ``bad_message``: it breaks the protocol;
            or as it refuses.
    """
    last = resume.model_dump() if resume else None
    hello = {"type": "hello", "id": HELLO_ID, "version": PROTOCOL, "token": token, "resume": last}
    greeting = encode(decode_client(json.dumps(hello)))
    connection = None
    try:
        connection = _open_connection(address)
        connection.send(greeting)
        return connection, _wait_until_ready(connection, queued)
    except BaseException as error:
        if connection is not None:
            connection.close()
        if isinstance(error, OSError | WebSocketException):
            raise _unreachable(address.stream, error) from None
        raise


def _wait_until_ready(connection: ClientConnection, queued: Callable[[int], object]) -> Ready:
    patience: float | None = HELLO_SECONDS
    while True:
        match read_message(connection.recv(patience)):
            case Ready() as ready:
                return ready
            case Ack():
                patience = None
            case Queued() as place:
                queued(place.position)
            case Error() as error:
                raise as_error(error)
            case _:
                raise broken("it does not say ready")


def read_message(data: str | bytes) -> ServerMessage | EncodedFrame:
    """What the server sent.

    Raises:
        StreamError: ``bad_message``: it is neither a message nor a frame.
    """
    try:
        return unpack_frame(data) if isinstance(data, bytes) else decode_server(data)
    except StreamError as error:
        raise broken(error.message) from None


def as_error(message: Error) -> StreamError:
    """The error that a message tells of."""
    return StreamError(message.code, message.message, message.hint)


def _open_connection(address: Address) -> ClientConnection:
    opened = connect(
        address.stream,
        # Pictures are compressed already.
        compression=None,
        max_size=FRAME_HEADER.size + MAX_PAYLOAD,
        open_timeout=OPEN_SECONDS,
        close_timeout=CLOSE_SECONDS,
    )
    # To enter it is how the library wants it used; to close it is all that leaving would do.
    return ExitStack().enter_context(opened)


def _unreachable(url: str, error: Exception) -> StreamError:
    """The failure to connect, for a person to read."""
    match error:
        case InvalidStatus():
            problem = f"{url} answers with HTTP status {error.response.status_code}"
            hint = "check the address: it should be that of a Longtake server"
        case ConnectionRefusedError():
            problem = f"nothing listens at {url}"
            hint = "start the server, or check host and port"
        case ssl.SSLCertVerificationError():
            problem = f"the certificate of {url} is not trusted ({error.verify_message})"
            hint = "set SSL_CERT_FILE to the certificate if it is your own"
        case socket.gaierror():
            problem = f"the host of {url} is not known"
            hint = "check its name, and the network"
        case TimeoutError():
            problem = f"{url} does not answer"
            hint = "check host and port, and the network"
        case InvalidHandshake() | ssl.SSLError():
            problem = f"{url} does not speak WebSocket ({error})"
            hint = "check the address, and whether it is ws:// or wss://"
        case _:
            problem = f"{url} cannot be reached ({error})"
            hint = "check host and port, and the network"
    return StreamError("unreachable", problem, hint)
