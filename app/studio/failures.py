"""What a client is told when its request, its take or its visit does not go on."""

from __future__ import annotations

import logging

from longtake.app import wire
from longtake.streaming import StreamError


def failure(error: Exception, request_id: int | None = None) -> wire.Error:
    """What a client is told of an error; one that nobody foresaw is logged."""
    if not isinstance(error, StreamError):
        logging.getLogger(__name__).error("a request or a take failed", exc_info=error)
        problem = f"the server failed with {type(error).__name__}"
        error = StreamError("internal", problem, "report this, with what the server printed")
    return wire.Error.of(error, request_id)


def idle_notice(limits: wire.Limits, paused: bool) -> wire.Notice:
    """What a client is told that asked for nothing for ``limits.idle`` seconds.

    Args:
        limits: of the server.
        paused: whether its film was paused for that.
    """
    problem = f"nothing was asked for {_span(limits.idle)}"
    problem += ", so the film is paused" if paused else ""
    hint = "go on with it" if paused else "ask for something"
    hint += f" within {_span(limits.idle_grace)}, or the session ends; its take is saved"
    return wire.Notice.of(StreamError("idle", problem, hint), paused=paused)


def _span(seconds: float) -> str:
    """Minutes, or seconds where they are few."""
    return f"{seconds:g} s" if seconds < 120 else f"{seconds / 60:.0f} minutes"
