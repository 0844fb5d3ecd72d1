"""Makers of pictures, films and takes, a reader of films, and a server that follows a script."""

from __future__ import annotations

import io
import json
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Response
from websockets.sync.server import ServerConnection, serve

from longtake.app.recording import Recording
from longtake.app.takes import TakesFolder
from longtake.app.wire import (
    PROTOCOL,
    Ack,
    Applied,
    Bye,
    Codec,
    EncodedFrame,
    Error,
    Goodbye,
    Hello,
    Limits,
    Open,
    Playback,
    Ready,
)
from longtake.app.wire_coding import decode_client, encode, pack_frame
from longtake.app.wire_faults import ErrorCode
from longtake.streaming import Applied as LogEntry
from longtake.streaming import Event, StreamError

LEVELS = 50


def make_picture(index: int) -> NDArray[np.uint8]:
    """A grey frame, 48x32, whose level says its number, up to LEVELS."""
    return np.full((32, 48, 3), 5 * (index % LEVELS), np.uint8)


def read_numbers(pictures: Iterable[NDArray[np.uint8]]) -> list[int]:
    """The numbers of frames, whatever coding made of their levels."""
    return [round(float(each.mean()) / 5) for each in pictures]


def begin_take(takes: TakesFolder) -> Recording:
    """A take at 8 frames a second."""
    about = {"seed": 7, "prompt": "day", "model": "tiny", "conditions": {"device": "cpu"}}
    return takes.begin(48, 32, 8, about, Path("/models/tiny"))


def record_frames(recording: Any, indices: Iterable[int], *prompts: tuple[int, str]) -> None:
    """Write numbered frames of a film whose chunk is a second, with prompts at seconds."""
    log = [LogEntry(Event("prompt", prompt), at, float(at)) for at, prompt in prompts]
    for index in indices:
        recording.write(make_picture(index), index, log)


@pytest.fixture
def takes(tmp_path: Path) -> TakesFolder:
    """An empty takes folder."""
    return TakesFolder(tmp_path / "takes")


@pytest.fixture
def picture() -> Callable[[int], NDArray[np.uint8]]:
    """Make a numbered frame."""
    return make_picture


@pytest.fixture
def shoot_film() -> Callable[..., Path]:
    """Write a film of numbered frames at given times: `shoot_film(path, seconds of each)`."""

    def write(path: Path, times: Iterable[float], *, sound: bool = False) -> Path:
        with av.open(str(path), "w") as film:
            stream = film.add_stream("libx264", rate=30, options={"crf": "1"})
            stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
            stream.codec_context.time_base = Fraction(1, 90_000)
            tone = film.add_stream("aac", rate=8000) if sound else None
            for index, time in enumerate(times):
                frame = av.VideoFrame.from_ndarray(make_picture(index), format="rgb24")
                frame.pts, frame.time_base = round(time * 90_000), Fraction(1, 90_000)
                film.mux(stream.encode(frame))
            film.mux(stream.encode(None))
            if tone is not None:
                silence = av.AudioFrame.from_ndarray(
                    np.zeros((1, 8000), np.float32), "fltp", "mono"
                )
                silence.sample_rate, silence.pts = 8000, 0
                film.mux([*tone.encode(silence), *tone.encode(None)])
        return path

    return write


@pytest.fixture
def numbers() -> Callable[[Iterable[NDArray[np.uint8]]], list[int]]:
    """Read the numbers of frames."""
    return read_numbers


@pytest.fixture
def begin() -> Callable[[TakesFolder], Recording]:
    """Begin a take."""
    return begin_take


@pytest.fixture
def record() -> Callable[..., None]:
    """Write frames into a recording."""
    return record_frames


@dataclass
class Film:
    """What an MP4 holds, decoded from start to end."""

    frames: int
    size: tuple[int, int]
    chapters: list[tuple[float, str]]
    title: str | None
    about: dict[str, Any]
    codec: str
    times: list[float]
    numbers: list[int]


def _read(path: Path) -> Film:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        pictures = [
            (each.time, each.to_ndarray(format="rgb24")) for each in container.decode(stream)
        ]
        times = [time for time, _ in pictures]
        chapters = [
            (float(each["start"] * each["time_base"]), each["metadata"].get("title", ""))
            for each in container.chapters()
        ]
        metadata = container.metadata
        return Film(
            frames=len(times),
            size=(stream.width, stream.height),
            chapters=chapters,
            title=metadata.get("title"),
            about=json.loads(metadata.get("longtake", "{}")),
            codec=f"{stream.codec_context.name} {stream.codec_context.pix_fmt}",
            times=times,
            numbers=read_numbers(pixels for _, pixels in pictures),
        )


@pytest.fixture
def read_film() -> Callable[[Path], Film]:
    """Decode an MP4."""
    return _read


# A net under tests that wait for the other side: far longer than any machine needs.
PATIENCE = 60


def make_ready(**changes: Any) -> Ready:
    """Of a toy model: 48x32 pixels, 100 frames a second, chunks of four; eight frames ahead."""
    limits = {"transition": 0, "ahead": 8, "requests": 1000, "kept": 600, "stall": 20, "grace": 60}
    limits = {name: changes.pop(name, value) for name, value in limits.items()}
    ready = {"session": "s-1", "resume_token": "secret", "received": 0, "model": "toy", "rate": 100}
    size = {"width": 48, "height": 32, "chunk": 4}
    return Ready(
        version=PROTOCOL,
        **ready | size | changes,
        limits=Limits(**limits, idle=900, idle_grace=300),
    )


