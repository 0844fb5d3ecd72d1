"""What can go wrong on the studio's WebSocket: error codes, and reasons to close it."""

from __future__ import annotations

from typing import Literal, NamedTuple

from longtake.streaming import StreamError

ErrorCode = Literal[
    "bad_version",
    "bad_token",
    "no_session",
    "busy",
    "bad_json",
    "too_large",
    "bad_message",
    "out_of_order",
    "too_fast",
    "unsupported",
    "bad_prompt",
    "bad_setting",
    "bad_time",
    "bad_start",
    "nothing_recorded",
    "bad_output",
    "closed",
    "model_failed",
    "internal",
]
Reason = Literal["asked", "refused", "replaced", "stalled", "idle", "time_up", "shutdown"]


class Fault(NamedTuple):
    """What an error code stands for.

    Attributes:
        retryable: whether the same request may succeed later, unchanged.
        meaning: when it is sent.
        hint: what the error's hint tells.
    """

    retryable: bool
    meaning: str
    hint: str


ERRORS: dict[ErrorCode, Fault] = {
    "bad_version": Fault(False, "the other side speaks another version", "the version to use"),
    "bad_token": Fault(False, "the access token is missing or wrong", "where to find it"),
    "no_session": Fault(
        False, "the session to resume is unknown or was given up", "to begin a new one"
    ),
    "busy": Fault(True, "all places, those in the queue too, are taken", "when to try again"),
    "bad_json": Fault(False, "the text is not one JSON object in UTF-8", "what to send instead"),
    "too_large": Fault(False, "the message is over the size limit", "the limit"),
    "bad_message": Fault(
        False,
        "a type or field is unknown, missing or does not fit",
        "what the field takes, or that it is to be added or left out",
    ),
    "out_of_order": Fault(False, "the request does not fit here", "what has to come before it"),
    "too_fast": Fault(
        True,
        "more requests a second than the server takes, or more changes than may wait",
        "the rate it takes, or what to wait for",
    ),
    "unsupported": Fault(False, "this server or model cannot do it", "what it can do"),
    "bad_prompt": Fault(False, "the prompt is empty, too long or no text", "what a prompt is"),
    "bad_setting": Fault(False, "there is no such setting or value", "the values it takes"),
    "bad_time": Fault(False, "the time is not one that a film can have", "the times there are"),
    "bad_start": Fault(
        False, "there is no such start, or the model makes no film from one", "what to do instead"
    ),
    "nothing_recorded": Fault(
        False, "the frames to save are not made yet or no longer kept", "what can be saved"
    ),
    "bad_output": Fault(True, "a file cannot be written", "what the person at the server can do"),
    "closed": Fault(False, "the take or the engine has ended", "to open another one"),
    "model_failed": Fault(True, "the model failed and the take has ended", "what was kept"),
    "internal": Fault(False, "the server failed in a way that has no code", "where to report it"),
}
# Codes of what can go wrong with takes on disk and captioners -> those that a client is told.
ALIASES: dict[str, ErrorCode] = {
    "bad_length": "nothing_recorded",
    "bad_take": "nothing_recorded",
    "bad_takes": "bad_output",
    "bad_model": "unsupported",
    "no_model": "unsupported",
    "no_memory": "model_failed",
    "disk_full": "bad_output",
    "takes_full": "bad_output",
}
REASONS: dict[Reason, str] = {
    "asked": "the client said `bye`",
    "refused": "`hello` was refused or did not come in time, or too many requests were refused",
    "replaced": "the session was resumed over another connection",
    "stalled": "the client did not keep up for `limits.stall` seconds; the session can be resumed",
    "idle": "there was no request but `playback`, nor one in `limits.idle_grace` after the pause",
    "time_up": "the visit lasted `limits.visit` seconds and others wait",
    "shutdown": "the server stops",
}


class RequestError(StreamError):
    """A text message that is refused.

    Args:
        code: of the fault.
        message: one sentence that names it.
        hint: what to send instead.
        request_id: the ``id`` that the message has, if it can be read.
    """

    def __init__(
        self, code: ErrorCode, message: str, hint: str, request_id: int | None = None
    ) -> None:
        super().__init__(code, message, hint)
        self.request_id = request_id


def broken(problem: str) -> StreamError:
    """What a client says of a server that does not keep to the protocol."""
    message = f"the server breaks the protocol: {problem}"
    return StreamError("bad_message", message, "update both sides; if that is no help, report this")
