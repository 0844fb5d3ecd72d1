from __future__ import annotations

import hashlib

import av
import pytest

from longtake.app.export import save_film
from longtake.app.stored import read_take
from longtake.app.subtitles import add_subtitles
from longtake.app.transcript import Line
from longtake.streaming import StreamError

TIMES = [index / 7 for index in range(40)]
LINES = [
    Line(0.0, 1.0, r"a {\i1}<red> ball\N"),
    Line(1.0, 3.0, "it bounces, ÄÖ"),
    Line(2.0, 3.0, "a ball", "answer", "what is it?"),
    Line(5.0, 6.0, "it is gone"),
]


def shown(path):
    """Start, end and text of all that is shown, as a player gets it."""
    cues = []
    with av.open(str(path)) as film:
        for packet in film.demux(film.streams.subtitles[0]):
            # An empty one ends what was shown before.
            if text := bytes(packet)[2:].decode():
                start = float(packet.pts * packet.time_base)
                stop = start + float(packet.duration * packet.time_base)
                cues.append((start, stop, text))
    return cues


def coded(path, kind):
    """Hashes of the coded packets of a kind, which are what is not encoded again."""
    with av.open(str(path)) as film:
        streams = [stream for stream in film.streams if stream.type == kind]
        return [
            (hashlib.sha256(bytes(packet)).hexdigest(), packet.pts * packet.time_base)
            for packet in film.demux(streams)
            if packet.size
        ]


def test_subtitles_are_beside_the_film_which_is_the_same(shoot_film, tmp_path):
    film = shoot_film(tmp_path / "film.mp4", TIMES, sound=True)
    copy = tmp_path / "copy.mp4"
    assert add_subtitles(film, LINES, copy) is None
    assert coded(copy, "video") == coded(film, "video")
    assert coded(copy, "audio") == coded(film, "audio")
    assert shown(copy) == [
        (0.0, 1.0, r"a {\i1}<red> ball\N"),
        (1.0, 2.0, "it bounces, ÄÖ"),
        (2.0, 3.0, "Q: what is it?\nA: a ball"),
        (5.0, 6.0, "it is gone"),
    ]


def test_chapters_and_what_made_the_film_are_copied(begin, record, takes, tmp_path, read_film):
    recording = begin(takes)
    record(recording, range(24), (0, "day"), (1, "night"))
    recording.close()
    save_film(read_take(recording.folder), tmp_path / "take.mp4")
    add_subtitles(tmp_path / "take.mp4", LINES, tmp_path / "copy.mp4")
    film, copy = read_film(tmp_path / "take.mp4"), read_film(tmp_path / "copy.mp4")
    assert copy.chapters == film.chapters != []
    assert copy.about == film.about != {}
    assert copy.title == film.title == "day"


@pytest.mark.parametrize("ending", ["mkv", "ts"])
def test_films_of_other_kinds_keep_every_frame_and_their_words_in_time(
    shoot_film, tmp_path, ending
):
    film = shoot_film(tmp_path / f"film.{ending}", [100 + time for time in TIMES])
    copy = tmp_path / "copy.mp4"
    add_subtitles(film, LINES[:1], copy)
    with av.open(str(copy)) as played:
        first = next(played.decode(video=0)).time
    assert len(coded(copy, "video")) == len(TIMES)
    assert shown(copy)[0][0] == pytest.approx(first, abs=1e-3)


def test_a_film_without_words_has_an_empty_track(shoot_film, tmp_path):
    add_subtitles(shoot_film(tmp_path / "film.mp4", TIMES), [], tmp_path / "copy.mp4")
    assert shown(tmp_path / "copy.mp4") == []


def test_an_earlier_copy_is_kept(shoot_film, tmp_path):
    film = shoot_film(tmp_path / "film.mp4", TIMES)
    assert add_subtitles(film, LINES, tmp_path / "copy.mp4") is None
    assert add_subtitles(film, LINES, tmp_path / "copy.mp4") == tmp_path / "copy.1.mp4"


def test_pictures_that_no_mp4_holds_are_refused_and_nothing_is_left(tmp_path):
    film = tmp_path / "film.avi"
    with av.open(str(film), "w") as container:
        stream = container.add_stream("huffyuv", rate=10)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv422p"
        frame = av.VideoFrame(48, 32, "yuv422p")
        container.mux([*stream.encode(frame), *stream.encode(None)])
    with pytest.raises(StreamError) as caught:
        add_subtitles(film, LINES, tmp_path / "copy.mp4")
    assert caught.value.code == "bad_source"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["film.avi"]
