"""The client against a server that follows a script, and checks what it is told."""

from __future__ import annotations

import runpy
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from longtake import connect
from longtake.app.client_dial import Address
from longtake.app.wire import (
    PROTOCOL,
    Ack,
    Applied,
    Codec,
    FrameId,
    Metrics,
    Notice,
    Pause,
    Playback,
    Prompt,
    Queued,
    Restart,
    Resume,
    Save,
    SavedFile,
    Set,
    Settings,
    Still,
)

EXAMPLE = Path(__file__).parents[2] / "examples" / "remote.py"


def make_metrics(chunks: int) -> Metrics:
    return Metrics(**dict.fromkeys(Metrics.model_fields.keys() - {"type"}, 0) | {"chunks": chunks})


def test_a_take_from_open_to_close(play, numbers):
    asked = []

    def script(peer):
        hello = peer.greet()
        assert (hello.version, hello.token, hello.resume) == (PROTOCOL, "let me in", None)
        asked.append(peer.begin())
        peer.send(make_metrics(1), make_metrics(2))
        peer.frames(0, 4)
        asked.append(prompt := peer.read(Prompt))
        peer.send(Ack(id=prompt.id, chunk=1, time=0.04))
        peer.apply(prompt.id, 1, prompt.text)
        asked.append(changed := peer.read(Set))
        peer.send(Ack(id=changed.id, chunk=1, time=0.04))
        peer.send(Applied(id=changed.id, take=1, chunk=1, time=0.04, settings=changed.settings))
        for index in range(4, 8):
            peer.frame(index, codec=Codec.WEBP)
        for kind in (Pause, Resume):
            peer.send(Ack(id=peer.read(kind).id, chunk=2, time=0.08))
        asked.append(restart := peer.read(Restart))
        peer.send(Ack(id=restart.id, take=2))
        peer.apply(restart.id, 0, "night", take=2)
        peer.frame(0, take=2)
        peer.part()

    server = play(script)
    with connect(server.url, token="let me in") as session:
        assert (session.rate, session.time, session.metrics) == (100, 0, None)
        session.open("day", seed=3, steps=2)
        first = list(session.frames(seconds=0.04))
        assert session.time == 0.04
        session.prompt("night", at=0.01, transition=2)
        session.set(steps=4, switch="keep")
        later = list(session.frames(seconds=0.04))
        assert session.metrics == make_metrics(2)
        session.pause()
        session.resume()
        session.restart(seed=4)
        (again,) = session.frames(seconds=0.01)
    assert [frame.index for frame in first + later] == list(range(8))
    assert numbers(frame.pixels for frame in first + later) == list(range(8))
    assert [frame.time for frame in later] == [0.04, 0.05, 0.06, 0.07]
    assert {frame.prompt for frame in first} == {"day"}
    assert {frame.prompt for frame in later} == {"night"}
    assert (again.index, again.time, again.prompt) == (0, 0.0, "night")
    seen = [(each.prompt, each.take, each.chunk, each.time) for each in session.receipts]
    assert seen == [("day", 1, 0, 0.0), ("night", 1, 1, 0.04), ("night", 2, 0, 0.0)]
    assert all(each.milliseconds > 0 for each in session.receipts)
    opened, prompt, changed, restart = asked
    assert (opened.prompt, opened.seed, opened.settings) == ("day", 3, Settings(steps=2))
    assert (prompt.text, prompt.at, prompt.transition) == ("night", 0.01, 2)
    assert changed.settings == Settings(steps=4, switch="keep")
    assert restart.seed == 4


