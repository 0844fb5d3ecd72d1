"""What a person types into a terminal in which something else goes on."""

from __future__ import annotations

import codecs
import os
import re
import select
import termios
import threading
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# More than any question may have.
_MOST_TYPED = 4000
# How long what is typed for others is left alone before the next look.
_BEHIND_SECONDS = 0.5
# Arrows and other keys that send a sequence; there is no cursor to move.
_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|O.|.)?")
_ERASE, _ERASE_WORD, _ERASE_ALL = "\x7f\x08", "\x17", "\x15"


@contextmanager
def typed_lines(
    terminal: int, typing: Callable[[str], None], entered: Callable[[str], None]
) -> Iterator[bool]:
    """Read a terminal's keys in a thread; the terminal itself shows none of them meanwhile.

    Ctrl-C and its like go on doing what they do. It gives whether keys are read: not where a
    shell has put this process behind others, as it would be stopped for that.

    Args:
        terminal: its file descriptor.
        typing: called with the line as far as it is typed, whenever that changes.
        entered: called with every line, never an empty one, when Enter is pressed.
    """
    if not _in_front(terminal):
        yield False
        return
    before = termios.tcgetattr(terminal)
    stop, stopped = os.pipe()
    reader = threading.Thread(
        target=_read, args=(terminal, stop, typing, entered), name="longtake-typed", daemon=True
    )
    tty.setcbreak(terminal, termios.TCSADRAIN)
    reader.start()
    try:
        yield True
    finally:
        os.close(stopped)
        reader.join()
        os.close(stop)
        if _in_front(terminal):
            termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def _in_front(terminal: int) -> bool:
    """Whether the terminal is this process's to read, not that of a shell before it."""
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:  # no shell is in control of it
        return True


def _read(
    terminal: int, stop: int, typing: Callable[[str], None], entered: Callable[[str], None]
) -> None:
    decoder, line = codecs.getincrementaldecoder("utf-8")("replace"), ""
    while stop not in select.select([terminal, stop], [], [])[0]:
        if not _in_front(terminal):
            select.select([stop], [], [], _BEHIND_SECONDS)
            continue
        try:
            keys = os.read(terminal, 1024)
        except OSError:
            return  # it is gone
        if not keys:
            return
        before = line
        for key in _SEQUENCE.sub("", decoder.decode(keys)):
            if key in "\r\n":
                asked = line.strip()
                line = before = ""
                typing("")
                if asked:
                    entered(asked)
            else:
                line = press(line, key)
        if line != before:
            typing(line)


def press(line: str, key: str) -> str:
    """A line after a key was pressed at its end; what is no text and erases none does nothing."""
    if key in _ERASE:
        return line[:-1]
    if key == _ERASE_WORD:
        return line.rstrip().rpartition(" ")[0]
    if key == _ERASE_ALL:
        return ""
    return line + key if key.isprintable() and len(line) < _MOST_TYPED else line
