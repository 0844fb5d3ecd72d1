"""A script of ours ahead of Gradio's in its page, where Gradio itself has no place for one."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SCRIPT = b'<script src="studio/calm.js"></script>'


class Calm:
    """ASGI middleware that puts ``calm.js`` at the head of the page at ``/``.

    What Gradio's ``head`` gives is added once its own modules run, which is too late to be asked
    for animation frames in place of the browser.

    Args:
        app: serves the page.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and for the page its answer with the script."""
        if scope["type"] != "http" or (scope["method"], scope["path"]) != ("GET", "/"):
            await self._app(scope, receive, send)
            return
        # A page that is packed could not be added to.
        packing = b"accept-encoding"
        headers = [(name, value) for name, value in scope["headers"] if name != packing]
        messages: list[Message] = []

        async def keep(message: Message) -> None:
            messages.append(message)

        await self._app({**scope, "headers": headers}, receive, keep)
        (start,) = (each for each in messages if each["type"] == "http.response.start")
        body = b"".join(each.get("body", b"") for each in messages)
        about = MutableHeaders(scope=start)
        if "text/html" in about.get("content-type", ""):
            body = body.replace(b"<head>", b"<head>" + SCRIPT, 1)
            about["content-length"] = str(len(body))
        await send(start)
        await send({"type": "http.response.body", "body": body})
