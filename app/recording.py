"""A take written to a folder while it is made: short films one after another, and a journal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from longtake.app.journal import Journal
from longtake.app.mp4 import H264File, packets
from longtake.app.outputs import error_code, reason
from longtake.streaming import Applied, StreamError

JOURNAL = "journal.jsonl"
SEGMENT_SECONDS = 5


class Recording:
    """One take on its way to disk; memory stays constant however long it is.

    Frames go into segments of a few seconds, each an MP4 named after the film's frame it begins
    with. A process that is killed loses the newest half second at most. A frame whose number does
    not follow on begins a segment too, so a film may be recorded with gaps.

    Args:
        folder: exists and is empty.
        width: pixels, even.
        height: pixels, even.
        rate: frames a second.
        about: what makes the film, JSON-like; ``prompt`` is the first one.
        model: the model's folder, for :func:`.command_line`.
        make_room: called with the bytes recorded so far before a segment begins; may refuse it.

    Attributes:
        folder: of the take; it may be renamed.
        size: bytes of the segments that have ended.

    Raises:
        StreamError: ``disk_full`` or ``bad_output``: the journal cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        width: int,
        height: int,
        rate: int,
        about: Mapping[str, Any],
        model: Path,
        make_room: Callable[[int], None] | None = None,
    ) -> None:
        self.folder = folder
        self.size = 0
        self._format = (width, height, rate)
        self._make_room = make_room
        self._frames = 0
        self._next = 0
        self._noted = 0
        self._segment: H264File | None = None
        self._closed = False
        with self._failures_said():
            self._journal = Journal(folder / JOURNAL)
            self._journal.append(
                version=1,
                began=time.time(),
                width=width,
                height=height,
                rate=rate,
                model=str(model.absolute()),
                about=dict(about),
            )

    @property
    def frames(self) -> int:
        """Recorded so far; gaps are not counted."""
        return self._frames + (self._segment.frames if self._segment else 0)

    def write(self, pixels: NDArray[np.uint8], index: int, log: Sequence[Applied] = ()) -> None:
        """Add a frame.

        Args:
            pixels: uint8 RGB, [height, width, 3].
            index: its number in the film, above that of the frame before.
            log: every prompt and setting applied to the film so far; what is new is noted.

        Raises:
            StreamError: ``disk_full``, ``takes_full`` or ``bad_output``; what was recorded before
                is kept, and the next frame is tried anew.
            ValueError: the number does not rise.
        """
        if index < self._next:  # its segment could overwrite an earlier one
            raise ValueError(f"frame {index} comes after frame {self._next - 1}")
        with self._failures_said():
            for entry in log[self._noted :]:
                self._noted += 1
                event = entry.event
                self._journal.append(
                    applied=event.field,
                    value=event.value,
                    transition=event.transition,
                    chunk=entry.chunk,
                    time=entry.time,
                )
            segment, rate = self._segment, self._format[2]
            if segment and (index != self._next or segment.frames >= SEGMENT_SECONDS * rate):
                self._end_segment(segment)
            if self._segment is None:
                if self._make_room:
                    self._make_room(self.size)
                self._segment = H264File(self.folder / f"{index:08d}.mp4", *self._format)
            self._segment.write(pixels)
            self._next = index + 1

    def cut(self) -> None:
        """End the segment, so that everything so far is on disk.

        Raises:
            StreamError: as in :meth:`write`.
        """
        with self._failures_said():
            if self._segment:
                self._end_segment(self._segment)

    def close(self) -> None:
        """Finish the take. May be repeated.

        Raises:
            StreamError: as in :meth:`write`; it is closed all the same.
        """
        if self._closed:
            return
        self._closed = True
        try:
            self.cut()
        finally:
            with self._failures_said():
                try:
                    self._journal.append(finished=True)
                finally:
                    self._journal.close()

    def _end_segment(self, segment: H264File) -> None:
        segment.close()
        self._count(segment, segment.frames)

    def _count(self, segment: H264File, frames: int) -> None:
        self._segment = None
        self._frames += frames
        self.size += segment.path.stat().st_size
        self._journal.append(segment=segment.path.name, frames=frames)

    @contextmanager
    def _failures_said(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._give_up_segment()
            seconds = self.frames / self._format[2]
            kept = f"{seconds:g} s of this take are kept in {self.folder}"
            code = error_code(error)
            if code == "disk_full":
                hint = "make room, with  python launch.py takes --clean  for example"
                raise StreamError(code, f"the disk is full; {kept}", hint) from None
            problem = f"the take cannot be written ({reason(error)}); {kept}"
            raise StreamError(code, problem, "see to its folder") from None

    def _give_up_segment(self) -> None:
        """Count what of the segment did reach the disk, since not all that was written did."""
        if (segment := self._segment) is None:
            return
        self._segment = None
        with suppress(OSError):
            segment.container.close()
        with suppress(OSError):
            if frames := sum(1 for _ in packets(segment.path)):
                self._count(segment, frames)
            else:
                segment.path.unlink(missing_ok=True)
