from __future__ import annotations

import contextlib
import os
import subprocess
import sys

import av
import numpy as np
import pytest

from longtake.app.mp4 import H264File, Mp4Writer, packets
from longtake.streaming import StreamError


def picture(index):
    """A frame that moves, so that the encoder has something to say."""
    frame = np.zeros((32, 48, 3), np.uint8)
    frame[:, index % 48] = (255, 128, index % 256)
    return frame


def count_whole_frames(path):
    """Frames up to the first torn one."""
    count = 0
    with av.open(str(path)) as film, contextlib.suppress(av.error.InvalidDataError):
        for _ in film.decode(video=0):
            count += 1
    return count


def write_film(path, count, **options):
    writer = Mp4Writer(path, 48, 32, 8, {"seed": 7}, **options)
    for index in range(count):
        writer.write(picture(index), "day" if index < 12 else "night")
    return writer


def test_a_closed_film_has_every_frame_its_chapters_and_its_metadata(tmp_path, read_film):
    path = tmp_path / "film.mp4"
    writer = write_film(path, 40)
    writer.close()
    writer.close()
    film = read_film(path)
    assert (film.frames, film.size, film.codec) == (40, (48, 32), "h264 yuv420p")
    assert film.chapters == [(0.0, "day"), (1.5, "night")]
    assert film.times == [index / 8 for index in range(40)]
    assert film.title == "day"
    assert film.about == {"seed": 7}


def test_a_file_that_cannot_be_made_is_said_to_be_that(tmp_path):
    folder = tmp_path / "gone"
    folder.mkdir()
    writer = Mp4Writer(folder / "film.mp4", 48, 32, 8, {})
    folder.rmdir()
    with pytest.raises(StreamError, match=r"film\.mp4 cannot be written \(No such file"):
        writer.write(picture(0), "day")


def test_prompts_can_be_left_out(tmp_path, read_film):
    path = tmp_path / "film.mp4"
    write_film(path, 20, with_prompts=False).close()
    film = read_film(path)
    assert film.chapters == []
    assert film.title is None
    assert b"night" not in path.read_bytes()


def test_a_film_whose_writer_is_killed_keeps_nearly_all_frames(tmp_path, read_film):
    path = tmp_path / "film.mp4"
    script = (
        "import os, sys; sys.path.insert(0, sys.argv[2]); from pathlib import Path\n"
        "from test_mp4 import write_film\n"
        "write_film(Path(sys.argv[1]), 80); os.kill(os.getpid(), 9)"
    )
    folder = os.path.dirname(__file__)  # noqa: PTH120
    killed = subprocess.run([sys.executable, "-c", script, str(path), folder], check=False)
    assert killed.returncode == -9
    # Fragments are flushed twice a second: at 8 frames a second a fragment is at most 4 frames,
    # and the newest one is not out yet.
    assert read_film(path).frames >= 80 - 8


def test_an_existing_file_is_kept_under_another_name(tmp_path, read_film):
    path = tmp_path / "film.mp4"
    for count in (3, 4, 5):
        write_film(path, count).close()
    assert read_film(path).frames == 5
    assert read_film(tmp_path / "film.1.mp4").frames == 3
    assert read_film(tmp_path / "film.2.mp4").frames == 4


@pytest.mark.parametrize("name", ["missing/film.mp4", "folder.mp4", "film.avi"])
def test_an_impossible_place_is_refused_before_anything_is_written(tmp_path, name):
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(StreamError) as caught:
        write_film(tmp_path / name, 1)
    assert caught.value.code == "bad_output"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["folder.mp4"]


def test_a_full_disk_is_said_and_what_was_written_stays_playable(tmp_path):
    """A file-size limit stands in for the full disk: the same error path in the same place."""
    path = tmp_path / "film.mp4"
    script = (
        "import sys, signal, resource; sys.path.insert(0, sys.argv[2]); from pathlib import Path\n"
        "import numpy as np\n"
        "from longtake.app.mp4 import Mp4Writer\n"
        "from longtake.streaming import StreamError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))\n"
        "writer = Mp4Writer(Path(sys.argv[1]), 48, 32, 8, {})\n"
        "noise = np.random.default_rng(0)\n"
        "try:\n"
        "    for _ in range(2000):\n"
        "        writer.write(noise.integers(0, 256, (32, 48, 3), np.uint8), 'p')\n"
        "except StreamError as error:\n"
        "    print(error.code, error)\n"
    )
    folder = os.path.dirname(__file__)  # noqa: PTH120
    done = subprocess.run(
        [sys.executable, "-c", script, str(path), folder], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.stdout.startswith("bad_output"), done.stderr
    assert "failed after" in done.stdout
    assert count_whole_frames(path) > 4


def two_seconds(path):
    """A closed film of 16 frames, and its bytes from just before it was closed."""
    film = H264File(path, 48, 32, 8)
    for index in range(16):
        film.write(picture(index))
    opened = film.path.read_bytes()
    film.close()
    return film, opened


def test_a_film_torn_at_any_byte_keeps_every_whole_frame(tmp_path):
    """While it is written, and while it is being closed: its index is put behind what is there."""
    film, opened = two_seconds(tmp_path / "film.mp4")
    closed = film.path.read_bytes()
    # The last thing that closing does is a patch of the beginning.
    closing = opened + closed[len(opened) :]
    torn = tmp_path / "torn.mp4"
    whole = 0
    for size in range(len(closing) + 1):
        torn.write_bytes(closing[:size])
        read = list(packets(torn))
        assert len(read) >= whole
        whole = len(read)
    assert whole == 16
    film.path.write_bytes(closed)
    assert len(list(packets(film.path))) == 16


def test_torn_packets_are_not_decoded(tmp_path):
    film, opened = two_seconds(tmp_path / "film.mp4")
    for size in range(0, len(opened) + 1, 7):
        film.path.write_bytes(opened[:size])
        for packet in packets(film.path):
            assert len(packet.decode()) == 1
