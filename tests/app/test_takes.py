from __future__ import annotations

import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest

from longtake.app.takes import TakesFolder
from longtake.streaming import StreamError

SCRIPT = (
    "import sys; sys.path.insert(0, sys.argv[2]); from pathlib import Path\n"
    "from conftest import begin_take, record_frames\n"
    "from longtake.app.takes import TakesFolder\n"
    "takes = TakesFolder(Path(sys.argv[1]), cap=int(sys.argv[3]))\n"
)
MAKE_ONE_AND_WAIT = SCRIPT + (
    "recording = begin_take(takes)\n"
    "record_frames(recording, range(50))\n"
    "print(recording.folder.name, flush=True); sys.stdin.read()"
)
MAKE_MANY = SCRIPT + (
    "for _ in range(8):\n"
    "    recording = begin_take(takes)\n"
    "    record_frames(recording, range(50))\n"
    "    recording.close()\n"
    "    assert takes.find(recording.folder.name).frames == 50\n"
)


def start(script, takes, cap=1 << 30):
    return subprocess.Popen(
        [sys.executable, "-c", script, takes.path, Path(__file__).parent, str(cap)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.fixture
def made(takes, begin, record, monkeypatch):
    """Make finished takes, a second apart."""
    seconds = count(1_000_000)
    monkeypatch.setattr("time.time", lambda: float(next(seconds)))

    def make(number):
        names = []
        for _ in range(number):
            recording = begin(takes)
            record(recording, range(20))
            recording.close()
            names.append(recording.folder.name)
        return names

    return make


def names_in(takes):
    return [take.name for take in reversed(takes.takes())]


def test_the_place_is_what_is_given_or_the_environment_says_or_the_users_own(monkeypatch, tmp_path):
    monkeypatch.setenv("LONGTAKE_TAKES", str(tmp_path / "said"))
    assert TakesFolder(tmp_path / "given").path == tmp_path / "given"
    assert TakesFolder().path == tmp_path / "said"
    monkeypatch.delenv("LONGTAKE_TAKES")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setattr("sys.platform", "linux")
    assert TakesFolder().path == tmp_path / "data" / "longtake" / "takes"
    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setenv("HOME", "/home/me")
    place = Path("/home/me/Library/Application Support/longtake/takes")
    assert TakesFolder().path == place


def test_there_are_no_takes_before_the_first_one_and_nothing_is_made_by_looking(takes):
    assert takes.takes() == []
    assert not takes.path.exists()


def test_takes_made_within_a_second_have_names_of_their_own(takes, made, monkeypatch):
    monkeypatch.setattr("time.strftime", lambda _: "2026-03-01_14-05-33")
    assert made(3) == [
        "2026-03-01_14-05-33",
        "2026-03-01_14-05-33_2",
        "2026-03-01_14-05-33_3",
    ]
    assert names_in(takes) == sorted(names_in(takes))


def test_the_oldest_finished_takes_make_room_and_none_that_is_kept(takes, made):
    first, _, _, fourth = made(4)
    takes.keep(first)
    size = takes.find(first).size
    takes.cap = round(2.5 * size)
    takes.make_room()
    assert names_in(takes) == [first, fourth]
    takes.keep(first, kept=False)
    (fifth,) = made(1)
    assert names_in(takes) == [first, fourth, fifth]
    (sixth,) = made(1)  # looked at when it began: the three before are too large
    assert names_in(takes) == [fourth, fifth, sixth]


def test_interrupted_takes_go_last(takes, made, begin, record):
    recording = begin(takes)
    record(recording, range(20))
    recording.cut()
    recording._journal.close()  # as when its process ends
    interrupted = recording.folder.name
    made(2)
    takes.cap = round(1.5 * takes.find(interrupted).size)
    takes.make_room()
    assert names_in(takes) == [interrupted]
    assert takes.takes()[0].state == "interrupted"


def test_a_take_that_outgrows_the_cap_removes_others_and_then_ends(takes, made, begin, record):
    made(3)
    takes.cap = 3 * takes.takes()[0].size
    recording = begin(takes)
    with pytest.raises(StreamError) as caught:
        record(recording, range(10_000))
    assert caught.value.code == "takes_full"
    recording.close()
    (take,) = takes.takes()
    assert take.frames == recording.frames > 0
    assert takes.cap < take.size < 2 * takes.cap


def test_two_processes_do_not_delete_each_others_open_take(takes, made):
    other = start(MAKE_ONE_AND_WAIT, takes)
    name = other.stdout.readline().strip()
    (mine,) = made(1)
    takes.cap = 1
    with pytest.raises(StreamError) as caught:
        takes.make_room()
    assert caught.value.code == "takes_full"
    assert names_in(takes) == [name]
    assert takes.find(name).state == "open"
    with pytest.raises(StreamError) as caught:
        takes.remove(name)
    assert caught.value.code == "take_open"
    takes.settle(name)
    assert takes.find(name).state == "open"
    assert takes.find(name).frames >= 40
    other.kill()
    other.wait()
    assert takes.find(name).state == "interrupted"
    takes.make_room()
    assert takes.takes() == []
    assert mine != name


def test_processes_that_make_takes_at_a_time_stay_within_the_cap(takes, made):
    (name,) = made(1)
    cap = 8 * takes.find(name).size
    others = [start(MAKE_MANY, takes, cap) for _ in range(3)]
    assert [other.wait() for other in others] == [0, 0, 0]
    takes.cap = cap
    takes.make_room()
    assert sum(take.size for take in takes.takes()) <= cap
    assert all(take.state == "finished" for take in takes.takes())


@pytest.mark.parametrize("name", ["", ".", "..", "../secret", "/etc", ".lock", ".new", "a\0b"])
def test_a_name_cannot_lead_out_of_the_folder(takes, made, tmp_path, name):
    made(1)
    (tmp_path / "secret").mkdir()
    for use in (takes.find, takes.keep, takes.remove, takes.settle):
        with pytest.raises(StreamError) as caught:
            use(name)
        assert caught.value.code == "no_take"
    assert (tmp_path / "secret").is_dir()
    assert not list(tmp_path.rglob("kept"))


def test_what_is_no_take_is_passed_over_and_left_alone(takes, made):
    (name,) = made(1)
    (takes.path / "holiday").mkdir()
    (takes.path / "holiday" / "journal.jsonl").write_text('{"version": 2}\n[]\nnonsense')
    (takes.path / "notes.txt").write_text("mine")
    (takes.find(name).folder / "export.mp4").write_text("mine")
    assert names_in(takes) == [name]
    with pytest.raises(StreamError) as caught:
        takes.remove("holiday")
    assert caught.value.code == "bad_take"
    takes.cap = 1
    takes.make_room()
    assert {path.name for path in takes.path.iterdir()} == {"holiday", "notes.txt", ".lock"}


def test_what_a_kill_left_half_begun_or_half_removed_is_no_take(takes, made):
    made(1)
    for name in (".new", ".removed"):
        (takes.path / name).mkdir()
        (takes.path / name / "00000000.mp4").write_bytes(b"half")
    names = made(1)
    assert names_in(takes)[-1:] == names
    takes.remove(names[0])
    assert not (takes.path / ".new").exists()
    assert not (takes.path / ".removed").exists()


def test_a_folder_that_cannot_be_used_is_said_with_what_to_do(tmp_path, begin):
    (tmp_path / "file").write_text("")
    takes = TakesFolder(tmp_path / "file")
    for use in (takes.takes, takes.make_room, lambda: begin(takes)):
        with pytest.raises(StreamError, match="set LONGTAKE_TAKES to another one") as caught:
            use()
        assert caught.value.code == "bad_takes"
