"""Who may ask at all: host, origin and access token of every request, whatever it is for."""

from __future__ import annotations

import ipaddress
import socket
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from longtake.app.studio.access import fingerprint, is_let_in
from longtake.app.studio.settings import StudioSettings

COOKIE = "longtake_token"
# The page's own files and nothing else; Gradio puts scripts and styles into the page itself, and
# compiles the templates of its HTML component.
_POLICY = "; ".join(
    [
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "media-src 'self' blob:",
        "font-src 'self' data:",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'self'",
    ]
)
SECURITY_HEADERS = {
    "content-security-policy": _POLICY,
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Guard:
    """ASGI middleware that refuses what does not come from this server's own page or a script.

    - The host in the request has to be one of this server's, or a foreign page could reach it
      under a name of its own (DNS rebinding).
    - The origin, if a browser names one, has to be the same host.
    - The access token has to be known: by cookie, which ``/?token=...`` sets, or by an
      ``Authorization: Bearer`` header. A WebSocket may be opened without; ``hello`` has it then.

    Args:
        app: what is guarded.
        settings: host, token and origins.
    """

    def __init__(self, app: ASGIApp, settings: StudioSettings) -> None:
        self._app = app
        self._token = settings.token
        self._origins = set(settings.origins)
        self._names = {*LOOPBACK, settings.host.lower()}
        self._names |= {urlsplit(origin).hostname or "" for origin in settings.origins}
        # Reached from other machines, it goes by the machine's names and any of its addresses.
        self._is_public = settings.host not in LOOPBACK
        if self._is_public:
            name = socket.gethostname().lower()
            self._names |= {name, f"{name}.local"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        knows = self._token is None or self._is_known(headers)
        scope.setdefault("state", {})["knows_token"] = knows
        refusal = self._refusal(scope, headers, knows)
        if refusal is None:
            await self._app(scope, receive, _with_security_headers(send))
        else:
            await _respond(refusal, scope, receive, send)

    def _refusal(self, scope: Scope, headers: Headers, knows: bool) -> Response | None:
        host = headers.get("host", "")
        if not self.is_ours(host):
            text = "This server does not go by that name: use the address that it printed."
            return PlainTextResponse(text, 403)
        origin = headers.get("origin")
        if origin is not None and origin not in self._origins and urlsplit(origin).netloc != host:
            text = "Pages of other sites may not use this server: open its own page."
            return PlainTextResponse(text, 403)
        if knows or scope["type"] == "websocket":
            return None
        if response := self._welcome(scope):
            return response
        text = "An access token is needed: open the address that the server printed."
        return PlainTextResponse(text, 401, {"www-authenticate": "Bearer"})

    def is_ours(self, host: str) -> bool:
        """Whether a ``Host`` header names this server."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return name in self._names or (self._is_public and _is_address(name))

    def _is_known(self, headers: Headers) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        # What a header has is UTF-8, read as Latin-1.
        token = given.strip().encode("latin-1").decode(errors="replace")
        if scheme.lower() == "bearer" and is_let_in(self._token, fingerprint(token)):
            return True
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return cookie is not None and is_let_in(self._token, cookie.value)

    def _welcome(self, scope: Scope) -> Response | None:
        """The answer to ``/?token=...`` with the right token: a cookie, and the page without it."""
        query = parse_qs(scope["query_string"].decode("latin-1"))
        given = query.get("token", [""])[0]
        value = fingerprint(given)
        if scope["path"] != "/" or not is_let_in(self._token, value):
            return None
        response = RedirectResponse("/", 303)
        # Lax: a link in a message has to lead to the page too.
        secure = scope["scheme"] == "https"
        response.set_cookie(COOKIE, value, httponly=True, samesite="lax", secure=secure)
        return response


def knows_token(scope: Scope) -> bool:
    """Whether the request that opened a WebSocket proved to know the access token."""
    return bool(scope["state"]["knows_token"])


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _with_security_headers(send: Send) -> Send:
    async def secured(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in SECURITY_HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return secured


async def _respond(response: Response, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer instead of the application; a WebSocket is refused before it opens."""
    kind = "websocket.http.response" if scope["type"] == "websocket" else "http.response"

    async def answer(message: Any) -> None:  # noqa: ANN401
        await send({**message, "type": message["type"].replace("http.response", kind, 1)})

    if scope["type"] == "websocket":
        await receive()  # websocket.connect
    await response({**scope, "type": "http"}, receive, _with_security_headers(answer))
