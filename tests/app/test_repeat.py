from __future__ import annotations

import hashlib
import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import longtake
from longtake.app.cli import main
from longtake.app.cues import check_order, from_arguments
from longtake.app.options import parser
from longtake.app.repeat import command_line
from longtake.app.stored import Segment, StoredTake
from longtake.streaming import Applied, Event, StreamError
from longtake.weights import GENERATOR

TAKE = StoredTake(
    folder=Path("/takes/one"),
    began=0.0,
    width=48,
    height=32,
    rate=8,
    model=GENERATOR,
    about={"seed": 7, "prompt": "a red ball"},
    applied=(),
    segments=(Segment(Path("/takes/one/00000000.mp4"), 0, 26),),
    state="finished",
    kept=False,
    size=1000,
)


def applied(*entries):
    return tuple(Applied(Event(field, value), chunk, time) for field, value, chunk, time in entries)


def arguments_of(line):
    words = shlex.split(line)
    assert words[:3] == ["python", "launch.py", "generate"]
    return words[2:]


def test_the_line_is_short_where_little_was_said():
    line = "python launch.py generate --prompt 'a red ball' --seconds 3.25 --seed 7"
    assert command_line(TAKE) == (line, [])


def test_the_line_says_prompts_settings_model_and_conditions():
    take = replace(
        TAKE,
        about={
            "seed": -3,
            "prompt": "a red ball",
            "conditions": {
                "device": "cuda:0",
                "dtype": "bfloat16",
                "quantize": "int8",
                "kv_cache": "fp8",
            },
        },
        model=Path("/models/my tiny one"),
        applied=applied(
            ("switch", "keep", 0, 0.0),
            ("steps", 2, 0, 0.0),
            ("prompt", "a blue ball", 0, 0.0),
            ("prompt", "it's night", 2, 2.0),
        ),
    )
    line, remarks = command_line(take)
    assert line == (
        "python launch.py generate --prompt 'a red ball' --prompt 'a blue ball' "
        "--prompt '@2s it'\"'\"'s night' "
        "--seconds 3.25 --seed -3 --model '/models/my tiny one' --switch keep --steps 2 "
        "--device cuda --dtype bf16 --quantize int8 --kv-cache fp8"
    )
    assert remarks == []
    assert parser().parse_args(arguments_of(line)).seed == -3


def test_what_the_line_cannot_say_is_remarked():
    take = replace(
        TAKE,
        about=TAKE.about
        | {"lora": "snow.safetensors at 0.8"}
        | {"conditions": {"device": "mps", "dtype": "float32"}},
        applied=applied(("steps", 2, 0, 0.0), ("steps", 2, 1, 1.0), ("steps", 4, 2, 2.0)),
        segments=(
            Segment(Path("/takes/one/00000004.mp4"), 4, 6),
            Segment(Path("/takes/one/00000020.mp4"), 20, 10),
        ),
    )
    line, remarks = command_line(take)
    assert line.endswith("--seconds 3.75 --seed 7 --steps 2 --dtype fp32")
    assert remarks == [
        "the take begins at 0.5 s of that film",
        "the take lacks 10 frames on the way",
        "steps became 4 at 2 s, which generate cannot do",
        "it was made with the LoRA snow.safetensors at 0.8, which --lora has to give",
        "it was made on mps, which generate does not offer",
    ]


def test_the_line_says_how_a_prompt_took_over():
    night = Applied(Event("prompt", "night", transition=4), 3, 1.5)
    first = Applied(Event("prompt", "a blue ball", transition=2), 0, 0.0)
    line, remarks = command_line(replace(TAKE, applied=(first, night)))
    assert "--prompt 'a blue ball' --prompt '@1.5s~4 night'" in line
    assert remarks == []


def test_prompts_of_one_chunk_are_all_said_in_order():
    entries = (("prompt", "make it green", 3, 1.5), ("prompt", "it snows", 3, 1.5))
    take = replace(TAKE, applied=applied(*entries))
    line, remarks = command_line(take)
    assert "--prompt 'a red ball' --prompt '@1.5s make it green' --prompt '@1.5s it snows'" in line
    assert remarks == []
    # A chapter can have one name.
    assert take.chapters == [(0, "a red ball"), (12, "it snows")]


@given(
    prompts=st.lists(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
        .filter(str.strip)
        .map(lambda text: text.replace("\0", "0").strip() or "x"),
        min_size=1,
        max_size=5,
    ),
    rate=st.sampled_from([8, 12, 15, 16, 24, 30]),
    chunk=st.integers(1, 12),
)
def test_any_prompts_are_read_back_and_due_at_their_chunk(prompts, rate, chunk):
    times = [index * chunk / rate for index in range(len(prompts))]
    later = [("prompt", prompt, i + 1, times[i + 1]) for i, prompt in enumerate(prompts[1:])]
    take = replace(
        TAKE,
        rate=rate,
        about={"seed": 0, "prompt": prompts[0]},
        applied=applied(*later),
        segments=(Segment(Path("0.mp4"), 0, chunk * len(prompts)),),
    )
    line, remarks = command_line(take)
    options = parser().parse_args(arguments_of(line))
    cues = from_arguments(options.prompt)
    check_order(cues, options.seconds)
    assert [cue.prompt for cue in cues] == prompts
    assert [next(i for i, time in enumerate(times) if time >= cue.at) for cue in cues] == list(
        range(len(prompts))
    )
    assert round(options.seconds * rate) == take.stop
    assert remarks == []


def test_spaces_that_are_lost_are_remarked():
    take = replace(TAKE, applied=applied(("prompt", " night ", 2, 2.0)))
    assert command_line(take)[1] == ["spaces around a prompt, and NUL characters, are left out"]
    assert "NUL" in command_line(replace(TAKE, about={"seed": 0, "prompt": "a\0b"}))[1][0]


def test_a_take_that_does_not_say_what_made_it_has_no_line():
    for about in ({}, {"seed": 7}, {"prompt": "a red ball"}):
        with pytest.raises(StreamError) as caught:
            command_line(replace(TAKE, about=about))
        assert caught.value.code == "bad_take"
    with pytest.raises(StreamError, match="nothing has been recorded"):
        command_line(replace(TAKE, segments=()))


def test_the_line_of_a_take_makes_its_frames_byte_for_byte(takes, tiny_model, tmp_path, capsys):
    digest = hashlib.sha256()
    with longtake.open(tiny_model, dtype="fp32") as model:
        config = model.generator.config
        take = model.take("a red ball", seed=7, steps=1, window=2)
        take.prompt("a blue ball")
        take.prompt("night falls", at=1.5, transition=2)
        recording = takes.begin(config.width, config.height, config.rate, take.about, model.folder)
        for frame in take.frames(3.25):
            recording.write(frame.pixels, frame.index, take.log)
            digest.update(frame.pixels.tobytes())
        recording.close()
    line, remarks = command_line(takes.takes()[0])
    assert remarks == []
    assert main([*arguments_of(line), "--out", str(tmp_path / "again.mp4"), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary["sha256"] == digest.hexdigest()
