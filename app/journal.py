"""What happened to a take, a line of JSON each, in a file that nobody else opens to write.

Appending survives whatever kills the process; only the last line may then be torn. The lock on the
file is the kernel's and ends with the process, so whether a take is being made is always known.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Lines wait here while the disk is full, and are written when there is room again.
_BUFFER_BYTES = 1 << 20


class Journal:
    """A take's journal, to append to; locked until it is closed.

    Args:
        path: the file; nobody else is appending to it.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=_BUFFER_BYTES)
        # It waits, for whoever asks just now whether the journal is open.
        fcntl.flock(self._file, fcntl.LOCK_EX)
        if self._file.tell():
            # The last line may be torn; what comes now stands on lines of its own.
            self._file.write(b"\n")

    def append(self, **line: Any) -> None:  # noqa: ANN401
        """Add a line.

        Raises:
            OSError: the disk is full, say; the next call writes this line too.
        """
        self._file.write(json.dumps(line).encode() + b"\n")
        self._file.flush()

    def close(self) -> None:
        """Unlock it. May be repeated.

        Raises:
            OSError: lines that were waiting cannot be written; it is closed all the same.
        """
        self._file.close()


def read_journal(path: Path) -> list[Mapping[str, Any]]:
    """The lines of a journal; what is no JSON object, a torn line say, is passed over.

    Raises:
        OSError: it cannot be read.
    """
    lines: list[Mapping[str, Any]] = []
    for text in path.read_bytes().split(b"\n"):
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict):
            lines.append(line)
    return lines


def is_open(path: Path) -> bool:
    """Whether a process, this one perhaps, is appending to a journal.

    Raises:
        OSError: it cannot be opened.
    """
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
