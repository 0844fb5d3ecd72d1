from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import Mock

import pytest

from longtake.app.background import BackgroundRecording
from longtake.app.export import save_film
from longtake.app.mp4 import H264File, packets
from longtake.app.recording import Recording
from longtake.app.stored import read_take
from longtake.streaming import Applied, Event, StreamError


@pytest.fixture
def full_disk(monkeypatch):
    """Let `write` or `close` of a segment find the disk full; `monkeypatch.undo` makes room."""

    def fill(method, after=0):
        original = getattr(H264File, method)
        calls = iter(range(after))

        def fail(self, *arguments):
            if next(calls, None) is None:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return original(self, *arguments)

        monkeypatch.setattr(H264File, method, fail)

    return fill


def test_a_recording_is_saved_again_and_again_while_it_goes_on(
    takes, begin, record, tmp_path, read_film
):
    recording = begin(takes)
    record(recording, range(10))
    recording.cut()
    assert save_film(read_take(recording.folder), tmp_path / "a.mp4") is None
    record(recording, range(10, 25), (2, "night"))
    recording.cut()
    save_film(read_take(recording.folder), tmp_path / "b.mp4")
    kept = save_film(read_take(recording.folder), tmp_path / "a.mp4")
    assert kept == tmp_path / "a.1.mp4"
    recording.close()
    recording.close()
    assert read_film(kept).numbers == list(range(10))
    for name in ("a.mp4", "b.mp4"):
        film = read_film(tmp_path / name)
        assert film.numbers == list(range(25))
        assert film.times == [index / 8 for index in range(25)]
        assert film.chapters == [(0.0, "day"), (2.0, "night")]
        assert film.title == "day"
        assert film.about["seed"] == 7
        assert film.about["applied"] == [{"time": 2.0, "prompt": "night"}]


def test_segments_are_seconds_long_playable_and_counted(takes, begin, record, read_film):
    recording = begin(takes)
    record(recording, range(90))
    assert recording.frames == 90
    recording.close()
    take = read_take(recording.folder)
    assert [segment.first for segment in take.segments] == [0, 40, 80]
    for segment in take.segments:
        assert read_film(segment.path).frames == segment.frames
    assert (take.frames, take.seconds, take.missing, take.state) == (90, 11.25, 0, "finished")


def test_a_gap_begins_a_segment_and_moves_chapters_to_what_is_there(
    takes, begin, record, tmp_path, read_film
):
    recording = begin(takes)
    log = ((0, "dawn"), (2, "noon"), (3, "dusk"), (9, "never seen"))
    record(recording, range(4, 10), *log)
    record(recording, range(20, 30), *log)
    recording.close()
    take = read_take(recording.folder)
    assert (take.frames, take.missing, take.stop) == (16, 10, 30)
    save_film(take, tmp_path / "film.mp4")
    film = read_film(tmp_path / "film.mp4")
    assert film.numbers == [*range(4, 10), *range(20, 30)]
    # Noon came within the gap, and dusk half a second after it.
    assert film.chapters == [(0.0, "dawn"), (0.75, "noon"), (1.25, "dusk")]


def test_a_frame_that_goes_back_is_refused(takes, begin, record):
    recording = begin(takes)
    record(recording, range(5))
    with pytest.raises(ValueError, match="frame 3 comes after frame 4"):
        record(recording, [3])
    recording.close()
    assert read_take(recording.folder).frames == 5


def test_after_a_kill_all_but_the_newest_half_second_is_there(takes, tmp_path, read_film):
    script = (
        "import os, sys; sys.path.insert(0, sys.argv[2]); from pathlib import Path\n"
        "from conftest import begin_take, record_frames\n"
        "from longtake.app.takes import TakesFolder\n"
        "recording = begin_take(TakesFolder(Path(sys.argv[1])))\n"
        "record_frames(recording, range(48), (2, 'night'), (5, 'snow'), (9, 'rain'))\n"
        "os.kill(os.getpid(), 9)"
    )
    folder = Path(__file__).parent
    killed = subprocess.run([sys.executable, "-c", script, takes.path, folder], check=False)
    assert killed.returncode == -9
    (take,) = takes.takes()
    # A fragment is at most 4 frames, and the newest one is not out yet.
    assert 48 - 8 < take.frames <= 48
    assert (take.state, take.prompt, take.about["seed"]) == ("interrupted", "day", 7)
    save_film(take, tmp_path / "film.mp4")
    film = read_film(tmp_path / "film.mp4")
    assert film.numbers == list(range(take.frames))
    assert film.chapters == [(0.0, "day"), (2.0, "night"), (5.0, "snow")]
    takes.settle(take.name)
    assert takes.find(take.name).state == "finished"


def test_a_journal_torn_at_any_byte_is_read_up_to_there(takes, begin, record):
    recording = begin(takes)
    record(recording, range(2), (0, "night"), (1, "snöw"))
    recording.close()
    whole = read_take(recording.folder)
    assert [entry.event.value for entry in whole.applied] == ["night"]
    journal = recording.folder / "journal.jsonl"
    content = journal.read_bytes()
    header = content.index(b"\n")
    for size in range(len(content)):
        journal.write_bytes(content[:size])
        read = takes.takes()
        assert len(read) == (size >= header)
        for take in read:
            assert take.segments == whole.segments
            assert take.applied == whole.applied[: len(take.applied)]
            assert take.state == ("finished" if size == len(content) - 1 else "interrupted")
            takes.settle(take.name)
            settled = takes.find(take.name)
            assert (settled.state, settled.applied) == ("finished", take.applied)


