"""What visitors save while the film goes on, and what is recorded of it."""

from __future__ import annotations

import io
import urllib.request
from urllib.error import HTTPError

import pytest
from PIL import Image

from longtake.app import wire
from longtake.app.recording import Recording
from longtake.streaming import StreamError

CHUNK = 8
RATE = 80


@pytest.fixture
def fetch(studio):
    """The body and headers of a path on the server."""

    def get(path):
        with urllib.request.urlopen(f"http://{studio.address}{path}", timeout=30) as response:
            return response.read(), response.headers

    return get


def test_a_take_is_saved_with_its_chapters_as_far_as_it_was_sent(
    studio, fetch, read_film, tmp_path
):
    client = studio.visitor()
    client.open(prompt="a red ball", seed=7)
    client.frame(CHUNK)
    changed = client.ask(wire.Prompt, text="night falls")
    client.frame(changed.chunk * CHUNK + 3)
    paused = client.ask(wire.Pause)
    client.frame(paused.chunk * CHUNK - 1)
    saved = client.ask(wire.Save)
    assert saved.note is None
    assert saved.file.seconds == paused.time
    body, headers = fetch(saved.file.url)
    assert len(body) == saved.file.size
    assert headers["content-disposition"].startswith("attachment")
    (tmp_path / "film.mp4").write_bytes(body)
    film = read_film(tmp_path / "film.mp4")
    assert film.frames == len(client.indices())
    assert film.chapters == [(0, "a red ball"), (changed.time, "night falls")]
    assert film.about["seed"] == 7
    # The end alone: it may begin up to a second earlier, with a key frame.
    short = client.ask(wire.Save, seconds=0.2)
    assert 0.2 <= short.file.seconds <= 1.2
    assert short.file.url != saved.file.url
    client.ask(wire.Resume)
    client.frame(paused.chunk * CHUNK)


def test_a_still_is_the_frame_that_was_asked_for(studio, fetch):
    client = studio.visitor()
    client.open(seed=1)
    client.frame(3 * CHUNK)
    for index in (0, 13):
        saved = client.ask(wire.Still, frame=wire.FrameId(take=1, index=index))
        assert saved.file.url.endswith(f"/take-1-{index}.png")
        body, _ = fetch(saved.file.url)
        shown = Image.open(io.BytesIO(client.frame(index).payload)).convert("L").resize((4, 4))
        still = Image.open(io.BytesIO(body))
        assert (still.format, still.size) == ("PNG", (32, 32))
        near = still.convert("L").resize((4, 4))
        pairs = zip(shown.get_flattened_data(), near.get_flattened_data(), strict=True)
        assert max(abs(one - other) for one, other in pairs) < 24
    assert client.ask(wire.Still).file.size > 0


@pytest.mark.parametrize(
    "path",
    ["/files/x/take-1.mp4", "/files/{}/take-2.mp4", "/files/{}/..%2F..%2Fetc%2Fpasswd",
     "/files/../app/cli.py", "/files/%2e%2e/%2e%2e", "/files/{}/%00"],
)  # fmt: skip
def test_no_path_leads_anywhere_else(studio, fetch, path):
    client = studio.connect()
    ready = client.hello()
    client.open()
    client.frame(0)
    client.ask(wire.Save)
    with pytest.raises(HTTPError) as caught:
        fetch(path.format(ready.session))
    assert caught.value.code == 404


def test_only_so_many_files_are_kept(studio, fetch, monkeypatch):
    monkeypatch.setattr("longtake.app.studio.shelf.FILES_KEPT", 2)
    client = studio.visitor()
    client.open()
    client.frame(2)
    client.ask(wire.Pause)
    urls = [client.ask(wire.Save).file.url for _ in range(3)]
    assert len(set(urls)) == 3
    with pytest.raises(HTTPError):
        fetch(urls[0])
    assert all(fetch(url) for url in urls[1:])


def test_a_full_disk_is_told_once_and_the_film_goes_on(studio, monkeypatch):
    client = studio.visitor()
    client.open()
    client.frame(2 * CHUNK)
    write = Recording.write

    def fail(self, pixels, index, log=()):
        raise StreamError("disk_full", "the disk is full", "make room")

    monkeypatch.setattr(Recording, "write", fail)
    told = client.until(lambda each: isinstance(each, wire.Notice))
    assert told == wire.Notice(message="the disk is full", hint="make room")
    client.frame(client.indices()[-1] + 6 * CHUNK)
    assert len([each for each in client.got if isinstance(each, wire.Notice)]) == 1
    # There is room again: the take goes on with a gap.
    monkeypatch.setattr(Recording, "write", write)
    monkeypatch.setattr("longtake.app.studio.live.RETRY_SECONDS", 0.0)
    lost = studio.take.recording.lost
    client.frame(client.indices()[-1] + 6 * CHUNK)
    client.ask(wire.Pause)
    saved = client.ask(wire.Save)
    assert "could not be recorded" in saved.note
    assert saved.file.seconds > 2 * CHUNK / RATE
    assert studio.take.recording.lost >= lost > 0


def test_a_save_that_fails_says_so(studio, monkeypatch):
    client = studio.visitor()
    client.open()
    client.frame(0)

    def fail(*_):
        raise StreamError("disk_full", "the disk is full", "make room")

    monkeypatch.setattr("longtake.app.studio.shelf.save_film", fail)
    error = client.ask(wire.Save)
    assert (error.code, error.retryable, error.hint) == ("bad_output", True, "make room")
    client.frame(3 * CHUNK)
