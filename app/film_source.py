"""Video files and network streams, through PyAV."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.stream import Disposition

from longtake.app.sampling import Pixels
from longtake.app.shots import Shot
from longtake.streaming import StreamError

# Seconds that a server may take to answer, and to send the next piece.
OPEN_TIMEOUT = 10.0
READ_TIMEOUT = 30.0
# A stream's beginning is looked at for so long, to find out what it is; FFmpeg's own 5 s would
# keep people waiting for a slow camera.
_LOOK = {"analyzeduration": "1000000"}
# Pictures one after another, without times; FFmpeg makes them up.
_TIMELESS = {"mpjpeg", "mjpeg", "image2pipe", "h264", "hevc"}
_COVER = Disposition.attached_pic
# A live stream that seems further ahead than that has jumped.
_JUMP_SECONDS = 10.0


class FilmSource:
    """A video file, or a stream from the network.

    Times are the frames' own, from the beginning of the file as players count. A stream that has
    no end is live; where its format has no times, a frame's is when it came.

    Args:
        place: the file, or an address that begins with ``http://`` or ``https://``.
        formats: FFmpeg's names of the containers it may be in, for a file that somebody sent:
            nothing else is then opened, whatever a playlist names. Any where they are left out.
        most_pixels: that a picture may have; any number where it is left out.

    Raises:
        StreamError: ``bad_source``: no such file or stream, or no video in it.
    """

    def __init__(
        self, place: Path | str, formats: Sequence[str] = (), most_pixels: int | None = None
    ) -> None:
        self.name = str(place)
        self._closed = threading.Event()
        # Held while a frame is read.
        self._reading = threading.Lock()
        remote = isinstance(place, str)
        options = _LOOK if remote else {}
        if formats:
            options = {"format_whitelist": ",".join(formats), "protocol_whitelist": "file"}
        try:
            self._container = av.open(
                self.name,
                options=options,
                timeout=(OPEN_TIMEOUT, READ_TIMEOUT) if remote else None,
            )
        except (av.error.FFmpegError, OSError) as error:
            raise _unopened(place, error) from None
        try:
            self._begin(remote, most_pixels)
        except BaseException:
            self._container.close()
            raise

    def _begin(self, remote: bool, most_pixels: int | None) -> None:
        container = self._container
        streams = moving(container)
        if not streams:
            heard = "only sound" if container.streams.audio else "no video"
            raise StreamError("bad_source", f"{self.name} holds {heard}", "give a video")
        self._stream = streams[0]
        self._stream.thread_type = "AUTO"
        width, height = self._stream.width, self._stream.height
        if most_pixels is not None and width * height > most_pixels:
            problem = f"{self.name} has {width}x{height} pixels"
            raise StreamError("bad_source", problem, f"use at most {most_pixels:,}")
        length = container.duration
        self.duration = None if length is None else length / av.time_base
        self.live = remote and self.duration is None
        self._timeless = self.live and bool(_TIMELESS & set(container.format.name.split(",")))
        self._origin = origin(container, self._stream)
        self._decoded = self._decode()
        first = next(self._decoded, None)
        if first is None:
            raise _without_pictures(self.name)
        self._decoded = chain([first], self._decoded)

    def shots(self) -> Iterator[Shot]:
        """Every frame, in order, once.

        Raises:
            StreamError: ``source_lost`` or ``stalled``: a stream broke off.
        """
        anchor = float("-inf")
        while found := self._next():
            when, frame = found
            if when < 0:  # players do not show it either
                continue
            if self.live and not self._timeless:
                # Streams come in bursts; handed on like that, most of each would be dropped.
                anchor = max(anchor, time.monotonic() - when)
                ahead = anchor + when - time.monotonic()
                if ahead > _JUMP_SECONDS:
                    anchor = time.monotonic() - when
                elif self._closed.wait(ahead):
                    return
            shown = 0.0 if self.live else float((frame.duration or 0) * self._stream.time_base)
            yield Shot(when, partial(_pixels, frame), shown)

    def close(self) -> None:
        """Let go of it; if a frame is waited for, when that has come or is given up."""
        self._closed.set()
        if self._reading.acquire(timeout=1.0):
            self._container.close()
            self._reading.release()

    def _next(self) -> tuple[float, Any] | None:
        """The next frame and its time; None where there is no more."""
        with self._reading:
            found = None if self._closed.is_set() else next(self._decoded, None)
            if not self._closed.is_set():
                return found
            # It may have been closed while that was waited for.
            self._container.close()
            return None

    def _decode(self) -> Iterator[tuple[float, Any]]:
        """Frames with their times in seconds; what is damaged is left out."""
        began = time.monotonic()
        newest, step = 0.0, float(1 / (self._stream.average_rate or Fraction(25)))
        for packet in self._packets():
            arrived = time.monotonic() - began
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                continue
            for frame in frames:
                if self._timeless:
                    newest = arrived
                elif frame.pts is None:
                    newest += step
                else:
                    newest = float(frame.pts * self._stream.time_base - self._origin)
                yield newest, frame

    def _packets(self) -> Iterator[Any]:
        """Coded frames, at the end an empty one, for which the decoder gives what it held back."""
        try:
            yield from self._container.demux(self._stream)
        except av.error.FFmpegError as error:
            last = av.Packet()
            last.stream = self._stream
            yield last
            # EIO is how FFmpeg tells of the end of what never said how long it is.
            if not (self.live and error.errno == errno.EIO):
                raise self._broken(error) from None

    def _broken(self, error: Any) -> StreamError:  # noqa: ANN401
        if isinstance(error, av.error.ExitError | av.error.TimeoutError):
            problem = f"{self.name} has sent nothing for {READ_TIMEOUT:g} s"
            return StreamError("stalled", problem, "see whether it still runs")
        problem = f"{self.name} broke off ({error.strerror})"
        return StreamError("source_lost", problem, "what came before was watched")


def moving(container: Any) -> list[Any]:  # noqa: ANN401
    """The video streams of a container that are no cover picture of its sound."""
    return [each for each in container.streams.video if not _COVER & each.disposition]


def origin(container: Any, stream: Any) -> Fraction:  # noqa: ANN401
    """Where the film begins, in seconds on the scale of its frames' times."""
    own = Fraction(stream.start_time or 0) * Fraction(stream.time_base)
    if container.start_time is None:
        return own
    # That of all streams, but rounded to microseconds.
    whole = Fraction(container.start_time, av.time_base)
    return own if abs(own - whole) < Fraction(1, 1000) else whole


def _pixels(frame: Any) -> Pixels:  # noqa: ANN401
    """Upright, as a player shows it."""
    pixels = frame.to_ndarray(format="rgb24")
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels


def _without_pictures(name: str) -> StreamError:
    problem = f"{name} holds no picture that can be read"
    return StreamError("bad_source", problem, "give a whole video file")


def _unopened(place: Path | str, error: Any) -> StreamError:  # noqa: ANN401
    reason = error.strerror or str(error)
    if isinstance(place, str):
        problem = f"{place} cannot be opened ({reason})"
        return StreamError("bad_source", problem, "see whether a player can show it")
    if isinstance(error, av.error.EOFError):
        return _without_pictures(str(place))
    if isinstance(error, av.error.InvalidDataError):
        problem = f"{place} is no video, or a damaged one"
        return StreamError("bad_source", problem, "see whether a player can show it")
    return StreamError("bad_source", f"{place} cannot be read ({reason})", "give a video file")
