"""The one kind of failure that is meant for a person to read."""

from __future__ import annotations


class StreamError(Exception):
    """A failure that names its fault and says what to do next.

    Args:
        code: a stable word for programs, e.g. ``"bad_prompt"``.
        message: one sentence that names the fault.
        hint: what to do next, or empty.
    """

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(f"{message}: {hint}" if hint else message)
        self.code = code
        self.message = message
        self.hint = hint
