"""Other sizes than a model's own: pictures, chunks, window and sink, from the command line on."""

from __future__ import annotations

import hashlib
import json
import shlex

import pytest

import longtake
from longtake.app.cli import main
from longtake.app.repeat import command_line
from longtake.models import memory
from longtake.models.memory import Memory
from longtake.streaming import StreamError

SHAPE = {"size": (48, 32), "chunk": 3, "window": 5, "sink": 1}


@pytest.fixture
def model(tiny_model):
    with longtake.open(tiny_model, dtype="fp32", **SHAPE) as opened:
        yield opened


def test_a_model_films_in_another_shape(model):
    take = model.take("a red ball", seed=7)
    take.prompt("night falls", at=0.1)
    frames = list(take.frames(3))
    assert frames[0].pixels.shape == (32, 48, 3)
    # A chunk of three latent frames is twelve pictures, a second and a half.
    assert [frame.prompt for frame in frames] == ["a red ball"] * 12 + ["night falls"] * 12
    cache = take._session.state.cache.settings
    assert (cache.sink, cache.window, cache.chunk) == (1, 5, 3)
    told = {"width": 48, "height": 32, "chunk": 3, "window": 5, "sink": 1}
    assert take.about["changes"] == told


def test_a_model_in_its_own_shape_says_nothing_of_it(tiny_model):
    with longtake.open(tiny_model, dtype="fp32") as model:
        assert "changes" not in model.about


def test_the_line_of_a_take_makes_its_shape(model, takes, tmp_path, capsys):
    config, digest = model.generator.config, hashlib.sha256()
    take = model.take("a red ball", seed=7, window=4)
    recording = takes.begin(config.width, config.height, config.rate, take.about, model.folder)
    for frame in take.frames(4):
        recording.write(frame.pixels, frame.index, take.log)
        digest.update(frame.pixels.tobytes())
    recording.close()
    line, remarks = command_line(takes.takes()[0])
    assert remarks == []
    assert "--size 48x32 --chunk 3 --window 4 --sink 1" in line
    assert main([*shlex.split(line)[2:], "--out", str(tmp_path / "again.mp4"), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary["sha256"] == digest.hexdigest()


@pytest.mark.parametrize("changes", [{"size": (32, 48)}, {"chunk": 2}], ids=str)
def test_a_snapshot_of_another_shape_is_refused(changes, model, tiny_model, tmp_path):
    take = model.take("a red ball", seed=7)
    list(take.frames(1))
    take.snapshot(tmp_path / "take")
    with (
        longtake.open(tiny_model, dtype="fp32", **SHAPE | changes) as other,
        pytest.raises(StreamError) as caught,
    ):
        other.restore(tmp_path / "take")
    assert caught.value.code == "bad_snapshot"
    assert "is a film of 48x32, 3 latent frames a chunk" in caught.value.message
    assert len(list(model.restore(tmp_path / "take").frames(1))) == 8


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--size 33x32", "33x32 pixels are no whole number of tokens of 16x16: 32x32 are"),
        ("--size 0x32", "width is 0"),
        ("--chunk 0", "chunk is 0"),
        ("--chunk 5", "window is 4; a chunk of 5 has to fit in it"),
        ("--window 1", "window is 1; a chunk of 2 has to fit in it"),
        ("--window 1025", "use at most 1024 latent frames"),
        ("--sink -1", "sink is -1"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(arguments, words, tiny_model, tmp_path, capsys):
    line = ["generate", "--model", str(tiny_model), "--prompt", "a", *arguments.split()]
    assert main([*line, "--out", str(tmp_path / "film.mp4")]) == 2
    err = capsys.readouterr().err
    assert words in err
    assert len(err.splitlines()) == 1


def test_a_shape_that_is_too_large_is_refused_before_it_is_loaded(tiny_model, monkeypatch):
    monkeypatch.setattr(memory, "memory_of", lambda device: Memory(10**7, 10**8))
    with pytest.raises(StreamError) as caught:
        longtake.open(tiny_model, dtype="fp32", size=(3200, 3200))
    assert caught.value.code == "no_memory"
    assert "cache" in caught.value.message
