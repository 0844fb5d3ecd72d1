"""The socket that the studio listens on, and peers that are gone without a word."""

from __future__ import annotations

import select
import socket
from contextlib import contextmanager, suppress

import pytest

from longtake.app.studio.listening import listen
from longtake.app.studio.settings import StudioSettings

# A net: far longer than any machine needs.
PATIENCE = 60


@contextmanager
def connected(**settings):
    """The two ends of a connection: the peer's, and that which was accepted."""
    with listen(StudioSettings(port=0, **settings)) as listener, socket.socket() as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.connect(listener.getsockname())
        accepted, _ = listener.accept()
        with accepted:
            yield peer, accepted


def option(end, name):
    if not hasattr(socket, name):
        pytest.skip(f"this system has no {name}")
    return end.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))


def test_connections_inherit_that_the_kernel_looks_after_them():
    with connected(stall=20.0) as (_, accepted):
        assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert option(accepted, "TCP_KEEPIDLE") == 10
        assert option(accepted, "TCP_KEEPINTVL") == 5
        assert option(accepted, "TCP_KEEPCNT") == 2
        assert option(accepted, "TCP_USER_TIMEOUT") == 20_000


def test_a_peer_that_reads_nothing_is_let_go():
    """Its window is full, and what waits to be sent would keep the connection for ever."""
    with connected(stall=0.5) as (_, accepted):
        option(accepted, "TCP_USER_TIMEOUT")
        accepted.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                accepted.send(bytes(65536))
        waiting = select.poll()
        waiting.register(accepted, select.POLLERR)
        assert waiting.poll(1000 * PATIENCE)
        with pytest.raises(TimeoutError):
            accepted.send(b"more")
