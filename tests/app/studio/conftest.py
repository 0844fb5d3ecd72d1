"""A real server on a free loopback port, and a client that speaks the protocol to it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

import longtake
from longtake.app import wire
from longtake.app.api import Model
from longtake.app.studio.server import Server, listen, make_app
from longtake.app.studio.settings import StudioSettings
from longtake.app.studio.visits import Visits
from longtake.app.takes import TakesFolder
from longtake.app.wire_coding import decode_server, encode, unpack_frame

# Only a deadlock lasts this long.
DEADLOCK_SECONDS = 30.0
PROMPT = "a red ball bounces on green grass"

Message = wire.ServerMessage | wire.EncodedFrame


class Client:
    """One connection; requests get their ids, and messages are kept in their order.

    Metrics come whenever a second is over, so they are kept apart.
    """

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.got: list[Message] = []
        self.metrics: list[wire.Metrics] = []
        self.last_id = 0

    def send(self, kind: type[wire.Request], **fields: Any) -> int:
        """Send a request; its id."""
        self.last_id += 1
        self.socket.send(encode(kind(id=self.last_id, **fields)))  # type: ignore[arg-type]
        return self.last_id

    def next(self) -> Message:
        """The next message."""
        data = self.socket.recv(timeout=DEADLOCK_SECONDS)
        message: Message = unpack_frame(data) if isinstance(data, bytes) else decode_server(data)
        if isinstance(message, wire.Metrics):
            self.metrics.append(message)
            return self.next()
        self.got.append(message)
        return message

    def until(self, wanted: Callable[[Any], bool]) -> Any:
        """Read up to a message; it."""
        while not wanted(message := self.next()):
            pass
        return message

    def answer(self, request_id: int) -> Any:
        """Read up to the answer to a request; it."""
        kinds = (wire.Ack, wire.Error)
        return self.until(lambda each: isinstance(each, kinds) and each.id == request_id)

    def ask(self, kind: type[wire.Request], **fields: Any) -> Any:
        """Send a request and read up to its answer."""
        return self.answer(self.send(kind, **fields))

    def hello(self, **fields: Any) -> wire.Ready:
        """Say hello and wait for a place."""
        self.send(wire.Hello, version=1, **fields)
        return self.until(lambda each: isinstance(each, wire.Ready))

    def open(self, **fields: Any) -> wire.Ack:
        """Begin a take."""
        return self.ask(wire.Open, **{"prompt": PROMPT, **fields})

    def frame(self, index: int) -> wire.EncodedFrame:
        """Read up to a frame, reporting those before as shown."""
        while True:
            message = self.next()
            if isinstance(message, wire.EncodedFrame):
                if message.index >= index:
                    return message
                self.report(message)

    def report(self, frame: wire.EncodedFrame) -> None:
        """Say that a frame was shown."""
        shown = wire.FrameId(take=frame.take, index=frame.index)
        self.send(wire.Playback, frame=shown, buffer_ms=0)

    def rest(self) -> list[Message]:
        """Read to the end of the connection; what came."""
        before = len(self.got)
        try:
            while True:
                self.next()
        except ConnectionClosed:
            return self.got[before:]

    def frames(self, take: int = 1) -> list[int]:
        """Indices of the frames of a take that came."""
        frames = [each for each in self.got if isinstance(each, wire.EncodedFrame)]
        return [each.index for each in frames if each.take == take]


class Studio:
    """A running server."""

    def __init__(self, server: Server, visits: Visits, port: int, takes: TakesFolder) -> None:
        self.server = server
        self.visits = visits
        self.port = port
        self.takes = takes
        self.connections = ExitStack()

    @property
    def address(self) -> str:
        """Where it is, after the scheme."""
        return f"127.0.0.1:{self.port}"

    def connect(self, **options: Any) -> Client:
        """A connection that has said nothing yet."""
        url = f"ws://{self.address}/stream"
        options = {"compression": None, "max_size": None, "proxy": None, **options}
        return Client(self.connections.enter_context(connect(url, **options)))

    def visitor(self, **fields: Any) -> Client:
        """A connection that has its place."""
        client = self.connect()
        client.hello(**fields)
        return client


@pytest.fixture(scope="session")
def model(tiny_model) -> Iterator[Model]:
    """The tiny model: 8 frames a chunk and a second."""
    with longtake.open(tiny_model, dtype="fp32") as opened:
        yield opened


@contextmanager
def running(model: Model, takes: TakesFolder, settings: StudioSettings) -> Iterator[Studio]:
    """A server in a thread of its own."""
    socket = listen(settings)
    app = make_app(model, settings, takes)
    server = Server(app, settings)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]})
    thread.start()
    studio = Studio(server, app.state.visits, socket.getsockname()[1], takes)
    try:
        with studio.connections:
            yield studio
    finally:
        server.should_exit = True
        thread.join(DEADLOCK_SECONDS)
        assert not thread.is_alive()


@pytest.fixture
def open_studio(model, tmp_path) -> Iterator[Callable[..., Studio]]:
    """Start a server that allows what the arguments say."""
    with ExitStack() as stack:

        def start(**settings: Any) -> Studio:
            takes = TakesFolder(tmp_path / "takes")
            wanted = StudioSettings(**{"port": 0, "tick": 0.05, "requests": 1000, **settings})
            return stack.enter_context(running(model, takes, wanted))

        yield start


@pytest.fixture
def studio(open_studio) -> Studio:
    """A server for one visitor."""
    return open_studio()
