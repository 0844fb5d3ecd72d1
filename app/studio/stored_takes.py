"""Takes on disk over HTTP: listed, downloaded, kept, offered again after a crash."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query, Request
from fastapi.responses import FileResponse, JSONResponse
from starlette.background import BackgroundTask

from longtake.app.export import export
from longtake.app.repeat import command_line
from longtake.app.stored import StoredTake
from longtake.app.takes import TakesFolder
from longtake.app.wire import MAX_SECONDS
from longtake.streaming import StreamError

File = Literal["film.mp4", "still.png", "clip.webp", "clip.gif"]
_STATUS = {"no_take": 404, "nothing_recorded": 409, "bad_length": 422}


def add_take_routes(app: FastAPI, folder: TakesFolder) -> None:
    """Add the routes below ``/takes``. A take's name is looked up, never made into a path.

    Every route waits for the disk and so runs in a thread. An error is JSON with ``code``,
    ``message`` and ``hint``.

    Args:
        app: gets them.
        folder: of the takes.
    """

    @app.exception_handler(StreamError)
    def refuse(_: Request, error: StreamError) -> JSONResponse:
        status = _STATUS.get(error.code, 500)
        content = {"code": error.code, "message": error.message, "hint": error.hint}
        return JSONResponse(content, status)

    @app.get("/takes")
    def takes() -> dict[str, Any]:
        return {"folder": str(folder.path), "takes": [_line(take) for take in folder.takes()]}

    @app.get("/takes/{name}/command")
    def command(name: str) -> dict[str, Any]:
        line, remarks = command_line(folder.find(name))
        return {"line": line, "remarks": remarks}

    @app.get("/takes/{name}/{file}")
    def download(
        name: str, file: File, last: Annotated[float | None, Query(gt=0, le=MAX_SECONDS)] = None
    ) -> FileResponse:
        take, made = folder.find(name), tempfile.TemporaryDirectory(prefix="longtake-")
        path = Path(made.name) / file
        try:
            export(take, path, last)
        except BaseException:
            made.cleanup()
            raise
        return FileResponse(
            path, filename=f"{name}{path.suffix}", background=BackgroundTask(made.cleanup)
        )

    @app.post("/takes/{name}/keep", status_code=204)
    def keep(name: str, kept: bool) -> None:
        folder.keep(name, kept)

    @app.post("/takes/{name}/settle", status_code=204)
    def settle(name: str) -> None:
        folder.settle(name)


def _line(take: StoredTake) -> dict[str, Any]:
    """A take in a list."""
    return {
        "name": take.name,
        "seconds": take.seconds,
        "prompt": take.prompt,
        "state": take.state,
        "kept": take.kept,
        "size": take.size,
    }
