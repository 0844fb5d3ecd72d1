"""The web server: one port for the page, the WebSocket and saved files."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn
from fastapi import FastAPI, WebSocket
from fastapi.responses import FileResponse, JSONResponse, Response

from longtake.app.api import Model
from longtake.app.studio.connection import Connection
from longtake.app.studio.guard import Guard, knows_token
from longtake.app.studio.settings import StudioSettings
from longtake.app.studio.starts import add_start_route
from longtake.app.studio.visits import Visits
from longtake.app.studio.watching import Captioners
from longtake.app.takes import TakesFolder
from longtake.app.wire import MAX_SHOWN

WARM_UP_CHUNKS = 2


def make_app(
    model: Model,
    settings: StudioSettings,
    takes: TakesFolder,
    now: Callable[[], float] = time.monotonic,
    captioners: Captioners | None = None,
) -> FastAPI:
    """The studio's server as an ASGI application; ``app.state.visits`` are its :class:`Visits`.

    Args:
        model: loaded; it stays open.
        settings: what is allowed.
        takes: where takes are recorded.
        now: seconds on a monotonic clock, for all that may be overdue.
        captioners: watch what visitors show; None where there are none.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        visits: Visits = app.state.visits
        tasks = [asyncio.create_task(_open(visits)), asyncio.create_task(_tick(visits))]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await visits.close()

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    visits = app.state.visits = Visits(model, settings, takes, now, captioners)
    app.add_middleware(Guard, settings=settings)

    @app.get("/health")
    async def health() -> JSONResponse:
        status = "ready" if visits.is_open else "warming"
        return JSONResponse({"status": status, "model": model.folder.name})

    @app.get("/files/{session}/{name}")
    async def file(session: str, name: str) -> Response:
        path = visits.shelf.find(session, name)
        if path is None:
            message = "there is no such file any more: save it again"
            return JSONResponse({"message": message}, status_code=404)
        return FileResponse(path, filename=name)

    add_start_route(app, visits)

    @app.websocket("/stream")
    async def stream(websocket: WebSocket) -> None:
        await Connection(websocket, visits, knows_token(websocket.scope)).serve()

    return app


class Server(uvicorn.Server):
    """Uvicorn for the studio; visitors hear why their connections close.

    Args:
        app: from :func:`make_app`.
        settings: the same.
        tls: files of a certificate and its key in PEM format, or None.
    """

    def __init__(
        self, app: FastAPI, settings: StudioSettings, tls: tuple[Path, Path] | None = None
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                ws="websockets-sansio",
                # A message that is somewhat too long gets a proper answer.
                ws_max_size=2 * MAX_SHOWN,
                ws_per_message_deflate=False,
                lifespan="on",
                log_level="warning",
                # Its lines would hold the access token.
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=round(settings.closing) + 5,
                ssl_certfile=tls[0] if tls else None,
                ssl_keyfile=tls[1] if tls else None,
            )
        )
        self._visits: Visits = app.state.visits

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Say bye to everybody, then close what is left."""
        await self._visits.close()
        await super().shutdown(sockets)


async def _open(visits: Visits) -> None:
    """Let visitors in once the model is warm."""
    await asyncio.to_thread(_warm_up, visits.model)
    visits.open()


def _warm_up(model: Model) -> None:
    """Make what nobody sees: the first chunks are slow."""
    spec = model.generator.spec
    session = model.begin("a warm-up", seed=0)
    session.extend(WARM_UP_CHUNKS * spec.chunk_units / spec.rate)
    for _ in session:
        pass
    session.close()
    # Reads all weights, once.
    _ = model.conditions


async def _tick(visits: Visits) -> None:
    while True:
        await asyncio.sleep(visits.settings.tick)
        visits.tick()