class Peer:
    """The server's side of one connection."""

    def __init__(self, connection: ServerConnection, picture) -> None:
        self.connection = connection
        self.reported: list[Playback] = []
        self.picture = picture

    def send(self, *messages) -> None:
        for message in messages:
            self.connection.send(message if isinstance(message, str | bytes) else encode(message))

    def read(self, kind):
        """The next request but reports, which are noted and acknowledged."""
        while isinstance(message := decode_client(self.connection.recv(PATIENCE)), Playback):
            if kind is Playback:
                break
            self.acknowledge_report(message)
        assert isinstance(message, kind), message
        return message

    def acknowledge_report(self, message: Playback) -> None:
        self.reported.append(message)
        self.send(Ack(id=message.id))

    def greet(self, *before: Any, **changes: Any) -> Hello:
        """Let it in, after other messages."""
        hello = self.read(Hello)
        self.send(Ack(id=hello.id), *before, make_ready(**changes))
        return hello

    def begin(self, take: int = 1, read: str | None = None) -> Open:
        """Open a take, with its first receipt."""
        opened = self.read(Open)
        self.send(Ack(id=opened.id, take=take))
        self.apply(opened.id, 0, opened.prompt, take, read)
        return opened

    def apply(
        self, number: int, chunk: int, prompt: str, take: int = 1, read: str | None = None
    ) -> None:
        time = chunk * 4 / 100
        where = {"take": take, "chunk": chunk, "time": time}
        self.send(Applied(id=number, **where, prompt=prompt, read=read))

    def frame(self, index: int, take: int = 1, codec: Codec = Codec.JPEG) -> None:
        picture = io.BytesIO()
        Image.fromarray(self.picture(index)).save(picture, codec.name, quality=95)
        frame = EncodedFrame(
            codec=codec,
            take=take,
            chunk=index // 4,
            index=index,
            pts=index * 10_000,
            payload=picture.getvalue(),
        )
        self.send(pack_frame(frame))

    def frames(self, start: int, stop: int, take: int = 1) -> None:
        for index in range(start, stop):
            self.frame(index, take)

    def refuse(self, number: int | None, code: ErrorCode, hint: str = "do otherwise") -> None:
        self.send(Error(id=number, code=code, message="no", retryable=False, hint=hint))

    def turn_away(self, code: ErrorCode, hint: str = "do otherwise") -> None:
        """Do not let it in."""
        self.refuse(self.read(Hello).id, code, hint)
        with suppress(ConnectionClosed):  # the client may have left upon the error
            self.send(Goodbye(reason="refused"))

    def part(self) -> None:
        """Answer the goodbye."""
        bye = self.read(Bye)
        self.send(Ack(id=bye.id), Goodbye(reason="asked"))

    def see_it_leave(self) -> None:
        """Wait until the client closes the connection."""
        with suppress(ConnectionClosed):
            while True:
                self.connection.recv(PATIENCE)

    def cut(self) -> None:
        """Lose the connection."""
        self.connection.socket.shutdown(socket.SHUT_RDWR)


Script = Callable[[Peer], None]


def refuse_session(peer: Peer) -> None:
    """The end of every script: where it was not meant, a client does not try again and again."""
    peer.refuse(peer.read(Hello).id, "no_session")


class Server:
    """Each connection plays the next script; files are served at the same port."""

    def __init__(self, scripts: tuple[Script, ...], picture) -> None:
        self.files: dict[str, bytes] = {}
        self.tokens: list[str | None] = []
        self.failures: list[BaseException] = []
        self.scripts = iter(scripts)
        self.picture = picture
        self.server = serve(
            self.play, "127.0.0.1", 0, process_request=self.give_file, compression=None
        )
        self.url = "ws://{}:{}".format(*self.server.socket.getsockname())
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def play(self, connection: ServerConnection) -> None:
        try:
            next(self.scripts, refuse_session)(Peer(connection, self.picture))
        except BaseException as error:
            self.failures.append(error)

    def give_file(self, connection: ServerConnection, request) -> Response | None:
        if request.path == "/stream":
            return None
        self.tokens.append(request.headers.get("Authorization"))
        body = self.files.get(request.path)
        if body is None:
            return Response(302, "Found", Headers({"Location": "/elsewhere"}), b"")
        return Response(200, "OK", Headers({"Content-Length": str(len(body))}), body)


@pytest.fixture
def play(picture) -> Iterator[Callable[..., Server]]:
    """Start a server: `play(script of the first connection, script of the second, ...)`."""
    servers = []

    def start(*scripts: Script) -> Server:
        servers.append(Server(scripts, picture))
        return servers[-1]

    yield start
    for server in servers:
        server.server.shutdown()
        server.thread.join(PATIENCE)
        assert server.failures == []
        assert list(server.scripts) == []


@pytest.fixture
def error_of() -> Callable[[Callable[[], object]], StreamError]:
    """The error that a call raises."""

    def call_it(call: Callable[[], object]) -> StreamError:
        with pytest.raises(StreamError) as caught:
            call()
        return caught.value

    return call_it
