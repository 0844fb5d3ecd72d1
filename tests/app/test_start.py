"""Files that a film begins with: read, scaled, cropped, counted, refused, and said again."""

from __future__ import annotations

import hashlib
import json
import shlex

import numpy as np
import pytest
from PIL import Image

import longtake
from longtake.app.cli import main
from longtake.app.repeat import command_line
from longtake.app.start import read_start
from longtake.streaming import StreamError

RATE = 8


def chunks_of_four(chunks):
    return 4 * chunks


def read(path, width=48, height=32):
    return read_start(path, width, height, RATE, chunks_of_four)


@pytest.fixture
def photo(tmp_path):
    """Left half red, right half blue, three times as wide as high."""
    pixels = np.zeros((60, 180, 3), np.uint8)
    pixels[:, :90, 0] = pixels[:, 90:, 2] = 255
    path = tmp_path / "photo.png"
    Image.fromarray(pixels).save(path)
    return path


def test_a_picture_is_scaled_cropped_and_held_for_a_chunk(photo):
    start = read(photo)
    assert start.frames.shape == (4, 32, 48, 3)
    assert start.frames.dtype == np.uint8
    assert (start.frames == start.frames[0]).all()
    # Cropped around the middle, not squeezed: half of it is of either colour.
    assert (start.frames[0, :, :22, 0] > 250).all()
    assert (start.frames[0, :, 26:, 2] > 250).all()
    digest = hashlib.sha256(photo.read_bytes()).hexdigest()
    assert start.receipt == {"file": str(photo), "sha256": digest, "frames": 4}


def test_a_photo_is_upright_and_what_is_transparent_is_black(tmp_path):
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:20] = 255
    turned = Image.fromarray(pixels)
    exif = turned.getexif()
    exif[0x0112] = 3  # upside down
    turned.save(tmp_path / "turned.jpg", exif=exif)
    frame = read(tmp_path / "turned.jpg", 60, 40).frames[0]
    assert frame[:15].mean() < 5
    assert frame[25:].mean() > 250
    Image.new("RGBA", (48, 32), (255, 255, 255, 0)).save(tmp_path / "clear.png")
    assert read(tmp_path / "clear.png").frames.max() == 0


@pytest.mark.parametrize(
    ("count", "fps", "expected"),
    [
        (8, 8, [0, 1, 2, 3, 4, 5, 6, 7]),
        (11, 8, [0, 1, 2, 3, 4, 5, 6, 7]),  # the rest is no whole chunk
        (3, 8, [0, 1, 2, 2]),  # the last one is held
        (16, 16, [0, 2, 4, 6, 8, 10, 12, 14]),
        (5, 4, [0, 0, 1, 1, 2, 2, 3, 3]),
    ],
)
def test_a_clip_gives_frames_at_the_films_rate_in_whole_chunks(
    count, fps, expected, shoot_film, numbers, tmp_path
):
    path = shoot_film(tmp_path / "clip.mp4", [index / fps for index in range(count)])
    start = read(path)
    assert numbers(start.frames) == expected
    assert start.receipt["frames"] == len(expected)


def test_an_animation_is_a_clip(tmp_path):
    pictures = [Image.new("RGB", (48, 32), (60 * n, 60 * n, 60 * n)) for n in range(4)]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=125)
    levels = [round(frame.mean() / 60) for frame in read(tmp_path / "a.gif").frames]
    assert levels == [0, 1, 2, 3]


def test_what_cannot_be_read_is_refused_in_a_sentence(photo, shoot_film, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(photo.read_bytes()[:100])
    (tmp_path / "text.txt").write_text("no picture")
    (tmp_path / "empty.png").touch()
    long = shoot_film(tmp_path / "long.mp4", range(7))
    for path, words in (
        (tmp_path / "nowhere.png", "No such file"),
        (tmp_path, "Is a directory"),
        (broken, "broken.png"),
        (tmp_path / "text.txt", "text.txt"),
        (tmp_path / "empty.png", "empty.png"),
        (long, "longer than 5 s"),
    ):
        with pytest.raises(StreamError) as caught:
            read(path)
        assert caught.value.code == "bad_start"
        assert words in caught.value.message
        assert "\n" not in str(caught.value)


def test_the_command_begins_with_a_picture(photo, tiny_model, tmp_path, capsys, read_film):
    line = ["generate", "--model", str(tiny_model), "--dtype", "fp32", "--prompt", "a red ball"]
    line += ["--seconds", "2", "--out", str(tmp_path / "film.mp4"), "--json"]
    digests = set()
    for more in ([], ["--start", str(photo)], ["--start", str(photo)]):
        assert main([*line, *more]) == 0
        digests.add(json.loads(capsys.readouterr().out.splitlines()[-1])["sha256"])
    assert len(digests) == 2
    # What is given to others says the file's name, not where it is.
    told = read_film(tmp_path / "film.mp4").about["start"]
    assert told["file"] == "photo.png"
    assert main([*line, "--start", str(tmp_path / "nowhere.png")]) == 2
    assert "nowhere.png cannot be read" in capsys.readouterr().err


def test_the_line_of_a_take_says_what_it_began_with(photo, takes, tiny_model, tmp_path, capsys):
    digest = hashlib.sha256()
    with longtake.open(tiny_model, dtype="fp32") as model:
        config = model.generator.config
        take = model.take("a red ball", seed=7, start=photo)
        recording = takes.begin(config.width, config.height, config.rate, take.about, model.folder)
        for frame in take.frames(2):
            recording.write(frame.pixels, frame.index, take.log)
            digest.update(frame.pixels.tobytes())
        recording.close()
    stored = takes.takes()[0]
    line, remarks = command_line(stored)
    assert remarks == []
    out = ["--out", str(tmp_path / "again.mp4"), "--json"]
    assert main([*shlex.split(line)[2:], *out]) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary["sha256"] == digest.hexdigest()
    Image.new("RGB", (9, 9)).save(photo)
    assert command_line(stored)[1] == [f"it begins with {photo}, which has changed since"]
    photo.unlink()
    assert "cannot be read" in command_line(stored)[1][0]


def test_a_take_goes_on_from_a_snapshot_within_its_start(photo, tiny_model, tmp_path):
    with longtake.open(tiny_model, dtype="fp32") as model:
        take = model.take("a red ball", seed=7, start=photo)
        before = [frame.pixels for frame in take.frames(0.5)]
        take.snapshot(tmp_path / "take")
        after = [frame.pixels.tobytes() for frame in take.frames(2)]
        photo.unlink()
        again = model.restore(tmp_path / "take")
        assert [frame.pixels.tobytes() for frame in again.frames(2)] == after
        assert again.about["start"]["file"] == str(photo)
        assert len(before) == 4
