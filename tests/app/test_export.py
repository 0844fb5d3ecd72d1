from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from longtake.app.export import export, save_animation, save_film, save_still
from longtake.app.stored import read_take
from longtake.streaming import StreamError


@pytest.fixture
def take(takes, begin, record):
    """Frames 0 to 89, in segments of 40."""
    recording = begin(takes)
    record(recording, range(90), (2, "noon"), (9, "dusk"), (11, "night"))
    recording.close()
    return read_take(recording.folder)


@pytest.mark.parametrize("last", [0.1, 1, 1.25, 2, 4.4, 6.3, 9, 11.25, 100, float("inf")])
def test_the_last_seconds_begin_at_the_key_frame_before(take, tmp_path, read_film, last):
    save_film(take, tmp_path / "film.mp4", last)
    film = read_film(tmp_path / "film.mp4")
    first = 90 - film.frames
    wanted = max(0, 90 - round(min(last, 1000) * 8))
    assert wanted - 8 < first <= wanted
    # The numbers begin again at 50.
    assert film.numbers == [index % 50 for index in range(first, 90)]
    assert film.times == [index / 8 for index in range(film.frames)]


def test_the_last_seconds_have_the_chapters_that_they_show(take, tmp_path, read_film):
    save_film(take, tmp_path / "film.mp4", 3.3)
    film = read_film(tmp_path / "film.mp4")
    start = 90 - film.frames
    assert 64 - 8 < start <= 64
    assert film.chapters == [
        (0.0, "noon"),
        ((72 - start) / 8, "dusk"),
        ((88 - start) / 8, "night"),
    ]
    assert film.title == "noon"
    assert film.about["begins"] == start / 8
    assert film.about["seed"] == 7


def test_a_chapter_shorter_than_what_is_shown_of_it_is_there_from_the_start(
    take, tmp_path, read_film
):
    save_film(take, tmp_path / "film.mp4", 0)
    film = read_film(tmp_path / "film.mp4")
    assert film.chapters[-1][1] == "night"
    assert film.numbers[-1] == 89 % 50
    assert film.frames <= 8


@pytest.mark.parametrize(("at", "number"), [(None, 89), (0, 0), (5.5, 44), (11.24, 89)])
def test_a_still_is_the_frame_of_its_time(take, tmp_path, numbers, at, number):
    save_still(take, tmp_path / "still.png", at)
    with Image.open(tmp_path / "still.png") as still:
        assert (still.format, still.size) == ("PNG", (48, 32))
        assert numbers([np.asarray(still)]) == [number % 50]


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_an_animation_plays_the_end_at_the_films_pace(take, tmp_path, numbers, suffix):
    save_animation(take, tmp_path / f"end{suffix}", 2)
    with Image.open(tmp_path / f"end{suffix}") as animation:
        assert animation.info["loop"] == 0
        shown, milliseconds = [], 0
        for index in range(animation.n_frames):
            animation.seek(index)
            shown += numbers([np.asarray(animation.convert("RGB"))])
            milliseconds += animation.info["duration"]
    assert milliseconds == 2000
    if suffix == ".gif":
        assert shown == [index % 50 for index in range(74, 90)]
    else:  # frames that look the same are one that lasts longer
        assert shown == sorted(shown)
        assert (shown[0], shown[-1]) == (74 % 50, 89 % 50)


@pytest.mark.parametrize("name", ["a.mp4", "a.png", "a.webp", "a.gif"])
def test_a_file_in_the_way_is_kept_and_what_is_saved_is_whole(take, tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"precious")
    kept = export(take, path)
    assert kept == path.with_suffix(f".1{path.suffix}")
    assert kept.read_bytes() == b"precious"
    broken = replace(take, segments=(replace(take.segments[0], path=tmp_path / "gone.mp4"),))
    content = path.read_bytes()
    with pytest.raises(StreamError, match="No such file"):
        export(broken, path)
    assert path.read_bytes() == content
    assert {each.name for each in tmp_path.iterdir()} == {"takes", path.name, kept.name}


def test_a_take_whose_files_lost_their_content_is_said_to_be_that(take, tmp_path):
    for segment in take.segments:
        segment.path.write_bytes(b"")
    for name in ("a.mp4", "a.png", "a.webp"):
        with pytest.raises(StreamError) as caught:
            export(take, tmp_path / name)
        assert caught.value.code == "bad_take"
    assert [each.name for each in tmp_path.iterdir()] == ["takes"]


@pytest.mark.parametrize("last", [-1, float("nan")])
@pytest.mark.parametrize("name", ["a.mp4", "a.webp"])
def test_a_length_that_is_none_is_refused(take, tmp_path, name, last):
    with pytest.raises(StreamError) as caught:
        export(take, tmp_path / name, last)
    assert caught.value.code == "bad_length"


def test_what_is_too_long_or_out_of_the_take_is_refused(take, tmp_path):
    with pytest.raises(StreamError, match="too long"):
        save_animation(take, tmp_path / "a.webp", 21)
    for at in (-1, 11.25, float("nan")):
        with pytest.raises(StreamError, match="there is no frame at"):
            save_still(take, tmp_path / "a.png", at)


@pytest.mark.parametrize("name", ["a.mp4", "a.png", "a.gif"])
def test_nothing_is_saved_of_a_take_without_frames(takes, begin, tmp_path, name):
    take = read_take(begin(takes).folder)
    with pytest.raises(StreamError, match="nothing has been recorded"):
        export(take, tmp_path / name)


def test_a_file_of_another_kind_is_refused(take, tmp_path):
    with pytest.raises(StreamError, match=r"film\.mkv does not end in \.mp4"):
        export(take, tmp_path / "film.mkv")
