"""A browser, and a server that speaks the protocol and shows a drawn picture, for it to look at."""

from __future__ import annotations

import asyncio
import io
import itertools
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import uvicorn
from fastapi import FastAPI, Request, Response, WebSocket, WebSocketDisconnect
from fastapi.responses import JSONResponse
from PIL import Image, ImageDraw
from playwright.sync_api import Browser, Page, expect, sync_playwright

from longtake.app.studio.guard import Guard
from longtake.app.studio.listening import listen
from longtake.app.studio.page import mount_page
from longtake.app.studio.server import Server, make_app
from longtake.app.studio.settings import StudioSettings
from longtake.app.studio.watching import Captioners
from longtake.app.takes import TakesFolder
from longtake.app.wire import (
    PROTOCOL,
    Ack,
    Applied,
    Codec,
    EncodedFrame,
    Error,
    Goodbye,
    Limits,
    Metrics,
    Queued,
    Ready,
    SavedFile,
    Settings,
)
from longtake.app.wire_coding import decode_client, encode, pack_frame
from longtake.app.witness import open_witness
from longtake.models.video.spelling import Spelling
from longtake.weights import GENERATOR

CHROMIUM = Path("/usr/bin/chromium")
# Seconds; nothing takes that long unless something is wrong.
PATIENCE = 60

WIDTH, HEIGHT, RATE, CHUNK = 96, 54, 16, 8
LIMITS = Limits(
    transition=4, ahead=48, requests=20, kept=600, stall=20, grace=60, idle=900, idle_grace=300,
    start=1000,
)  # fmt: skip
SETTINGS = Settings(steps=4, window=9, sink=3, switch="recache")


def colour(prompt: str) -> tuple[int, int, int]:
    """That of the whole picture: the one which the prompt names, or one of its own."""
    named = {"red": (200, 30, 30), "blue": (30, 30, 200), "green": (30, 160, 30)}
    for name, value in named.items():
        if name in prompt:
            return value
    number = zlib.crc32(prompt.encode())
    return number & 127, number >> 8 & 127, number >> 16 & 127


def picture(prompt: str, index: int) -> bytes:
    image = Image.new("RGB", (WIDTH, HEIGHT), colour(prompt))
    left = 4 * index % WIDTH
    ImageDraw.Draw(image).ellipse((left, 20, left + 14, 34), fill=(240, 240, 230))
    coded = io.BytesIO()
    image.save(coded, "JPEG", quality=85)
    return coded.getvalue()


