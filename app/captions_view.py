"""Captions in a terminal, word by word; in a pipe, line by line."""

from __future__ import annotations

import os
import time
from typing import TextIO, assert_never

from longtake.app.ingest import Dropped, Ended, Notice, Stalled
from longtake.app.sampling import Gap, Resized
from longtake.app.transcript import Line, plain
from longtake.models.vlm.words import Words

_MARGIN = 9
# Frames are dropped all the time on a slow machine; that is said no more often than this, in s.
_DROPPED_EVERY = 10.0
_CLEAR = "\r\x1b[2K"


class CaptionsView:
    """Shows what is said as it is said, the time of what is seen on the left.

    Args:
        out: where to; a terminal gets words as they come and a line that says how far it is,
            anything else whole lines and nothing that would move a cursor.
        duration: of the video in seconds, or None where it is not known.
    """

    def __init__(self, out: TextIO, duration: float | None) -> None:
        self._out = out
        self._duration = duration
        self._moves = out.isatty()
        self._dims = self._moves and not os.environ.get("NO_COLOR")
        self._speaking = False
        self._status = False
        self._began = time.monotonic()
        self._dropped = 0
        self._dropped_said = float("-inf")

    def words(self, words: Words, question: str = "") -> None:
        """The next piece; a question that it answers is shown above its first."""
        if not self._moves:
            return
        text = plain(words.text)
        if not self._speaking:
            text = text.lstrip()
            if not text:
                return
            self._clear()
            if question:
                self._put(f"{clock(words.start):>{_MARGIN - 2}}  {self._dim(plain(question))}\n")
            self._put(f"{'' if question else clock(words.start):>{_MARGIN - 2}}  ")
            self._speaking = True
        self._put(text)

    def line(self, line: Line) -> None:
        """A line is whole."""
        if self._speaking:
            self._put("\n")
        elif not self._moves:
            asked = f"{plain(line.question)} " if line.question else ""
            self._put(f"{clock(line.start):>{_MARGIN - 2}}  {asked}{plain(line.text)}\n")
        self._speaking = False
        self._tell_dropped()

    def notice(self, notice: Notice) -> None:
        """Something happened besides."""
        match notice:
            case Dropped(frames):
                self._dropped += frames
                self._tell_dropped()
            case Gap(start, stop):
                self._tell(f"nothing to see from {clock(start)} to {clock(stop)}")
            case Resized(_, width, height):
                self._tell(f"the picture is now {width}x{height}")
            case Stalled(seconds):
                self._tell(f"nothing has come for {seconds:.0f} s; still waiting")
            case Ended():
                pass
            case _:
                assert_never(notice)

    def progress(self, watched: float) -> None:
        """So many seconds of the video are watched: a line that the next words replace."""
        if not self._moves or self._speaking:
            return
        status = clock(watched)
        if self._duration and watched > 0:
            spent = time.monotonic() - self._began
            left = max(0.0, self._duration - watched) * spent / watched
            share = min(1.0, watched / self._duration)
            status += f" of {clock(self._duration)}, {share:.0%}, {clock(left)} left"
        self._put(f"{_CLEAR}{self._dim(status)}")
        self._status = True

    def end(self) -> None:
        """Leave the terminal as it was found."""
        if self._speaking:
            self._put("\n")
        self._speaking = False
        self._dropped_said = float("-inf")
        self._tell_dropped()
        self._clear()

    def _tell_dropped(self) -> None:
        now = time.monotonic()
        if self._dropped and not self._speaking and now - self._dropped_said > _DROPPED_EVERY:
            self._tell(f"too slow for it: {self._dropped} frames were passed over")
            self._dropped, self._dropped_said = 0, now

    def _tell(self, text: str) -> None:
        if self._speaking:
            self._put("\n")
            self._speaking = False
        self._clear()
        self._put(f"{' ' * _MARGIN}{self._dim(f'({text})')}\n")

    def _dim(self, text: str) -> str:
        return f"\x1b[2m{text}\x1b[22m" if self._dims else text

    def _clear(self) -> None:
        if self._status:
            self._put(_CLEAR)
            self._status = False

    def _put(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()


def clock(seconds: float) -> str:
    """``0:07``, ``12:34`` or ``1:02:03``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
