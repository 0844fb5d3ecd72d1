"""The failure that is meant for a person to read."""

from __future__ import annotations

from longtake.streaming import StreamError


def test_an_error_reads_as_its_message_and_its_hint():
    error = StreamError("bad_prompt", "the prompt is empty", "say what is to be seen")
    assert str(error) == "the prompt is empty: say what is to be seen"
    assert (error.code, error.message) == ("bad_prompt", "the prompt is empty")
    assert error.hint == "say what is to be seen"


def test_an_error_without_a_hint_reads_as_its_message():
    assert str(StreamError("closed", "the session is closed")) == "the session is closed"