@pytest.mark.parametrize("method", ["write", "close"])
def test_a_full_disk_is_said_and_the_recording_goes_on_when_there_is_room(
    takes, begin, record, full_disk, monkeypatch, method
):
    recording = begin(takes)
    full_disk(method, after=12 if method == "write" else 0)
    with pytest.raises(StreamError) as caught:
        record(recording, range(60), (1, "night"))
    assert caught.value.code == "disk_full"
    kept = recording.frames
    assert kept == (12 if method == "write" else 40)
    assert str(caught.value) == (
        f"the disk is full; {kept / 8:g} s of this take are kept in {recording.folder}: "
        "make room, with  python launch.py takes --clean  for example"
    )
    assert read_take(recording.folder).frames == kept
    monkeypatch.undo()
    record(recording, range(60, 70), (1, "night"))
    recording.close()
    take = read_take(recording.folder)
    assert (take.frames, take.missing, take.state) == (kept + 10, 60 - kept, "finished")
    assert [prompt for _, prompt in take.chapters] == ["day", "night"]


def test_a_disk_that_is_full_at_the_end_is_said_and_the_take_is_closed(
    takes, begin, record, full_disk
):
    recording = begin(takes)
    record(recording, range(20))
    full_disk("close")
    with pytest.raises(StreamError, match=r"the disk is full; 2\.5 s of this take are kept"):
        recording.close()
    recording.close()
    take = read_take(recording.folder)
    assert (take.frames, take.state) == (20, "finished")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_disk_that_is_really_full(takes, begin, record):
    recording = begin(takes)
    record(recording, range(40))
    (recording.folder / "00000040.mp4").symlink_to("/dev/full")
    with pytest.raises(StreamError, match="the disk is full; 5 s of this take are kept"):
        record(recording, range(40, 80))
    record(recording, range(80, 90))
    recording.close()
    assert [segment.first for segment in read_take(recording.folder).segments] == [0, 80]


def test_what_the_journal_could_not_say_on_a_full_disk_it_says_later(
    tmp_path, picture, monkeypatch
):
    recording = Recording(tmp_path, 48, 32, 8, {}, tmp_path)
    log = [Applied(Event("steps", 2), 0, 0.0), Applied(Event("prompt", "b", transition=4), 0, 0.0)]
    with monkeypatch.context() as full:
        journal = Mock(wraps=recording._journal._file)
        journal.flush.side_effect = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        full.setattr(recording._journal, "_file", journal)
        with pytest.raises(StreamError, match="the disk is full; 0 s of this take"):
            recording.write(picture(0), 0, log)
    recording.write(picture(1), 1, log)
    recording.close()
    assert read_take(tmp_path).applied == tuple(log)


@pytest.fixture
def slow(tmp_path):
    """A recording on a disk that writes a frame whenever its semaphore is released."""

    class Slow(Recording):
        released = threading.Semaphore(0)

        def write(self, *arguments):
            self.released.acquire()
            super().write(*arguments)

    return Slow(tmp_path, 48, 32, 8, {"prompt": "day"}, tmp_path)


def test_a_disk_that_cannot_keep_up_leaves_one_gap_and_keeps_nobody_waiting(slow, record, picture):
    recording = BackgroundRecording(slow, capacity=4 * picture(0).nbytes)
    record(recording, range(20))
    assert recording.lost == 16
    slow.released.release(100)
    recording.cut()
    assert read_take(slow.folder).frames == 4
    record(recording, range(20, 23))
    recording.close()
    recording.close()
    take = read_take(slow.folder)
    assert [(segment.first, segment.frames) for segment in take.segments] == [(0, 4), (20, 3)]
    assert take.missing == recording.lost == 16


def test_frames_are_left_out_until_the_disk_has_caught_up(slow, record, picture):
    recording = BackgroundRecording(slow, capacity=4 * picture(0).nbytes)
    record(recording, range(6))
    slow.released.release(1)
    while slow.frames < 1:
        time.sleep(0.001)
    record(recording, range(6, 8))
    assert recording.lost == 4
    slow.released.release(100)
    recording.close()
    assert read_take(slow.folder).frames == 4


def test_what_is_being_closed_is_waited_for(slow, record):
    recording = BackgroundRecording(slow)
    record(recording, range(3))
    with ThreadPoolExecutor(2) as threads:
        closing = threads.submit(recording.close)
        while not recording._writer._shutdown:
            time.sleep(0.001)
        cut = threads.submit(recording.cut)
        with pytest.raises(TimeoutError):
            cut.result(0.05)
        slow.released.release(100)
        cut.result()
        assert read_take(slow.folder).frames == 3
        closing.result()


def test_an_error_in_the_background_is_kept_and_said(tmp_path, record, full_disk, monkeypatch):
    written = Recording(tmp_path, 48, 32, 8, {"prompt": "day"}, tmp_path)
    recording = BackgroundRecording(written)
    full_disk("write", after=12)
    record(recording, range(20))
    with pytest.raises(StreamError, match=r"the disk is full; 1\.5 s of this take are kept"):
        recording.cut()
    record(recording, range(20, 22))
    assert (recording.error.code, recording.lost) == ("disk_full", 10)
    monkeypatch.undo()
    recording.resume()
    record(recording, range(22, 30))
    recording.close()
    take = read_take(tmp_path)
    assert (take.frames, take.missing) == (20, 10)


def test_a_failure_that_nobody_foresaw_is_said_too(tmp_path, record, monkeypatch):
    recording = BackgroundRecording(Recording(tmp_path, 48, 32, 8, {}, tmp_path))
    monkeypatch.setattr(H264File, "write", lambda *_: 1 / 0)
    record(recording, range(3))
    with pytest.raises(StreamError, match="ZeroDivisionError"):
        recording.close()
    assert recording.lost == 3
    assert sum(1 for path in tmp_path.glob("*.mp4") for _ in packets(path)) == 0
