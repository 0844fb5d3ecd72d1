"""Files that takes begin with, as visitors send them over HTTP."""

from __future__ import annotations

import asyncio
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.requests import ClientDisconnect

from longtake.app.studio.visits import Visits
from longtake.streaming import StreamError

TOKEN_HEADER = "x-resume-token"
# Seconds of wall time that a file may be on its way.
SEND_SECONDS = 120.0
_STATUS = {"no_session": 403, "too_large": 413, "too_fast": 429}


def add_start_route(app: FastAPI, visits: Visits) -> None:
    """Add ``POST /starts/SESSION``, whose body is a picture or a clip.

    It is written to a temporary folder under a name of the server's, read once to see that it is
    one, and kept for ``open`` to name it. An error is JSON with ``code``, ``message`` and ``hint``.

    Args:
        app: gets the route.
        visits: whose sessions may send files.
    """
    sending: set[str] = set()

    @app.post("/starts/{session}")
    async def start(session: str, request: Request) -> Response:
        try:
            visits.find(session, token := request.headers.get(TOKEN_HEADER, ""))
            if session in sending:
                raise StreamError("too_fast", "a file is on its way already", "wait for it")
            sending.add(session)
            path = visits.shelf.place_for_start()
            try:
                await _take_in(path, request, visits)
                # It may have ended meanwhile, and what it sent been deleted.
                visits.find(session, token)
                return JSONResponse({"start": visits.shelf.keep_start(session, path)})
            except BaseException:
                path.unlink(missing_ok=True)
                raise
            finally:
                sending.discard(session)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it
        except StreamError as error:
            content = {"code": error.code, "message": error.message, "hint": error.hint}
            return JSONResponse(content, _STATUS.get(error.code, 422))


async def _take_in(path: Path, request: Request, visits: Visits) -> None:
    """Write the file and look at it."""
    try:
        async with asyncio.timeout(SEND_SECONDS):
            await _write(path, request, visits.limits.start)
    except TimeoutError:
        problem = f"the file was not here within {SEND_SECONDS:g} s"
        raise StreamError("bad_start", problem, "send a smaller one") from None
    except OSError:
        problem = "the server cannot store the file"
        raise StreamError("bad_output", problem, "see to its disk") from None
    await asyncio.to_thread(visits.model.read_sent, path)


async def _write(path: Path, request: Request, most: int) -> None:
    if not most:
        problem = "this model's codec is a decoder alone, so no picture can begin a film"
        raise StreamError("bad_start", problem, "begin a film with a prompt")
    size = 0
    with path.open("xb") as file:
        async for block in request.stream():
            size += len(block)
            if size > most:
                problem = f"the file has more than {most:,} bytes"
                raise StreamError("too_large", problem, "make it smaller, or cut it")
            await asyncio.to_thread(file.write, block)
