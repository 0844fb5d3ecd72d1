"""Sends a file that a take is to begin with."""

from __future__ import annotations

import http.client
import json
import urllib.request
from pathlib import Path
from urllib.error import HTTPError, URLError

from longtake.app.download import NoRedirect, authorization
from longtake.app.outputs import reason
from longtake.app.wire import Ready
from longtake.streaming import StreamError

TIMEOUT = 60
"""Seconds for which the server may say nothing: it reads the file before it answers."""


def upload(server: str, ready: Ready, token: str | None, path: Path) -> str:
    """Send a picture or a clip, to be named by ``open``.

    Args:
        server: its address, such as ``https://example.org:7860``.
        ready: of the session that it is for.
        token: the server's access token.
        path: of the file.

    Returns:
        The server's name for it.

    Raises:
        StreamError: ``bad_start``: the file cannot be read; ``too_large``; or why the server takes
            none; or ``unreachable``.
    """
    url = f"{server}/starts/{ready.session}"
    try:
        if path.stat().st_size > ready.limits.start > 0:
            # It would be refused half-way, and the connection cut.
            problem = f"{path} has more than {ready.limits.start:,} bytes"
            raise StreamError("too_large", problem, "make it smaller, or cut it")
        body = path.read_bytes()
    except OSError as error:
        problem = f"{path} cannot be read: {reason(error)}"
        raise StreamError("bad_start", problem, "give a picture or a video file") from None
    headers = {"X-Resume-Token": ready.resume_token} | authorization(token)
    request = urllib.request.Request(url, body, headers, method="POST")
    try:
        with urllib.request.build_opener(NoRedirect).open(request, timeout=TIMEOUT) as response:
            name: str = json.load(response)["start"]
            return name
    except HTTPError as error:
        with error:
            raise _refused(url, error) from None
    except (URLError, http.client.HTTPException, OSError, ValueError) as error:
        problem = f"{path} did not get to {url} ({getattr(error, 'reason', error)})"
        raise StreamError("unreachable", problem, "try again") from None


def _refused(url: str, answer: HTTPError) -> StreamError:
    """What the server says of it, where it is one of ours."""
    try:
        told = json.load(answer)
        return StreamError(told["code"], told["message"], told["hint"])
    except (OSError, ValueError, KeyError, TypeError):
        problem = f"{url} answers {answer.code} {answer.reason}"
        return StreamError("bad_start", problem, "begin the take without a file")
