"""Captions in a terminal, word by word; in a pipe, line by line."""

from __future__ import annotations

import os
import shutil
import threading
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

    While somebody types, the last row is theirs, and what is said waits for the end of its line.

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
        self._lock = threading.RLock()
        # Of the line that is being said: its first words, the text so far, how much of it is shown.
        self._first: tuple[Words, str] | None = None
        self._text = ""
        self._shown = 0
        # Whether the cursor is behind such text, and whether it is in a row to be cleared.
        self._speaking = False
        self._status = False
        self._typed = ""
        self._began = time.monotonic()
        self._dropped = 0
        self._dropped_said = float("-inf")

    def words(self, words: Words, question: str = "") -> None:
        """The next piece; a question that it answers is shown above its first."""
        if not self._moves:
            return
        with self._lock:
            text = plain(words.text)
            if self._first is None:
                text = text.lstrip()
                if not text:
                    return
                self._first = (words, question)
            self._text += text
            if not self._typed:
                self._catch_up()

    def line(self, line: Line) -> None:
        """A line is whole."""
        with self._lock:
            if self._moves:
                self._end_line()
            else:
                asked = f"{plain(line.question)} " if line.question else ""
                self._put(f"{clock(line.start):>{_MARGIN - 2}}  {asked}{plain(line.text)}\n")
            self._tell_dropped()

    def typing(self, text: str) -> None:
        """Somebody types: the line so far, empty where it is entered or given up."""
        with self._lock:
            self._typed = plain(text)
            if self._typed:
                self._interrupt()
                self._show_typed()
            else:
                self._clear()
                self._catch_up()

    def tell(self, text: str) -> None:
        """A remark of the program's, in a row of its own."""
        with self._lock:
            self._interrupt()
            self._clear()
            self._put(f"{' ' * _MARGIN}{self._dim(f'({plain(text)})')}\n")
            self._show_typed()

    def notice(self, notice: Notice) -> None:
        """Something happened besides."""
        match notice:
            case Dropped(frames):
                self._dropped += frames
                self._tell_dropped()
            case Gap(start, stop):
                self.tell(f"nothing to see from {clock(start)} to {clock(stop)}")
            case Resized(_, width, height):
                self.tell(f"the picture is now {width}x{height}")
            case Stalled(seconds):
                self.tell(f"nothing has come for {seconds:.0f} s; still waiting")
            case Ended():
                pass
            case _:
                assert_never(notice)

    def progress(self, watched: float) -> None:
        """So many seconds of the video are watched: a row that the next words replace."""
        with self._lock:
            if not self._moves or self._speaking or self._typed:
                return
            status = clock(watched)
            if self._duration and watched > 0:
                spent = time.monotonic() - self._began
                left = max(0.0, self._duration - watched) * spent / watched
                share = min(1.0, watched / self._duration)
                status += f" of {clock(self._duration)}, {share:.0%}, {clock(left)} left"
            self._show_status(self._dim(status))

    def end(self) -> None:
        """Leave the terminal as it was found."""
        with self._lock:
            self._typed = ""
            self._end_line()
            self._dropped_said = float("-inf")
            self._tell_dropped()
            self._clear()

    def _tell_dropped(self) -> None:
        now = time.monotonic()
        if self._dropped and not self._speaking and now - self._dropped_said > _DROPPED_EVERY:
            self.tell(f"too slow for it: {self._dropped} frames were passed over")
            self._dropped, self._dropped_said = 0, now

    def _catch_up(self) -> None:
        """Show what was said and is not shown yet."""
        rest = self._text[self._shown :]
        if not self._speaking:
            rest = rest.lstrip()
            if not rest or self._first is None:
                return
            self._clear()
            words, question = self._first
            begins = f"{clock(words.start):>{_MARGIN - 2}}  "
            if question:
                begins += f"{self._dim(plain(question))}\n{' ' * _MARGIN}"
            self._put(" " * _MARGIN if self._shown else begins)
            self._speaking = True
        self._put(rest)
        self._shown = len(self._text)

    def _end_line(self) -> None:
        self._catch_up()
        self._interrupt()
        self._first, self._text, self._shown = None, "", 0
        self._show_typed()

    def _interrupt(self) -> None:
        """What is said goes on in another row."""
        if self._speaking:
            self._put("\n")
            self._speaking = False

    def _show_typed(self) -> None:
        if self._typed:
            room = shutil.get_terminal_size().columns - _MARGIN - 1
            self._show_status(f"{'> ':>{_MARGIN}}{self._typed[-max(room, 1) :]}")

    def _show_status(self, text: str) -> None:
        self._put(f"{_CLEAR}{text}")
        self._status = True

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
