"""Ctrl-C and a polite kill, taken as a wish to end in order."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stop_request(then: Callable[[], None] | None = None) -> Iterator[threading.Event]:
    """Set by Ctrl-C or a polite kill, so that what is made ends where it may, not anywhere.

    A second Ctrl-C interrupts at once.

    Args:
        then: called too, in the signal's handler.
    """
    asked = threading.Event()

    def ask(number: int, _: FrameType | None) -> None:
        if asked.is_set():
            signal.default_int_handler(number, _)
        asked.set()
        if then is not None:
            then()

    earlier = {each: signal.signal(each, ask) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for each, handler in earlier.items():
            signal.signal(each, handler)
