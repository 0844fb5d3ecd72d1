"""A recording in a thread of its own, for whoever must not wait for a disk."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from longtake.app.recording import Recording
from longtake.streaming import Applied, StreamError

# Frames that may wait for a slow disk: at 256x144 half a minute of them, at 832x480 a few seconds.
WAITING_BYTES = 64 << 20


class BackgroundRecording:
    """A recording that never keeps its caller waiting, for a live view.

    Frames wait in memory for the thread that writes them. Where the disk or the encoder cannot
    keep up and ``capacity`` is reached, the frames that come are left out and counted (``lost``),
    until all that waited is written: one gap, instead of many. The film on screen goes on.

    After an error no frame is taken until :meth:`resume`; those left out count as lost too.

    Args:
        recording: not used by anybody else from now on.
        capacity: bytes of frames that may wait.

    Attributes:
        lost: frames left out so far.
        error: why nothing is written any more, or None.
    """

    def __init__(self, recording: Recording, capacity: int = WAITING_BYTES) -> None:
        self.lost = 0
        self.error: StreamError | None = None
        self._recording = recording
        self._capacity = capacity
        self._waiting = 0
        self._behind = False
        self._lock = threading.Lock()
        self._writer = ThreadPoolExecutor(1, "longtake-recording")
        self._ended = threading.Event()

    @property
    def folder(self) -> Path:
        """Of the take."""
        return self._recording.folder

    def write(self, pixels: NDArray[np.uint8], index: int, log: Sequence[Applied] = ()) -> None:
        """Add a frame, or leave it out and count it; see :meth:`Recording.write`.

        Args:
            pixels: uint8 RGB, [height, width, 3]; not to be changed afterwards.
            index: its number in the film, above that of the frame before.
            log: every prompt and setting applied to the film so far; it may grow meanwhile.
        """
        with self._lock:
            self._behind = self._waiting > 0 and (
                self._behind or self._waiting + pixels.nbytes > self._capacity
            )
            if self._behind or self.error:
                self.lost += 1
                return
            self._waiting += pixels.nbytes
        self._writer.submit(self._write, pixels, index, log)

    def resume(self) -> None:
        """Take frames again after an error, when there is room on the disk, say."""
        self.error = None

    def cut(self) -> None:
        """Wait until every frame taken so far is on disk; while it is closed, until all are.

        Raises:
            StreamError: not all are, see :meth:`Recording.write`.
        """
        try:
            cut = self._writer.submit(self._recording.cut)
        except RuntimeError:  # somebody closes it, or has
            self._ended.wait()
            return
        cut.result()
        if self.error:
            raise self.error

    def close(self) -> None:
        """Write what waits and finish the take. May be repeated.

        Raises:
            StreamError: not all was written, see :meth:`Recording.write`.
        """
        try:
            self._writer.shutdown()
            self._recording.close()
        finally:
            self._ended.set()
            if self.error:  # the first one says what happened
                raise self.error

    def _write(self, pixels: NDArray[np.uint8], index: int, log: Sequence[Applied]) -> None:
        error = self.error
        if error is None:
            try:
                self._recording.write(pixels, index, log)
            except StreamError as caught:
                error = caught
            except Exception as caught:  # nobody else would hear of it
                problem = f"the take cannot be written ({caught!r})"
                error = StreamError("bad_output", problem, "report this")
        with self._lock:
            self._waiting -= pixels.nbytes
            if error:
                self.lost += 1
                self.error = error
