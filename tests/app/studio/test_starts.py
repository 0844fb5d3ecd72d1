"""Takes that begin with a file that their visitor sent."""

from __future__ import annotations

import hashlib
import io
import json
import shlex
import socket
import urllib.request
from urllib.error import HTTPError

import pytest
from PIL import Image

import longtake
from longtake.app import wire
from longtake.app.repeat import command_line
from longtake.app.stored import read_take
from longtake.models.video.tiny_codec import TinyCodec
from longtake.streaming import StreamError

CHUNK = 8
PROMPT = "a red ball bounces on green grass"


def picture(colour="red", size=(64, 48)):
    coded = io.BytesIO()
    Image.new("RGB", size, colour).save(coded, "PNG")
    return coded.getvalue()


def send_file(studio, ready, body):
    """Send a file: what is answered."""
    url = f"http://{studio.address}/starts/{ready.session}"
    headers = {"X-Resume-Token": ready.resume_token}
    request = urllib.request.Request(url, body, headers, method="POST")
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)


@pytest.fixture
def visitor(studio):
    """A client with its place, and what the server told it of that."""
    client = studio.connect()
    return client, client.hello()


@pytest.fixture
def send(studio):
    """Send a file: the status, and what is answered."""

    def post(ready, body):
        try:
            return 200, send_file(studio, ready, body)
        except HTTPError as error:
            return error.code, json.load(error)

    return post


def files(studio):
    return sorted(studio.visits.shelf._folder.iterdir())


def shown(client, take=1):
    client.frame(2 * CHUNK)
    return [frame.payload for frame in client.frames(take)[: 2 * CHUNK]]


def test_a_take_begins_with_what_was_sent_and_so_does_one_that_is_begun_again(
    studio, visitor, send
):
    client, ready = visitor
    assert ready.limits.start == 33_554_432
    status, answer = send(ready, picture())
    assert (status, answer.keys()) == (200, {"start"})
    client.open(start=answer["start"], seed=3)
    first = shown(client)
    name = studio.take.recording.folder
    assert client.ask(wire.Restart).take == 2
    assert shown(client, 2) == first
    client.open(seed=3)
    assert shown(client, 3) != first
    studio.wait_until(lambda: read_take(name).state == "finished")
    stored = read_take(name)
    assert stored.about["start"].keys() == {"file", "sha256", "frames"}
    assert stored.about["start"]["file"] is None
    line, remarks = command_line(stored)
    words = shlex.split(line)[2:]
    assert words[words.index("--start") + 1] == "PICTURE"
    assert any("in place of PICTURE" in remark for remark in remarks)


def test_the_python_client_sends_it_too(studio, tmp_path):
    path = tmp_path / "photo.png"
    path.write_bytes(picture())
    with longtake.connect(f"ws://{studio.address}") as session:
        session.open(PROMPT, seed=3, start=path)
        begun = [frame.pixels for frame in session.frames(seconds=CHUNK / session.rate)]
        name = studio.take.recording.folder
        session.open(PROMPT, seed=3)
        plain = [frame.pixels for frame in session.frames(seconds=CHUNK / session.rate)]
        assert any((one != other).any() for one, other in zip(begun, plain, strict=True))
        studio.wait_until(lambda: read_take(name).state == "finished")
        begun_with = read_take(name).about["start"]["sha256"]
        assert begun_with == hashlib.sha256(path.read_bytes()).hexdigest()
        path.write_bytes(b"no picture")
        with pytest.raises(StreamError, match="the file is no video") as refused:
            session.open(PROMPT, start=path)
        assert refused.value.code == "bad_start"
        with pytest.raises(StreamError, match=r"missing\.png cannot be read"):
            session.open(PROMPT, start=tmp_path / "missing.png")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "the file is no video"),
        (b"no picture", "the file is no video"),
        (picture()[:60], "the file cannot be read"),
        (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", "the file is no video"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "the file cannot be read"),
    ],
    ids=["nothing", "text", "torn", "playlist", "list"],
)
def test_what_is_no_picture_is_refused_in_a_sentence_and_not_kept(
    studio, visitor, send, body, said
):
    status, answer = send(visitor[1], body)
    assert (status, answer["code"]) == (422, "bad_start")
    assert answer["message"].startswith(said)
    assert "longtake-" not in answer["message"]
    assert answer["hint"] == "give a picture or a video file"
    assert files(studio) == []


def test_nothing_that_a_file_names_is_opened(studio, visitor, send, shoot_film, tmp_path):
    """A playlist of a film that is there, and one that is on a server."""
    inner = shoot_film(tmp_path / "inner.ts", [0, 0.1, 0.2])
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/a.ts"
        for place in (str(inner), inner.as_uri(), address):
            head = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n#EXTINF:1.0,\n"
            body = f"{head}{place}\n#EXT-X-ENDLIST\n".encode()
            assert send(visitor[1], body)[0] == 422
        with pytest.raises(TimeoutError):
            server.accept()


def test_only_its_visitor_sends_for_a_session(studio, visitor, send):
    _, ready = visitor
    for changes in ({"session": "s-other"}, {"resume_token": "guessed"}, {"resume_token": "ü"}):
        status, answer = send(ready.model_copy(update=changes), picture())
        assert (status, answer["code"]) == (403, "no_session")
    assert files(studio) == []


def test_a_file_over_the_cap_is_refused_on_its_way(open_studio):
    studio = open_studio(start=1000)
    ready = studio.connect().hello()
    assert ready.limits.start == 1000
    with pytest.raises(HTTPError) as caught:
        send_file(studio, ready, bytes(1001))
    answer = json.load(caught.value)
    assert (caught.value.code, answer["code"]) == (413, "too_large")
    assert "1,000 bytes" in answer["message"]
    assert files(studio) == []


def test_the_newest_files_of_a_session_are_kept_until_it_ends(open_studio):
    studio = open_studio(starts=2)
    client = studio.connect()
    ready = client.hello()
    names = [
        send_file(studio, ready, picture(colour))["start"] for colour in ("red", "green", "blue")
    ]
    assert len(files(studio)) == 2
    gone = client.ask(wire.Open, prompt=PROMPT, start=names[0])
    assert (gone.code, gone.message) == ("bad_start", "there is no such start any more")
    assert client.ask(wire.Open, prompt=PROMPT, start="../../etc/passwd").code == "bad_start"
    assert client.open(start=names[2]).take == 1
    studio.visits.shelf.clear(ready.session)
    assert files(studio) == []


def test_a_model_that_cannot_encode_takes_no_file(open_studio, monkeypatch):
    monkeypatch.setattr(TinyCodec, "encodes", property(lambda codec: False))
    studio = open_studio()
    ready = studio.connect().hello()
    assert ready.limits.start == 0
    with pytest.raises(HTTPError) as caught:
        send_file(studio, ready, picture())
    assert caught.value.code == 422
    assert "decoder alone" in json.load(caught.value)["message"]


def test_a_file_that_breaks_off_leaves_nothing(studio, visitor):
    _, ready = visitor
    head = f"POST /starts/{ready.session} HTTP/1.1\r\nHost: {studio.address}\r\n"
    head += f"X-Resume-Token: {ready.resume_token}\r\nContent-Length: 5000\r\n\r\n"
    host, port = studio.address.split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head.encode() + b"half of it")
        studio.wait_until(lambda: len(files(studio)) == 1)
    studio.wait_until(lambda: files(studio) == [])