class FakeServer:
    """One session. Tests set what it does next and read what it was told.

    Attributes:
        queued: the place in the queue told to the next one who connects, or 0.
        turn: whether it may leave the queue then.
        speed: as in ``metrics``.
        recording: the name on disk of the takes that begin.
        gathers: whether all prompts that are due at a chunk apply, and not the latest alone.
        limits: told to the next one who connects.
        starts: session, token and body of each file that was sent.
        reads: what is told of how prompts are read, by the newest one.
        refuse: answers ``prompt`` with this error.
        told: every message that came, but ``playback`` and ``hello``.
        resumed: how often the session was resumed.
        shown: the last frame that the page reported.
    """

    def __init__(self) -> None:
        self.queued = 0
        self.turn = threading.Event()
        self.turn.set()
        self.speed = 1.0
        self.recording = "film"
        self.gathers = False
        self.reads: dict[str, str] = {}
        self.limits = LIMITS
        self.starts: list[tuple[str, str, bytes]] = []
        self.refuse: Error | None = None
        self.told: list[Any] = []
        self.shown: Any = None
        self.resumed = 0
        self.socket: WebSocket | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.sessions = itertools.count(1)
        self._new_session()

    def _new_session(self) -> None:
        self.session = f"s-{next(self.sessions)}"
        self.received = self.take = self.chunk = 0
        self.prompt = ""
        self.begun: asyncio.Event = asyncio.Event()
        self.running = True
        self.due: list[tuple[float, int, str]] = []

    # For tests, which run in another thread.

    def say(self, message: Any) -> None:
        """Send a message to the page."""
        assert self.loop is not None
        assert self.socket is not None
        asyncio.run_coroutine_threadsafe(self.socket.send_text(encode(message)), self.loop).result()

    def drop(self) -> None:
        """Close the connection without a word."""
        assert self.loop is not None
        assert self.socket is not None
        asyncio.run_coroutine_threadsafe(self.socket.close(), self.loop).result()

    def forget(self) -> None:
        """Give the session up."""
        self._new_session()

    def messages(self, kind: str) -> list[Any]:
        """Those of a type that came."""
        return [message for message in self.told if message.type == kind]

    # The protocol.

    async def serve(self, socket: WebSocket) -> None:
        """A connection from its beginning to its end."""
        await socket.accept()
        self.loop, self.socket = asyncio.get_running_loop(), socket
        try:
            if not await self._greet(socket):
                return
            film = asyncio.create_task(self._film(socket))
            try:
                while True:
                    await self._answer(socket, decode_client(await socket.receive_text()))
            finally:
                film.cancel()
        except (WebSocketDisconnect, RuntimeError):
            pass

    async def _greet(self, socket: WebSocket) -> bool:
        hello = decode_client(await socket.receive_text())
        if hello.resume is not None and hello.resume.session != self.session:
            error = Error(
                id=hello.id, code="no_session", message="gone", retryable=False, hint="begin anew"
            )
            await socket.send_text(encode(error))
            await socket.send_text(encode(Goodbye(reason="refused")))
            await socket.close()
            return False
        await socket.send_text(encode(Ack(id=hello.id)))
        if self.queued:
            await socket.send_text(encode(Queued(position=self.queued)))
        while not self.turn.is_set():
            await asyncio.sleep(0.02)
        if hello.resume is None:
            self._new_session()
        else:
            self.resumed += 1
        ready = Ready(
            version=PROTOCOL,
            session=self.session,
            resume_token="secret",
            received=self.received,
            model="drawn",
            width=WIDTH,
            height=HEIGHT,
            rate=RATE,
            chunk=CHUNK,
            limits=self.limits,
        )
        await socket.send_text(encode(ready))
        if hello.resume is not None and hello.resume.next is None and self.take:
            await self._applied(socket, 1, SETTINGS)
        return True

    async def _applied(self, socket: WebSocket, request: int, settings: Settings | None) -> None:
        applied = Applied(
            id=request,
            take=self.take,
            chunk=self.chunk,
            time=self.chunk * CHUNK / RATE,
            prompt=self.prompt,
            read=self.reads.get(self.prompt),
            settings=settings,
        )
        await socket.send_text(encode(applied))

    async def _answer(self, socket: WebSocket, message: Any) -> None:
        self.received = message.id
        if message.type == "playback":
            self.shown = message.frame
            await socket.send_text(encode(Ack(id=message.id)))
            return
        self.told.append(message)
        await socket.send_text(encode(await self._carry_out(socket, message)))
        if message.type == "open":
            await self._applied(socket, message.id, SETTINGS)
            self.begun.set()

    async def _carry_out(self, socket: WebSocket, message: Any) -> Ack | Error:
        following: dict[str, Any] = {"chunk": self.chunk, "time": self.chunk * CHUNK / RATE}
        about: dict[str, Any] = {}
        match message.type:
            case "prompt" | "set" if self.refuse is not None:
                return self.refuse.model_copy(update={"id": message.id})
            case "open":
                self.take, self.chunk, self.running, self.due = self.take + 1, 0, True, []
                self.prompt = message.prompt
                about = {"take": self.take, "recording": self.recording}
            case "prompt":
                self.due.append((message.at, message.id, message.text))
                chunk = max(self.chunk, -int(-message.at * RATE // CHUNK))
                about = {"chunk": chunk, "time": chunk * CHUNK / RATE}
            case "pause" | "resume":
                self.running = message.type == "resume"
                about = following
            case "save":
                file = SavedFile(url="/files/take-1.mp4", size=4, seconds=message.seconds or 3)
                about = {"file": file}
            case "still":
                about = {"file": SavedFile(url="/files/take-1-8.png", size=4, seconds=0)}
            case "set":
                applied = Applied(
                    id=message.id, take=self.take, settings=message.settings, **following
                )
                await socket.send_text(encode(applied))
                about = following
        return Ack(id=message.id, **about)

    async def _film(self, socket: WebSocket) -> None:
        await self.begun.wait()
        while True:
            if self.running:
                await self._chunk(socket)
            await asyncio.sleep(CHUNK / RATE / self.speed)

    async def _chunk(self, socket: WebSocket) -> None:
        time_now = self.chunk * CHUNK / RATE
        due = [each for each in self.due if each[0] <= time_now]
        if due:
            self.due = [each for each in self.due if each not in due]
            for _, request, prompt in sorted(due)[0 if self.gathers else -1 :]:
                self.prompt = prompt
                await self._applied(socket, request, None)
        for index in range(self.chunk * CHUNK, (self.chunk + 1) * CHUNK):
            frame = EncodedFrame(
                codec=Codec.JPEG,
                take=self.take,
                chunk=self.chunk,
                index=index,
                pts=round(1e6 * index / RATE),
                payload=picture(self.prompt, index),
            )
            await socket.send_bytes(pack_frame(frame))
        self.chunk += 1
        metrics = Metrics(chunks=self.chunk, frames=self.chunk * CHUNK, fps=38.2 * self.speed,
                          speed=self.speed, first_frame=0.2, chunk_p50=0.31, chunk_p95=0.34,
                          reaction=0.7, reaction_max=0.8, unsent=0, waiting=0,
                          cache=8_847_360, memory=555_745_280)  # fmt: skip
        await socket.send_text(encode(metrics))


class Running:
    """An app served on a free port of 127.0.0.1, in a thread, until it is stopped."""

    def __init__(self, app: FastAPI) -> None:
        config = uvicorn.Config(
            app,
            host="127.0.0.1",
            port=0,
            log_level="warning",
            ws="websockets-sansio",
            timeout_graceful_shutdown=1,
        )
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        wait_for(lambda: self.server.started)
        port = self.server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/"

    def stop(self) -> None:
        """Close it."""
        self.server.should_exit = True
        self.thread.join()


def wait_for(condition: Callable[[], object]) -> None:
    """Until something holds, which it does soon unless something is wrong."""
    limit = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < limit, "waited for too long"
        time.sleep(0.02)


class KnowsWords:
    """What the page asks of a model."""

    folder = GENERATOR
    generator = SimpleNamespace(device=torch.device("cpu"), dtype=torch.float32)
    _spelling = Spelling(["a", "red", "blue", "green", "purple", "ball", "car", "night", "falls"])

    def unknown_words(self, prompt: str) -> dict[str, str | None]:
        return self._spelling.unknown(prompt)


@dataclass
class Studio:
    """A page's server: what plays the server's part, the address, and the takes folder."""

    fake: FakeServer
    url: str
    takes: TakesFolder


@pytest.fixture
def studio(takes: TakesFolder) -> Iterator[Studio]:
    """The page served with a fake stream."""
    fake, app = FakeServer(), FastAPI()
    app.add_middleware(Guard, settings=StudioSettings())
    app.websocket("/stream")(fake.serve)

    @app.get("/files/{name}")
    def files(name: str) -> Response:
        return Response(b"film", media_type="application/octet-stream")

    @app.post("/starts/{session}")
    async def start(session: str, request: Request) -> Response:
        body = await request.body()
        fake.starts.append((session, request.headers["x-resume-token"], body))
        return JSONResponse({"start": f"start-{len(fake.starts)}"})

    mount_page(app, KnowsWords(), takes)
    running = Running(app)
    yield Studio(fake, running.url, takes)
    running.stop()


@pytest.fixture(scope="session")
def launch() -> Iterator[Callable[..., Browser]]:
    """Start a Chromium: `launch(*arguments)`."""
    assert CHROMIUM.exists(), f"{CHROMIUM} is missing: run  apt-get install chromium"
    expect.set_options(timeout=1000 * PATIENCE)
    with sync_playwright() as playwright, ExitStack() as stack:

        def start(*arguments: str) -> Browser:
            args = ["--no-sandbox", *arguments]
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=args)
            stack.callback(browser.close)
            return browser

        yield start


@pytest.fixture(scope="session")
def browser(launch: Callable[..., Browser]) -> Browser:
    """Chromium."""
    return launch()


@contextmanager
def watched_tab(browser: Browser, url: str, **options: Any) -> Iterator[Page]:
    """An empty tab; whatever a test does in it, the console stays clean and no one else is asked.

    Its errors and requests are looked at in the end.
    """
    context = browser.new_context(viewport={"width": 1280, "height": 800}, **options)
    context.set_default_timeout(1000 * PATIENCE)
    page = context.new_page()
    problems: list[str] = []
    requests: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on(
        "console",
        lambda said: said.type in {"error", "warning"} and problems.append(said.text),
    )
    context.on("request", lambda request: requests.append(request.url))
    yield page
    context.close()
    assert not problems
    local = (url, f"blob:{url}", "data:")
    assert [each for each in requests if not each.startswith(local)] == []


@pytest.fixture
def page(browser: Browser, studio: Studio) -> Iterator[Page]:
    """A tab for the page."""
    permissions = ["clipboard-read", "clipboard-write"]
    with watched_tab(browser, studio.url, permissions=permissions) as page:
        yield page


@pytest.fixture
def open_tab(browser: Browser) -> Callable[..., AbstractContextManager[Page]]:
    """Open a tab for another server: `with open_tab(url, **options) as page`."""
    return partial(watched_tab, browser)


@contextmanager
def serve(model, takes, tls=None, watched=None, words=4, **settings):
    settings = StudioSettings(port=0, tick=0.1, **settings)

    def load():
        return open_witness(watched, beside=model.engine, round_tokens=words, answer_tokens=words)

    socket, captioners = listen(settings), Captioners(load) if watched else None
    app = make_app(model, settings, takes, captioners=captioners)
    app = mount_page(app, model, takes, watches=captioners is not None)
    server = Server(app, settings, tls)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]})
    thread.start()
    scheme = "https" if tls else "http"
    server.url = f"{scheme}://127.0.0.1:{socket.getsockname()[1]}/"
    try:
        yield server
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def served() -> Callable[..., AbstractContextManager[Server]]:
    """The whole server: `served(model, takes, tls, watched=captioner's folder, **settings)`.

    Of what it says, `words` tokens a second at most.
    """
    return serve
