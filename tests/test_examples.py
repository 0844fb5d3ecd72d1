"""The README's code and the examples run as they stand, here on a tiny model."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import av
import pytest

ROOT = Path(__file__).parents[1]
STEER = ROOT / "examples" / "steer.py"


@pytest.fixture(autouse=True)
def _in_an_empty_folder_with_a_tiny_model(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr("longtake.app.api.GENERATOR", tiny_model)
    monkeypatch.chdir(tmp_path)


def test_steering_a_take_in_six_lines(tmp_path):
    runpy.run_path(str(STEER))
    with av.open(str(tmp_path / "take.mp4")) as film:
        assert sum(1 for _ in film.decode(video=0)) == 20 * 8
        titles = [chapter["metadata"]["title"] for chapter in film.chapters()]
    assert titles == [
        "a red ball bounces on green grass on a sunny day",
        "night falls and it starts to snow",
    ]
    lines = [line for line in STEER.read_text("utf-8").splitlines() if line]
    assert len(lines) <= 6


def test_frames_as_they_come(tmp_path, capsys):
    runpy.run_path(str(ROOT / "examples" / "frames.py"))
    stills = sorted(path.name for path in tmp_path.glob("*.png"))
    assert stills == ["still_0s.png", "still_10s.png", "still_5s.png"]
    assert "the star turns blue" in capsys.readouterr().out


def test_a_video_is_watched_and_asked_about(tmp_path, monkeypatch, capsys, tiny_captioner):
    monkeypatch.setattr("longtake.app.witness.CAPTIONER", tiny_captioner)
    runpy.run_path(str(STEER))
    monkeypatch.setattr("sys.argv", ["watch.py", "take.mp4"])
    capsys.readouterr()
    runpy.run_path(str(ROOT / "examples" / "watch.py"))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 20
    assert lines[2].startswith("   2.0 s  what is moving? ")


def test_the_readme_shows_the_example():
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    assert STEER.read_text("utf-8") == blocks[0]
