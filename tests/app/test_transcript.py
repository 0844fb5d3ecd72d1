from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtake.app.transcript import (
    SUFFIXES,
    Line,
    LineBuilder,
    TranscriptWriter,
    read_transcript,
    search,
)
from longtake.models.vlm.words import Words
from longtake.streaming import StreamError

LINES = [
    Line(0.0, 1.0, "a red ball bounces"),
    Line(1.0, 2.5, "<b>it</b> & that --> falls, ÄÖ"),
    Line(3600.125, 3601.0, "a blue one", "answer", "which ball is it?"),
]


def words(*pieces, kind="caption", start=0.0, final=True):
    last = len(pieces) - 1
    return [
        Words(piece, start, start + 1, kind, final and index == last)
        for index, piece in enumerate(pieces)
    ]


def write(path, lines=LINES):
    writer = TranscriptWriter(path)
    for line in lines:
        writer.write(line)
    writer.close()
    return writer


# --- lines from words ---


def test_a_line_is_made_of_the_pieces_up_to_the_final_one():
    builder = LineBuilder()
    made = [builder.add(piece) for piece in words(" a red", " ball", "s.", "")]
    assert made == [None, None, None, Line(0.0, 1.0, "a red balls.")]
    assert builder.end() is None


def test_silence_is_no_line():
    assert LineBuilder().add(*words("")) is None
    assert LineBuilder().add(*words(" \n")) is None


def test_a_line_has_no_breaks_and_nothing_that_commands_a_terminal():
    assert LineBuilder().add(*words("a\n\nb\x1b[2J\u2028c")).text == "a b [2J c"


def test_an_answer_knows_its_question():
    line = LineBuilder().add(*words("a ball", kind="answer"), question="what\nis it?")
    assert (line.kind, line.question) == ("answer", "what is it?")
    assert LineBuilder().add(*words("a ball"), question="what is it?").question == ""


def test_a_line_that_breaks_off_can_be_had_as_far_as_it_got():
    builder = LineBuilder()
    builder.add(*words("a re", final=False))
    assert builder.end() == Line(0.0, 1.0, "a re")
    assert builder.end() is None


# --- files ---


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_written_is_read_back(tmp_path, suffix):
    writer = write(tmp_path / f"talk{suffix}")
    assert writer.kept is None
    assert writer.lines == 3
    assert read_transcript(writer.path) == LINES


def test_web_subtitles_are_as_browsers_want_them(tmp_path):
    write(tmp_path / "talk.vtt")
    assert (tmp_path / "talk.vtt").read_text("utf-8").split("\n\n") == [
        "WEBVTT",
        "00:00:00.000 --> 00:00:01.000\na red ball bounces",
        "00:00:01.000 --> 00:00:02.500\n&lt;b&gt;it&lt;/b&gt; &amp; that --&gt; falls, ÄÖ",
        "01:00:00.125 --> 01:00:01.000\nQ: which ball is it?\nA: a blue one",
        "",
    ]


def test_subrip_counts_its_lines(tmp_path):
    write(tmp_path / "talk.srt", LINES[::2])
    assert (tmp_path / "talk.srt").read_text("utf-8").split("\n\n") == [
        "1\n00:00:00,000 --> 00:00:01,000\na red ball bounces",
        "2\n01:00:00,125 --> 01:00:01,000\nQ: which ball is it?\nA: a blue one",
        "",
    ]


def test_json_lines_have_every_field(tmp_path):
    write(tmp_path / "talk.jsonl", LINES[2:])
    assert json.loads((tmp_path / "talk.jsonl").read_text("utf-8")) == {
        "start": 3600.125,
        "end": 3601.0,
        "text": "a blue one",
        "kind": "answer",
        "question": "which ball is it?",
    }


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_line_is_in_the_file_as_soon_as_it_is_written_and_outlives_a_kill(tmp_path, suffix):
    path = tmp_path / f"talk{suffix}"
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from longtake.app.transcript import Line, TranscriptWriter\n"
        "writer = TranscriptWriter(Path(sys.argv[1]))\n"
        "writer.write(Line(0.0, 1.0, 'one')); writer.write(Line(1.0, 2.0, 'two'))\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code, str(path)], check=False)
    assert done.returncode == -9
    assert [line.text for line in read_transcript(path)] == ["one", "two"]


@pytest.mark.parametrize("suffix", SUFFIXES)
@given(st.data())
def test_a_file_torn_anywhere_gives_the_lines_before(tmp_path_factory, suffix, data):
    path = tmp_path_factory.mktemp("torn") / f"talk{suffix}"
    write(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
    read = read_transcript(path)
    # The last one may lack its end.
    assert read[:-1] == LINES[: max(0, len(read) - 1)]
    if read:
        assert LINES[len(read) - 1].start == read[-1].start


def test_subtitles_of_other_makers_are_read(tmp_path):
    path = tmp_path / "talk.vtt"
    path.write_bytes(
        b"\xef\xbb\xbfWEBVTT - a title\r\n\r\nNOTE not said\r\n\r\nSTYLE\r\n::cue {}\r\n\r\n"
        b"intro\r\n00:01.000 --> 00:02.000 align:start\r\ntwo\r\nrows\r\n\r\n\r\n"
        b"00:00:03.000 --> 00:00:04.000\r\n\r\n"
    )
    assert read_transcript(path) == [Line(1.0, 2.0, "two rows")]


@pytest.mark.parametrize(
    ("name", "text"),
    [("none.vtt", None), ("film.mp4", "x"), ("talk.jsonl", "x\n"), ("talk.jsonl", '{"a": 1}\n')],
)
def test_what_is_no_transcript_is_refused(tmp_path, name, text):
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    with pytest.raises(StreamError) as caught:
        read_transcript(path)
    assert caught.value.code == "bad_transcript"
    assert str(path) in caught.value.message


def test_an_earlier_transcript_is_kept(tmp_path):
    write(tmp_path / "talk.vtt", LINES[:1])
    writer = write(tmp_path / "talk.vtt", LINES[1:2])
    assert writer.kept == tmp_path / "talk.1.vtt"
    assert read_transcript(writer.kept) == LINES[:1]
    assert read_transcript(writer.path) == LINES[1:2]


@pytest.mark.parametrize("name", ["talk.txt", "none/talk.vtt"])
def test_a_place_where_no_transcript_can_be_is_refused(tmp_path, name):
    with pytest.raises(StreamError) as caught:
        TranscriptWriter(tmp_path / name)
    assert caught.value.code == "bad_output"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_says_what_is_kept(tmp_path):
    writer = TranscriptWriter(tmp_path / "talk.srt")
    writer.write(LINES[0])
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, writer._file.fileno())
    os.close(full)
    with pytest.raises(StreamError, match="make room; the 1 lines before are in it") as caught:
        writer.write(LINES[1])
    assert caught.value.code == "disk_full"
    writer.close()
    assert read_transcript(writer.path) == LINES[:1]


def test_lines_are_found_by_words_in_any_order_case_or_part():
    assert search(LINES, "BOUNCE red") == LINES[:1]
    assert search(LINES, "ball") == [LINES[0], LINES[2]]  # one of them asked for
    assert search(LINES, "äö") == LINES[1:2]
    assert search(LINES, "ball snow") == []
    assert search(LINES, " ") == []
