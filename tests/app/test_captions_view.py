from __future__ import annotations

import io

import pytest

from longtake.app import captions_view
from longtake.app.captions_view import CaptionsView, clock
from longtake.app.ingest import Dropped, Ended, Stalled
from longtake.app.sampling import Gap, Resized
from longtake.app.transcript import Line
from longtake.models.vlm.words import Words


class Terminal(io.StringIO):
    def isatty(self):
        return True

    @property
    def rows(self):
        """What is to be seen, colours left out; a cleared row is gone."""
        text = self.getvalue().replace("\x1b[2m", "").replace("\x1b[22m", "")
        return [row.rpartition("\r\x1b[2K")[2] for row in text.split("\n")]


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    return Terminal()


def say(view, *pieces, start=12.0, kind="caption", question=""):
    for index, piece in enumerate(pieces):
        final = index == len(pieces) - 1
        view.words(Words(piece, start, start + 1, kind, final), question)
    if text := "".join(pieces).strip():
        view.line(Line(start, start + 1, text, kind, question))


def test_words_appear_one_by_one_after_their_time(terminal):
    view = CaptionsView(terminal, None)
    view.words(Words(" a red", 12.0, 13.0, "caption", False))
    assert terminal.rows == ["   0:12  a red"]
    view.words(Words(" ball", 12.0, 13.0, "caption", True))
    view.line(Line(12.0, 13.0, "a red ball"))
    assert terminal.rows == ["   0:12  a red ball", ""]


def test_silence_shows_nothing(terminal):
    say(CaptionsView(terminal, None), "")
    assert terminal.getvalue() == ""


def test_an_answer_stands_below_its_question(terminal):
    say(CaptionsView(terminal, None), "a", " ball", kind="answer", question="what?")
    assert terminal.rows == ["   0:12  what?", "         a ball", ""]


def test_a_pipe_gets_whole_lines_and_nothing_that_moves_a_cursor():
    out = io.StringIO()
    view = CaptionsView(out, 60.0)
    say(view, "a", " ball")
    view.progress(13.0)
    say(view, "a", " cat", kind="answer", question="what?")
    view.notice(Gap(20.0, 70.5))
    view.end()
    assert out.getvalue() == (
        "   0:12  a ball\n   0:12  what? a cat\n         (nothing to see from 0:20 to 1:10)\n"
    )


def test_nothing_that_is_said_commands_the_terminal(terminal):
    say(CaptionsView(terminal, None), "a\x1b[2Jb\nc", question="\x1b]0;x\x07", kind="answer")
    assert "\x1b[2J" not in terminal.getvalue()
    assert "\x07" not in terminal.getvalue()
    assert terminal.getvalue().count("\n") == 2


def test_how_far_it_is_stands_in_a_row_that_the_next_words_replace(terminal, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(captions_view.time, "monotonic", lambda: now[0])
    view = CaptionsView(terminal, 60.0)
    now[0] = 105.0
    view.progress(20.0)
    assert terminal.rows == ["0:20 of 1:00, 33%, 0:10 left"]
    say(view, "a ball")
    assert terminal.rows == ["   0:12  a ball", ""]
    view.progress(21.0)
    view.end()
    assert terminal.rows[1] == ""


def test_notices_are_dim_rows_of_their_own(terminal):
    view = CaptionsView(terminal, None)
    for notice in (Resized(1.0, 640, 480), Stalled(5.2), Ended()):
        view.notice(notice)
    assert terminal.rows == [
        "         (the picture is now 640x480)",
        "         (nothing has come for 5 s; still waiting)",
        "",
    ]
    assert terminal.getvalue().count("\x1b[2m") == 2


def test_no_colour_where_none_is_wanted(terminal, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    view = CaptionsView(terminal, None)
    view.notice(Stalled(5.0))
    assert "\x1b[2m" not in terminal.getvalue()


def test_dropped_frames_are_added_up_and_told_of_between_lines(terminal, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(captions_view.time, "monotonic", lambda: now[0])
    view = CaptionsView(terminal, None)
    view.words(Words("a", 12.0, 13.0, "caption", False))
    view.notice(Dropped(2))
    assert len(terminal.rows) == 1
    view.line(Line(12.0, 13.0, "a"))
    view.notice(Dropped(4))
    view.notice(Dropped(4))
    said = [row.strip() for row in terminal.rows[1:-1]]
    assert said == ["(too slow for it: 2 frames were passed over)"]
    now[0] += 11
    view.notice(Dropped(2))
    view.notice(Dropped(6))
    view.end()
    said = [row.strip() for row in terminal.rows[2:-1]]
    assert said == [
        "(too slow for it: 10 frames were passed over)",
        "(too slow for it: 6 frames were passed over)",
    ]


def test_clocks():
    assert [clock(seconds) for seconds in (0, 59.9, 754, 3723.5)] == [
        *("0:00", "0:59", "12:34", "1:02:03"),
    ]


def test_what_is_said_waits_above_what_is_typed(terminal):
    view = CaptionsView(terminal, None)
    view.words(Words(" a red", 12.0, 13.0, "caption", False))
    view.typing("what")
    view.words(Words(" ball", 12.0, 13.0, "caption", True))
    assert terminal.rows == ["   0:12  a red", "       > what"]
    view.line(Line(12.0, 13.0, "a red ball"))
    say(view, " it", " snows", start=13.0)
    view.progress(14.0)
    view.typing("what?")
    view.tell("nothing special")
    said = ["   0:12  a red", "         ball", "   0:13  it snows"]
    assert terminal.rows == [*said, "         (nothing special)", "       > what?"]
    view.end()
    assert terminal.rows[-1] == ""


def test_words_come_one_by_one_again_once_nobody_types(terminal):
    view = CaptionsView(terminal, None)
    view.typing("w")
    view.words(Words(" a", 12.0, 13.0, "answer", False), "what?")
    assert terminal.rows == ["       > w"]
    view.typing("")
    assert terminal.rows == ["   0:12  what?", "         a"]
    view.words(Words(" ball", 12.0, 13.0, "answer", True), "what?")
    assert terminal.rows == ["   0:12  what?", "         a ball"]


def test_of_a_long_line_the_end_is_shown(terminal, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    CaptionsView(terminal, None).typing("what is it that moves")
    assert terminal.rows == ["       > that moves"]
