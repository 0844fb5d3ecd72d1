from __future__ import annotations

import io
import os
import pty
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from longtake.app import caption, captions_view
from longtake.app.cli import main
from longtake.app.shots import Shot
from longtake.app.transcript import read_transcript
from longtake.streaming import StreamError

LAUNCH = Path(__file__).parents[2] / "launch.py"


@pytest.fixture
def film(shoot_film, tmp_path):
    """Six seconds."""
    return shoot_film(tmp_path / "film.mp4", [index / 10 for index in range(60)])


@pytest.fixture
def run(capsys, tiny_captioner):
    """Run the command in this process: exit code, lines of stdout, stderr."""

    def start(*arguments):
        capsys.readouterr()
        model = ["--model", tiny_captioner, "--device", "cpu", "--dtype", "fp32"]
        code = main(["caption", *map(str, [*model, *arguments])])
        captured = capsys.readouterr()
        return code, captured.out.splitlines(), captured.err

    return start


@pytest.mark.parametrize("suffix", [".vtt", ".srt", ".jsonl"])
def test_a_film_is_watched_in_the_terminal_and_in_a_file(run, film, tmp_path, suffix):
    out = tmp_path / f"talk{suffix}"
    code, shown, err = run(film, "--out", out)
    lines = read_transcript(out)
    assert code == 0
    assert [line.start for line in lines] == [float(second) for second in range(6)]
    assert [row.split("  ", 1) for row in (each.strip() for each in shown[:-1])] == [
        [f"0:0{second}", line.text] for second, line in enumerate(lines)
    ]
    assert shown[-1].startswith(f"{out}: 6 lines, 6 s watched in ")
    assert "longtake:" not in err


def test_the_same_seed_says_the_same_and_an_earlier_transcript_is_kept(run, film, tmp_path):
    out = tmp_path / "talk.jsonl"
    run(film, "--out", out, "--seed", 5)
    _, _, err = run(film, "--out", out, "--seed", 5)
    assert "was there already; it is now" in err
    assert read_transcript(out) == read_transcript(tmp_path / "talk.1.jsonl")
    run(film, "--out", out, "--seed", 6)
    assert read_transcript(out) != read_transcript(tmp_path / "talk.1.jsonl")


def test_questions_are_answered_in_their_seconds(run, film, tmp_path):
    out = tmp_path / "talk.jsonl"
    code, shown, _ = run(
        film, "--out", out, "--ask", "@3s what?", "--ask", "where?", "--ask", "who?"
    )
    lines = read_transcript(out)
    assert code == 0
    assert [(line.start, line.question) for line in lines if line.kind == "answer"] == [
        *((0.0, "where?"), (1.0, "who?"), (3.0, "what?")),
    ]
    assert shown[0].startswith("   0:00  where? ")


def test_settings_and_the_standing_instruction_reach_the_model(run, film, monkeypatch):
    seen = {}
    real = caption.open_witness

    def spy(model, **options):
        seen.update(options)
        return real(model, **options)

    monkeypatch.setattr(caption, "open_witness", spy)
    code, shown, _ = run(film, "--fps", "4", "--memory", "3", "--prompt", "be brief")
    assert code == 0
    assert (seen["fps"], seen["vision_seconds"]) == (4.0, 3.0)
    assert len(shown) == 7


def test_a_film_with_subtitles(run, film, tmp_path):
    out = tmp_path / "told.mp4"
    code, shown, _ = run(film, "--out", out)
    assert code == 0
    assert shown[-1] == f"{out}: the film with its captions as subtitles"
    with av.open(str(out)) as told:
        shown = [bytes(packet)[2:].decode() for packet in told.demux(told.streams.subtitles[0])]
    said = [line.text for line in read_transcript(tmp_path / "told.vtt")]
    assert [text for text in shown if text] == said


def _shoot_piece(path, start, size):
    """Two seconds of a broadcast that begin at a time, in frames of a height and a width."""
    with av.open(str(path), "w", format="mpegts") as film:
        stream = film.add_stream("libx264", rate=10, options={"bf": "0"})
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        for index in range(20):
            frame = av.VideoFrame.from_ndarray(
                np.full((*size, 3), 10 * index, np.uint8), format="rgb24"
            )
            frame.pts, frame.time_base = round(10 * start) + index, Fraction(1, 10)
            film.mux(stream.encode(frame))
        film.mux(stream.encode(None))
    return path.read_bytes()


def test_a_file_with_a_gap_and_another_size_is_watched_to_its_end(run, tmp_path):
    pieces = ((0, (32, 48)), (2, (64, 96)), (9, (64, 96)))
    film, out = tmp_path / "recorded.ts", tmp_path / "talk.jsonl"
    film.write_bytes(b"".join(_shoot_piece(tmp_path / "piece.ts", *each) for each in pieces))
    code, shown, err = run(film, "--out", out)
    assert code == 0
    assert not err
    assert [line.start for line in read_transcript(out)] == [0.0, 1.0, 2.0, 3.0, 9.0, 10.0]
    told = [row for row in shown if "the picture is now" in row or "nothing to see" in row]
    assert "96x64" in told[0]
    assert "nothing to see from 0:04 to 0:09" in told[1]
    assert len(told) == 2


