"""What the page's server answers, asked without a browser."""

from __future__ import annotations

import pytest
import torch
from fastapi import FastAPI
from fastapi.testclient import TestClient

from longtake.app.studio import bigger, page
from longtake.app.studio.page import EXAMPLES, mount_page
from longtake.models.memory import Memory

CUDA = torch.device("cuda")


@pytest.fixture
def client(model, takes):
    """Asks a server that has the page and no stream."""
    with TestClient(mount_page(FastAPI(docs_url=None, openapi_url=None), model, takes)) as client:
        yield client


def test_the_page_and_its_files_are_served(client):
    page = client.get("/")
    assert "studio/studio.js" in page.text
    # Ahead of all that Gradio runs.
    assert page.text.index("<script") == page.text.index('<script src="studio/calm.js">')
    assert int(page.headers["content-length"]) == len(page.content)
    script = client.get("/studio/studio.js")
    assert script.headers["content-type"].split(";")[0].endswith("javascript")
    assert client.get("/studio/page.py").status_code == 404


def test_words_are_judged_by_the_model(client):
    answer = client.get("/spelling", params={"text": "a red ball bonces"})
    assert answer.json() == {"unknown": {"bonces": "bounces"}}
    assert client.get("/spelling", params={"text": "a" * 2001}).status_code == 422


def test_only_examples_that_the_model_knows_are_offered(client):
    config = client.get("/config").text
    offered = [each for each in EXAMPLES if each in config]
    assert "night falls and it starts to snow" not in offered  # the toy knows no "and"
    assert len(offered) >= 1


def test_gradio_takes_no_uploads_and_gives_no_files_out(client, tmp_path):
    upload = client.post("/gradio_api/upload", files={"files": ("a.txt", b"text")})
    assert upload.status_code == 413
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    assert client.get(f"/gradio_api/file={secret}").status_code == 403
    assert client.get("/gradio_api/info").json() == {"named_endpoints": {}, "unnamed_endpoints": {}}
    assert client.get("/monitoring").status_code == 403


def test_gradio_does_not_look_for_work_a_thousand_times_a_second(client):
    blocks = next(each.app for each in client.app.routes if each.path == "").get_blocks()
    assert blocks._queue.sleep_when_free > 1
    assert blocks._queue.progress_update_sleep_when_free > 1


def test_gradio_tells_nobody(client):
    config = client.get("/config").json()
    assert config["analytics_enabled"] is False
    assert "fonts.googleapis" not in client.get("/theme.css").text + client.get("/").text


@pytest.fixture
def card(monkeypatch):
    """The card of a machine with so many GB free on its GPU, and beside it."""

    def make(gpu, machine):
        memory = {"cuda": Memory(int(gpu * 1e9), int(80e9)), "cpu": Memory(int(machine * 1e9), 0)}
        monkeypatch.setattr(bigger, "memory_of", lambda device: memory[device.type])
        monkeypatch.setattr(bigger, "hardware", lambda _: "NVIDIA <H100>")
        return bigger.bigger_model(CUDA, torch.bfloat16)

    return make


def test_a_gpu_gets_a_card_with_the_model_that_fits_and_how_to_get_it(card):
    large = card(80, 64)
    assert "NVIDIA &lt;H100&gt; has room for LongLive" in large
    assert "at 832x480." in large
    assert "models pull longlive\n" in large
    assert "serve --model wan</pre>" in large
    assert "not for commercial use" in large
    assert "serve --model wan --offload text</pre>" in card(20, 64)


@pytest.mark.parametrize(("gpu", "machine"), [(4, 64), (20, 4)])
def test_what_does_not_fit_is_not_offered(card, gpu, machine):
    assert card(gpu, machine) == ""


def test_without_a_gpu_there_is_no_card():
    assert bigger.bigger_model(torch.device("cpu"), torch.float32) == ""


def test_the_card_is_in_the_page(model, takes, monkeypatch):
    monkeypatch.setattr(page, "GENERATOR", model.folder)
    monkeypatch.setattr(page, "bigger_model", lambda *_: "<p>a card</p>")
    app = mount_page(FastAPI(docs_url=None, openapi_url=None), model, takes)
    with TestClient(app) as client:
        assert "<p>a card</p></longtake-drawer>" in str(client.get("/config").json())
