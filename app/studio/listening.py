"""The socket that the studio listens on; importable at once, before what serves is loaded."""

from __future__ import annotations

import socket

from longtake.app.outputs import reason
from longtake.app.studio.settings import StudioSettings
from longtake.streaming import StreamError


def listen(settings: StudioSettings) -> socket.socket:
    """A socket that listens where the settings say.

    Connections whose other end has vanished, or takes nothing of what is sent to it, are ended
    after ``settings.stall`` seconds by the kernel, where it can.

    Raises:
        StreamError: ``bad_address``: the port is taken, or the host is none of this machine.
    """
    address = (settings.host, settings.port)
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        listener = socket.create_server(address, family=family)
    except OSError as error:
        where = f"port {settings.port} of {settings.host}"
        # In brackets Python says the address once more.
        problem = f"{where} cannot be listened on ({reason(error).partition(' (')[0]})"
        other = settings.port + 1 if settings.port < 65535 else settings.port - 1
        hint = f"choose another port, with  --port {other}  for example"
        raise StreamError("bad_address", problem, hint) from None
    _end_dead_connections(listener, settings.stall)
    return listener


def _end_dead_connections(listener: socket.socket, seconds: float) -> None:
    """Set what accepted connections inherit; what a system does not know is left out.

    Closing a connection waits until what was sent is taken. Without a limit of the kernel's, a
    peer that is gone without a word, or reads no more, would hold it for a quarter of an hour or
    for ever.
    """
    pause = max(1, round(seconds / 4))
    options = {
        # Seconds of silence before the first probe; macOS has its own name for it.
        "TCP_KEEPIDLE": 2 * pause,
        "TCP_KEEPALIVE": 2 * pause,
        "TCP_KEEPINTVL": pause,
        "TCP_KEEPCNT": 2,
        # Milliseconds for which what was sent may lack an acknowledgement, or wait for room.
        "TCP_USER_TIMEOUT": max(1, round(1000 * seconds)),
    }
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in options.items():
        if hasattr(socket, name):
            listener.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