def test_saved_files_are_fetched_whole_with_the_token(play, tmp_path):
    def script(peer):
        peer.greet()
        peer.begin()
        peer.frames(0, 2)
        save, still = peer.read(Save), None
        assert save.seconds == 2
        peer.send(Ack(id=save.id, file=SavedFile(url="/files/a.mp4", size=200_000, seconds=2)))
        still = peer.read(Still)
        assert still.frame == FrameId(take=1, index=1)
        peer.send(Ack(id=still.id, file=SavedFile(url="/files/a.png", size=3, seconds=0)))
        peer.part()

    server = play(script)
    server.files = {"/files/a.mp4": b"film" * 50_000, "/files/a.png": b"png"}
    (tmp_path / "a.mp4").write_bytes(b"an older one")
    with connect(f"{server.url}/?token=let%20me%20in") as session:
        session.open("day")
        assert len(list(session.frames(seconds=0.02))) == 2
        session.save(tmp_path / "a.mp4", seconds=2)
        session.still(tmp_path / "a.png")
    assert (tmp_path / "a.mp4").read_bytes() == b"film" * 50_000
    assert (tmp_path / "a.png").read_bytes() == b"png"
    assert (tmp_path / "a.1.mp4").read_bytes() == b"an older one"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.1.mp4", "a.mp4", "a.png"]
    assert server.tokens == ["Bearer let me in"] * 2


@pytest.mark.parametrize(
    ("url", "size"), [("/short", 5), ("/long", 3), ("/moved", 4)], ids=["short", "long", "moved"]
)
def test_a_file_that_does_not_come_whole_leaves_nothing(play, tmp_path, url, size, error_of):
    def script(peer):
        peer.greet()
        peer.begin()
        saved = SavedFile(url=url, size=size, seconds=1)
        peer.send(Ack(id=peer.read(Save).id, file=saved))
        peer.part()

    server = play(script)
    server.files = {"/short": b"four", "/long": b"four"}
    with connect(server.url) as session:
        session.open("day")
        assert error_of(lambda: session.save(tmp_path / "a.mp4")).code == "bad_download"
        assert error_of(lambda: session.save(tmp_path / "a.avi")).code == "bad_output"
    assert list(tmp_path.iterdir()) == []
    assert server.tokens == [None]


def test_what_the_server_refuses_is_raised_and_what_is_unfit_is_not_sent(play, error_of):
    def script(peer):
        peer.greet()
        peer.begin()
        peer.refuse(peer.read(Prompt).id, "too_fast", "ask less often")
        peer.frame(0)
        peer.part()

    with connect(play(script).url) as session:
        assert error_of(lambda: next(session.frames(1))).code == "out_of_order"
        session.open("day")
        refused = error_of(lambda: session.prompt("night"))
        assert (refused.code, refused.message, refused.hint) == ("too_fast", "no", "ask less often")
        assert error_of(lambda: session.prompt(" ")).code == "bad_prompt"
        assert error_of(lambda: session.prompt("night", at=-1)).code == "bad_time"
        assert error_of(lambda: session.set(speed=3)).code == "bad_setting"
        assert next(session.frames(1)).index == 0
    assert error_of(lambda: session.prompt("night")).code == "closed"


def test_what_the_server_notes_is_warned_of(play):
    def script(peer):
        peer.greet()
        peer.begin()
        peer.send(Ack(id=peer.read(Prompt).id, note="no such word"))
        peer.part()

    with connect(play(script).url) as session:
        session.open("day")
        with pytest.warns(UserWarning, match="no such word"):
            session.prompt("pruple")


def test_what_ends_nothing_is_logged(play, caplog):
    def script(peer):
        peer.greet()
        peer.begin()
        peer.send(Notice(message="the disk is full", hint="make room"))
        peer.frame(0)
        peer.part()

    with connect(play(script).url) as session:
        session.open("day")
        assert next(session.frames(seconds=1)).index == 0
    assert "the disk is full: make room" in caplog.text


