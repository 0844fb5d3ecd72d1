"""Takes on disk over HTTP."""

from __future__ import annotations

import io

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image

from longtake.app.studio.stored_takes import add_take_routes


@pytest.fixture
def client(takes):
    """Asks a server that has only these routes."""
    app = FastAPI()
    add_take_routes(app, takes)
    return TestClient(app)


@pytest.fixture
def name(takes, begin, record):
    """Of a take of five seconds."""
    recording = begin(takes)
    record(recording, range(40), (0, "day"), (2, "night"))
    recording.close()
    return recording.folder.name


def test_takes_are_listed_with_their_folder(client, takes, name):
    listed = client.get("/takes").json()
    assert listed["folder"] == str(takes.path)
    [take] = listed["takes"]
    size = take.pop("size")
    assert size > 1000
    assert take == {
        "name": name, "seconds": 5, "prompt": "day", "state": "finished", "kept": False,
    }  # fmt: skip


def test_a_film_is_downloaded_under_the_takes_name(client, name, read_film, tmp_path):
    answer = client.get(f"/takes/{name}/film.mp4")
    assert answer.headers["content-disposition"] == f'attachment; filename="{name}.mp4"'
    (tmp_path / "film.mp4").write_bytes(answer.content)
    film = read_film(tmp_path / "film.mp4")
    assert film.frames == 40
    assert film.chapters == [(0, "day"), (2, "night")]


@pytest.mark.parametrize(("file", "form"), [("clip.webp", "WEBP"), ("clip.gif", "GIF")])
def test_the_end_of_a_take_is_an_animation(client, name, file, form):
    picture = Image.open(io.BytesIO(client.get(f"/takes/{name}/{file}").content))
    assert (picture.format, picture.is_animated) == (form, True)


def test_a_still_is_a_picture(client, name):
    picture = Image.open(io.BytesIO(client.get(f"/takes/{name}/still.png").content))
    assert (picture.format, picture.size) == ("PNG", (48, 32))


def test_the_files_made_for_a_download_are_removed(client, name, tmp_path, monkeypatch):
    made = tmp_path / "made"
    made.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(made))
    assert client.get(f"/takes/{name}/film.mp4").is_success
    assert client.get(f"/takes/{name}/clip.gif", params={"last": 1000}).status_code == 422
    assert list(made.iterdir()) == []


def test_the_command_makes_the_same_film(client, name):
    answer = client.get(f"/takes/{name}/command").json()
    assert answer["line"].startswith("python launch.py generate --prompt day --prompt '@2s night'")
    assert answer["remarks"] == []


def test_a_take_is_kept_and_let_go(client, takes, name):
    for kept in (True, False):
        assert client.post(f"/takes/{name}/keep", params={"kept": kept}).status_code == 204
        assert takes.find(name).kept is kept


def test_an_interrupted_take_is_settled(client, takes, begin, record):
    recording = begin(takes)
    record(recording, range(8), (0, "day"))
    recording._journal.close()  # as a kill does
    name = recording.folder.name
    assert takes.find(name).state == "interrupted"
    assert client.post(f"/takes/{name}/settle").status_code == 204
    assert takes.find(name).state == "finished"


@pytest.mark.parametrize("name", ["none", "..", "%2e%2e", "..%2f..%2fetc", "a%00b"])
@pytest.mark.parametrize("file", ["film.mp4", "command"])
def test_a_name_leads_to_a_take_or_nowhere(client, name, file):
    assert client.get(f"/takes/{name}/{file}").status_code == 404


def test_an_unknown_take_is_said_in_a_sentence(client):
    answer = client.get("/takes/none/command")
    assert answer.status_code == 404
    assert answer.json()["code"] == "no_take"
    assert "there is no take 'none'" in answer.json()["message"]
    assert answer.json()["hint"]


@pytest.mark.parametrize("file", ["../journal.jsonl", "film.exe", "journal.jsonl"])
def test_only_what_is_made_of_a_take_is_given_out(client, name, file):
    assert client.get(f"/takes/{name}/{file}").status_code in {404, 422}
