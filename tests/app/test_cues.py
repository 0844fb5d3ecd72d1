from __future__ import annotations

import pytest

from longtake.app.cues import Cue, check_order, from_arguments, from_script
from longtake.streaming import StreamError


def test_an_at_time_is_split_from_its_prompt():
    cues = from_arguments(["a red ball", "@12.5s night falls", "  @20s  snow"])
    assert cues == [Cue(0.0, "a red ball"), Cue(12.5, "night falls"), Cue(20.0, "snow")]


def test_a_prompt_may_take_over_in_some_chunks(tmp_path):
    assert from_arguments(["@12.5s~4 night falls", "@20s ~4 snow"]) == [
        Cue(12.5, "night falls", 4),
        Cue(20.0, "~4 snow"),
    ]
    script = tmp_path / "script.jsonl"
    script.write_text('{"at": 2.5, "prompt": "night", "transition": 4}\n')
    assert from_script(script, every=10) == [Cue(2.5, "night", 4)]


@pytest.mark.parametrize(
    "prompt",
    [
        "@3s~ night",
        "@3s~-1 night",
        "@3s~a b",
        "@12 night",
        "@s night",
        "@-3s night",
        "@12s",
        "@1e9s night",
    ],
)
def test_an_unreadable_time_is_named(prompt):
    with pytest.raises(StreamError, match="time of the prompt") as caught:
        from_arguments([prompt])
    assert caught.value.code == "bad_prompt"


def test_both_script_forms(tmp_path):
    ours, theirs = tmp_path / "ours.jsonl", tmp_path / "theirs.jsonl"
    ours.write_text(
        '{"at": 0, "prompt": "a ball"}\n\n{"prompt": "nächtlich", "at": 2.5}\n', "utf-8"
    )
    theirs.write_text('{"prompts": ["a ball", "night", "snow"]}\n')
    assert from_script(ours, every=10) == [Cue(0, "a ball"), Cue(2.5, "nächtlich")]
    assert from_script(theirs, every=4) == [Cue(0, "a ball"), Cue(4, "night"), Cue(8, "snow")]


@pytest.mark.parametrize(
    "line",
    [
        "not json",
        "[1]",
        '{"prompt": "no time"}',
        '{"at": "2", "prompt": "x"}',
        '{"at": -1, "prompt": "x"}',
        '{"at": 1, "prompt": 5}',
        '{"at": 1, "prompt": "x", "extra": 1}',
        '{"at": 1, "prompt": "x", "transition": "2"}',
        '{"at": 1, "prompt": "x", "transition": 2, "extra": 1}',
        '{"prompts": [1]}',
        '{"prompts": ["a"]}',
    ],
)
def test_a_bad_line_is_named_with_its_file_and_number(tmp_path, line):
    path = tmp_path / "script.jsonl"
    path.write_text('{"at": 0, "prompt": "a ball"}\n' + line + "\n")
    with pytest.raises(StreamError) as caught:
        from_script(path, every=10)
    assert caught.value.code == "bad_script"
    assert f"{path}, line 2" in str(caught.value)


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe\x00", b"\n\n"])
def test_an_unreadable_or_empty_script_is_named(tmp_path, content):
    path = tmp_path / "script.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StreamError, match="script") as caught:
        from_script(path, every=10)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("cues", "words"),
    [
        ([], "no prompt"),
        ([Cue(3, "late")], "begins at 3 s"),
        ([Cue(0, "a"), Cue(5, "b"), Cue(4, "c")], '"c" at 4 s does not come after'),
        ([Cue(0, "a"), Cue(10, "b")], "beyond the end"),
        ([Cue(0, "a", 2)], "no prompt before the first one"),
    ],
)
def test_cues_out_of_order_or_beyond_the_end_are_refused(cues, words):
    with pytest.raises(StreamError, match=words):
        check_order(cues, seconds=10)


def test_cues_in_order_pass():
    check_order([Cue(0, "a"), Cue(5, "b"), Cue(5, "c"), Cue(9.9, "d")], seconds=10)