def test_ctrl_c_ends_in_order_with_what_was_said(run, film, tmp_path, monkeypatch):
    line = captions_view.CaptionsView.line

    def interrupt(view, said):
        line(view, said)
        if said.start == 2:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(captions_view.CaptionsView, "line", interrupt)
    before = signal.getsignal(signal.SIGINT)
    code, shown, err = run(film, "--out", tmp_path / "talk.vtt")
    assert code == 130
    lines = read_transcript(tmp_path / "talk.vtt")
    assert lines[2].start == 2.0
    assert f"{len(lines)} lines" in shown[-1]
    assert "Traceback" not in err
    assert signal.getsignal(signal.SIGINT) is before


def test_a_source_that_breaks_off_leaves_the_transcript(run, tmp_path, picture, monkeypatch):
    class Broken:
        name, live, duration = "the camera", True, None

        def shots(self):
            yield Shot(0.0, lambda: picture(1))
            raise StreamError("source_lost", "the camera is gone", "see where it is")

        def close(self):
            pass

    opened = []
    monkeypatch.setattr(caption, "open_source", lambda name: opened.append(name) or Broken())
    code, _, err = run("webcam", "--out", tmp_path / "talk.vtt")
    assert code == 2
    said = f"the camera is gone; 1 lines are in {tmp_path / 'talk.vtt'}: see where it is"
    assert f"longtake: {said}\n" in err
    assert len(read_transcript(tmp_path / "talk.vtt")) == 1
    # Once to see whether it can be watched, once after the model was loaded.
    assert opened == ["webcam", "webcam"]


def test_a_question_is_typed_while_it_watches(tiny_captioner, tmp_path, picture, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    class Live:
        name, live, duration = "the camera", True, None

        def shots(self):
            for index in range(4):
                if index == 2:
                    while "(asked: what moves?)" not in terminal.getvalue():
                        assert time.monotonic() < give_up
                        time.sleep(0.01)
                yield Shot(index / 2, lambda: picture(1))

        def close(self):
            pass

    terminal, give_up = Terminal(), time.monotonic() + 60
    keys, screen = pty.openpty()
    os.write(keys, b"what moves?\n")
    monkeypatch.setattr(caption, "open_source", lambda name: Live())
    monkeypatch.setattr(sys, "stdout", terminal)
    out = tmp_path / "talk.jsonl"
    with os.fdopen(screen) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        assert main(["caption", "webcam", "--model", str(tiny_captioner), "--out", str(out)]) == 0
    os.close(keys)
    assert "what moves?" in {line.question for line in read_transcript(out)}
    assert "type a question" in terminal.getvalue()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["none.mp4"], "there is no file none.mp4"),
        (["webcam:77"], "there is no camera 77"),
        (["FILM", "--out", "talk.txt"], "does not end in"),
        (["FILM", "--out", "FILM"], "is the film that is watched"),
        (["FILM", "--ask", "@x what?"], "the time of the prompt"),
        (["FILM", "--ask", "@1s~4 what?"], "a question takes no ~ chunks"),
        (["FILM", "--ask", "why? " * 10_000], "the question has 50,000 characters"),
        (["FILM", "--prompt", "why? " * 10_000], "the instruction has 50,000 characters"),
        (["FILM", "--fps", "0.3"], "make no whole number of frames"),
    ],
)
def test_what_does_not_fit_is_said_in_one_sentence_and_leaves_nothing(
    run, film, tmp_path, monkeypatch, arguments, said
):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(*[str(film) if each == "FILM" else each for each in arguments])
    assert code == 2
    [line] = [line for line in err.splitlines() if line.startswith("longtake:")]
    assert said in line
    assert "Traceback" not in err
    assert [path.name for path in tmp_path.iterdir()] == ["film.mp4"]


def test_a_camera_is_no_film_to_put_subtitles_into(run, tmp_path, monkeypatch):
    class Empty:
        name, live, duration = "camera 0", True, None

        def close(self):
            pass

    monkeypatch.setattr(caption, "open_source", lambda name: Empty())
    code, _, err = run("webcam", "--out", tmp_path / "talk.mp4")
    assert code == 2
    assert "there is no film to put subtitles into: write" in err


def test_the_command_from_the_door_without_a_model_says_which_to_give(film, tmp_path):
    code = (
        "import sys; from pathlib import Path; from longtake.app import cli, witness\n"
        "witness.CAPTIONER = Path('none'); sys.exit(cli.main(sys.argv[1:]))"
    )
    command = [sys.executable, "-P", "-c", code, "caption", str(film)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "give a Qwen2.5-VL" in done.stderr


def test_help_says_what_can_be_watched():
    command = [sys.executable, str(LAUNCH), "caption", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    for word in ("webcam", "http", ".vtt", "--ask", "--prompt", "--memory"):
        assert word in done.stdout
