"""Fetches a file that the server saved."""

from __future__ import annotations

import http.client
import urllib.request
from email.message import Message
from pathlib import Path
from typing import IO
from urllib.error import HTTPError, URLError

from longtake.app.wire import SavedFile
from longtake.streaming import StreamError

TIMEOUT = 30
"""Seconds for which the server may send nothing."""
BLOCK = 1 << 16


def download(server: str, saved: SavedFile, token: str | None, path: Path) -> None:
    """Fetch a file and write it as it comes.

    Args:
        server: its address, such as ``https://example.org:7860``.
        saved: as the server named it.
        token: the server's access token.
        path: of the file to be written.

    Raises:
        StreamError: ``bad_download``: it did not come whole.
        OSError: the file cannot be written.
    """
    url = server + saved.url
    opener = urllib.request.build_opener(NoRedirect)
    try:
        request = urllib.request.Request(url, headers=authorization(token))
        response = opener.open(request, timeout=TIMEOUT)
    except HTTPError as error:
        error.close()
        raise _failed(url, f"the server answers {error.code} {error.reason}") from None
    except (URLError, http.client.HTTPException, OSError, ValueError) as error:
        raise _failed(url, str(getattr(error, "reason", error))) from None
    with response, path.open("wb") as file:
        size = 0
        while block := _read(url, response):
            size += len(block)
            if size > saved.size:
                break
            file.write(block)
    if size != saved.size:
        raise _failed(url, f"it is not of the {saved.size:,} bytes that it should have")


def authorization(token: str | None) -> dict[str, str]:
    """The header that holds a server's access token, if it has one."""
    # Headers are Latin-1: UTF-8 goes through as what its bytes are there.
    return {"Authorization": f"Bearer {token.encode().decode('latin-1')}"} if token else {}


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """Files are on the server itself; elsewhere the token would go astray."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: Message,
        newurl: str,
    ) -> None:
        """Follow none."""


def _read(url: str, response: IO[bytes]) -> bytes:
    try:
        return response.read(BLOCK)
    except (http.client.HTTPException, OSError) as error:
        raise _failed(url, str(error)) from None


def _failed(url: str, problem: str) -> StreamError:
    return StreamError("bad_download", f"{url} cannot be fetched ({problem})", "save again")
