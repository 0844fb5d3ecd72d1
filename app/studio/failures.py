"""What a client is told of an error."""

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
