"""Lines typed into a terminal that shows something else."""

from __future__ import annotations

import os
import pty
import queue
import termios
from collections.abc import Iterator

import pytest

from longtake.app import typed
from longtake.app.typed import press, typed_lines

PATIENCE = 60


@pytest.fixture
def keyboard() -> Iterator[tuple[int, int]]:
    """Both ends of a terminal: where keys are pressed, and where they are read."""
    ends = pty.openpty()
    yield ends
    for end in ends:
        os.close(end)


def test_a_line_is_told_as_it_grows_and_when_it_is_entered(keyboard):
    keys, terminal = keyboard
    told: queue.Queue = queue.Queue()
    before = termios.tcgetattr(terminal)
    with typed_lines(terminal, told.put, lambda line: told.put([line])):
        assert not termios.tcgetattr(terminal)[3] & (termios.ECHO | termios.ICANON)
        for pressed, expected in [
            (b"what", ["what"]),
            (b"\x1b[D\x1b[A", []),
            (b" m\xc3", ["what m"]),
            (b"\xbcvx\x7fes\n", ["", ["what müves"]]),
            (b"no", ["no"]),
            (b"\x15", [""]),
            (b"\n", [""]),
        ]:
            os.write(keys, pressed)
            assert [told.get(timeout=PATIENCE) for _ in expected] == expected
    assert termios.tcgetattr(terminal) == before
    os.write(keys, b"later\n")
    assert told.empty()


def test_a_terminal_that_another_has_in_front_is_left_alone(keyboard, monkeypatch):
    _, terminal = keyboard
    before = termios.tcgetattr(terminal)
    monkeypatch.setattr(typed.os, "tcgetpgrp", lambda _: os.getpgrp() + 1)
    with typed_lines(terminal, print, print) as reads:
        assert not reads
        assert termios.tcgetattr(terminal) == before


@pytest.mark.parametrize(
    ("key", "line"),
    [
        *(("s", "what moves"), ("\x7f", "what mov"), ("\x08", "what mov"), ("\x17", "what")),
        *(("\x15", ""), ("\x04", "what move"), ("\t", "what move"), ("ß", "what moveß")),
    ],
)
def test_a_key_changes_the_end_of_a_line(key, line):
    assert press("what move", key) == line


def test_a_line_grows_no_longer_than_any_question():
    line = ""
    for _ in range(5000):
        line = press(line, "a")
    assert len(line) == 4000