def test_a_take_that_fails_hands_out_what_came_and_another_can_begin(play, error_of):
    def script(peer):
        peer.greet()
        peer.begin()
        peer.frames(0, 2)
        peer.refuse(None, "model_failed")
        peer.begin(take=2)
        peer.frame(0, take=2)
        peer.part()

    with connect(play(script).url) as session:
        session.open("day")
        frames = session.frames(seconds=1)
        assert [next(frames).index, next(frames).index] == [0, 1]
        assert error_of(lambda: next(frames)).code == "model_failed"
        session.open("night")
        assert next(session.frames(seconds=1)).prompt == "night"


@pytest.mark.parametrize(
    ("url", "stream", "files"),
    [
        ("ws://a:1", "ws://a:1/stream", "http://a:1"),
        ("http://a:1/", "ws://a:1/stream", "http://a:1"),
        ("https://a.org", "wss://a.org/stream", "https://a.org"),
        ("wss://[::1]:8/stream", "wss://[::1]:8/stream", "https://[::1]:8"),
    ],
)
def test_addresses_as_people_write_them(url, stream, files):
    assert Address.of(url) == Address(stream, files)
    assert Address.of(f"{url}?token=let+me%20in") == Address(stream, files, "let me in")


@pytest.mark.parametrize(
    "url", ["", "a", "localhost:7860", "ftp://a", "ws://", "ws://a:b", "ws://a:99999", "ws://a/b"]
)
def test_what_is_no_address(url, error_of):
    assert error_of(lambda: connect(url)).code == "bad_url"


def test_nothing_listens(error_of):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    error = error_of(lambda: connect(f"ws://127.0.0.1:{port}"))
    assert error.code == "unreachable"
    assert error.message == f"nothing listens at ws://127.0.0.1:{port}/stream"


def test_something_else_listens(error_of):
    def answer() -> None:
        for text in (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", b"220 mail\r\n"):
            with server.accept()[0] as other:
                other.recv(1 << 16)
                other.sendall(text)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=answer)
        thread.start()
        url = f"ws://127.0.0.1:{server.getsockname()[1]}"
        assert "answers with HTTP status 404" in error_of(lambda: connect(url)).message
        assert "does not speak WebSocket" in error_of(lambda: connect(url)).message
        thread.join()


def test_the_place_in_the_queue_is_told(play, caplog, error_of):
    def script(peer):
        peer.greet(Queued(position=2), Queued(position=1))
        peer.part()

    def full(peer):
        peer.turn_away("busy")

    places = []
    server = play(script, script, full)
    connect(server.url, queued=places.append).close()
    assert places == [2, 1]
    connect(server.url).close()
    assert caplog.messages == ["place 2 in the server's queue", "place 1 in the server's queue"]
    assert error_of(lambda: connect(server.url)).code == "busy"


@pytest.mark.parametrize("code", ["bad_version", "bad_token"])
def test_a_refused_hello_says_why(play, code, error_of):
    def script(peer):
        peer.turn_away(code, "use version 3")

    error = error_of(lambda: connect(play(script).url))
    assert (error.code, error.hint) == (code, "use version 3")


def test_the_example_steers_a_take(play, tmp_path, monkeypatch, capsys):
    def script(peer):
        peer.greet(rate=2)
        peer.begin()
        peer.frames(0, 8)
        night = peer.read(Prompt)
        peer.send(Ack(id=night.id))
        peer.apply(night.id, 2, night.text)
        peer.read(Playback)
        peer.frames(8, 16)
        peer.send(Ack(id=peer.read(Prompt).id))
        saved = SavedFile(url="/files/take.mp4", size=4, seconds=8)
        peer.send(Ack(id=peer.read(Save).id, file=saved))
        peer.part()

    server = play(script)
    server.files = {"/files/take.mp4": b"film"}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["remote.py", server.url])
    runpy.run_path(str(EXAMPLE))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["remote.mp4", "still_4s.png", "still_8s.png"]
    assert " 7.50 s  night falls and it starts to snow" in capsys.readouterr().out


def test_a_client_needs_no_torch():
    code = "import sys, longtake; longtake.connect; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
