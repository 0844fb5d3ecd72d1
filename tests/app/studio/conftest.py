"""A real server on a free loopback port, and a client that speaks the protocol to it."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

import longtake
from longtake.app import wire
from longtake.app.api import Model
from longtake.app.studio.listening import listen
from longtake.app.studio.live import LiveTake
from longtake.app.studio.server import Server, make_app
from longtake.app.studio.settings import StudioSettings
from longtake.app.studio.visits import Visits
from longtake.app.studio.watching import Captioners
from longtake.app.takes import TakesFolder
from longtake.app.wire_coding import decode_server, encode, unpack_frame

# Only a deadlock lasts this long.
DEADLOCK_SECONDS = 10.0
PROMPT = "a red ball bounces on green grass"
RATE = 80

Message = wire.ServerMessage | wire.EncodedFrame


class Client:
    """One connection; requests get their ids, and messages are kept in their order.

    Metrics come whenever a second is over, so they are kept apart. While `reporting`, every frame
    is reported as shown when it is read.
    """

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.got: list[Message] = []
        self.metrics: list[wire.Metrics] = []
        self.last_id = 0
        self.reporting = True

    def send(self, kind: type[wire.Request], **fields: Any) -> int:
        """Send a request; its id."""
        self.last_id += 1
        self.socket.send(encode(kind(id=self.last_id, **fields)))  # type: ignore[arg-type]
        return self.last_id

    def next(self) -> Message:
        """The next message."""
        while isinstance(message := self._receive(), wire.Metrics):
            self.metrics.append(message)
        self.got.append(message)
        if isinstance(message, wire.EncodedFrame) and self.reporting:
            with suppress(ConnectionClosed):
                self.report(message)
        return message

    def _receive(self) -> Message:
        data = self.socket.recv(timeout=DEADLOCK_SECONDS)
        return unpack_frame(data) if isinstance(data, bytes) else decode_server(data)

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
        self.send(wire.Hello, version=wire.PROTOCOL, **fields)
        return self.until(lambda each: isinstance(each, wire.Ready))

    def open(self, **fields: Any) -> wire.Ack:
        """Begin a take."""
        return self.ask(wire.Open, **{"prompt": PROMPT, **fields})

    @property
    def take(self) -> int:
        """The number of the newest take."""
        return max((each.take or 0 for each in self.got if isinstance(each, wire.Ack)), default=0)

    def frame(self, index: int) -> wire.EncodedFrame:
        """Read up to a frame, unless it came already; it."""
        frames = [frame for frame in self.frames(self.take) if frame.index == index]
        return (
            frames[0]
            if frames
            else self.until(
                lambda each: isinstance(each, wire.EncodedFrame) and each.index == index
            )
        )

    def applied(self) -> wire.Applied:
        """Read up to a receipt; it."""
        return self.until(lambda each: isinstance(each, wire.Applied))

    def report(self, frame: wire.EncodedFrame) -> None:
        """Say that a frame was shown."""
        shown = wire.FrameId(take=frame.take, index=frame.index)
        self.send(wire.Playback, frame=shown, buffer_ms=0)

    def rest(self) -> list[Message]:
        """Read to the end of the connection; what came."""
        before, self.reporting = len(self.got), False
        try:
            while True:
                self.next()
        except ConnectionClosed:
            return self.got[before:]

    def frames(self, take: int = 1) -> list[wire.EncodedFrame]:
        """The frames of a take that came."""
        frames = [each for each in self.got if isinstance(each, wire.EncodedFrame)]
        return [each for each in frames if each.take == take]

    def indices(self, take: int = 1) -> list[int]:
        """Of those frames."""
        return [frame.index for frame in self.frames(take)]


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

    @property
    def take(self) -> LiveTake:
        """That of the only visit."""
        (visit,) = self.visits.standing
        assert visit.take is not None
        return visit.take

    def connect(self, **options: Any) -> Client:
        """A connection that has said nothing yet."""
        url = f"ws://{self.address}/stream"
        options = {
            "compression": None,
            "max_size": None,
            "max_queue": None,
            "proxy": None,
            **options,
        }
        return Client(self.connections.enter_context(connect(url, **options)))

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait for what the server is about to do."""
        give_up = time.monotonic() + DEADLOCK_SECONDS
        while not condition():
            assert time.monotonic() < give_up, "it never happened"
            time.sleep(0.001)

    def visitor(self, **fields: Any) -> Client:
        """A connection that has its place."""
        client = self.connect()
        client.hello(**fields)
        return client


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    """For a server whose time is the test's."""
    return Clock()


def make_fast(folder: Path, copy: Path) -> Path:
    """A copy of a model's folder that makes 80 frames a second: a chunk of 8 lasts 0.1 s."""
    shutil.copytree(folder, copy)
    config = copy / "streaming.json"
    config.write_text(json.dumps(json.loads(config.read_text("utf-8")) | {"rate": RATE}), "utf-8")
    return copy


@pytest.fixture(scope="session")
def fast_model(tiny_model, tmp_path_factory) -> Path:
    """The tiny model's folder, fast."""
    return make_fast(tiny_model, tmp_path_factory.mktemp("models") / "fast")


@pytest.fixture
def rewrites(rewriting_model, tmp_path) -> Iterator[Model]:
    """A fast model that has a rewriter, loaded."""
    with longtake.open(make_fast(rewriting_model, tmp_path / "fast"), dtype="fp32") as opened:
        yield opened


@pytest.fixture
def model(fast_model) -> Iterator[Model]:
    """Loaded."""
    with longtake.open(fast_model, dtype="fp32") as opened:
        yield opened


@contextmanager
def running(
    model: Model,
    takes: TakesFolder,
    settings: StudioSettings,
    now: Callable[[], float],
    captioners: Captioners | None = None,
) -> Iterator[Studio]:
    """A server in a thread of its own."""
    socket = listen(settings)
    app = make_app(model, settings, takes, now, captioners)
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

        def start(
            now: Callable[[], float] = time.monotonic,
            captioners: Captioners | None = None,
            makes: Model = model,
            **settings: Any,
        ) -> Studio:
            takes = TakesFolder(tmp_path / "takes")
            settings = {"port": 0, "tick": 0.02, "requests": 1000, "ahead": 0.0, **settings}
            allowed = StudioSettings(**settings)
            return stack.enter_context(running(makes, takes, allowed, now, captioners))

        yield start


@pytest.fixture
def studio(open_studio) -> Studio:
    """A server for one visitor, who gets 16 frames ahead."""
    return open_studio()
