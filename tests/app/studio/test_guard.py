"""Who is refused, on every route: a foreign page, another host's name, whoever lacks the token."""

from __future__ import annotations

import http.client
import socket
from itertools import product

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from longtake.app import wire
from longtake.app.studio.guard import SECURITY_HEADERS, Guard
from longtake.app.studio.settings import StudioSettings

TOKEN = "correct horse; ☂"
PATHS = ("/", "/health", "/files/s-1/take-1.mp4", "/stream", "/config", "/gradio_api/upload")


def get(studio, path, method="GET", **headers):
    """Status, headers and body of a request; `host` may be any."""
    connection = http.client.HTTPConnection(studio.address, timeout=30)
    try:
        headers = {key.replace("_", "-"): value for key, value in headers.items()}
        connection.request(method, path, headers={"host": studio.address, **headers})
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read().decode()
    finally:
        connection.close()


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "film.example"},
        {"host": "127.0.0.1.film.example"},
        {"host": "[::1"},
        {"host": ""},
        {"origin": "http://film.example"},
        {"origin": "http://127.0.0.1:1"},
        {"origin": "null"},
    ],
)
def test_foreign_names_and_pages_are_refused(studio, headers):
    for method, path in product(("GET", "POST"), PATHS):
        status, answered, body = get(studio, path, method, **headers)
        assert status == 403
        assert body.endswith(".")
        assert answered.items() >= SECURITY_HEADERS.items()


@pytest.mark.parametrize(
    ("name", "origin"), [("film.example", None), ("127.0.0.1", "http://film.example")]
)
def test_foreign_pages_open_no_websocket(studio, name, origin):
    address = ("127.0.0.1", studio.port)
    with socket.create_connection(address) as sock, pytest.raises(InvalidStatus) as caught:
        connect(f"ws://{name}/stream", origin=origin, sock=sock, proxy=None)
    assert caught.value.response.status_code == 403
    assert caught.value.response.body.endswith(b".")


def test_the_own_page_and_scripts_come_in(studio):
    for host in (studio.address, f"localhost:{studio.port}", f"[::1]:{studio.port}", "LOCALHOST"):
        status, headers, _ = get(studio, "/health", host=host, origin=f"http://{host}")
        assert status == 200
        assert headers.items() >= SECURITY_HEADERS.items()
    studio.connect(origin=f"http://{studio.address}").hello()


def test_without_the_token_every_route_is_closed(open_studio):
    studio = open_studio(token=TOKEN)
    paths = [*PATHS, "/?token=wrong", "/health?token=correct%20horse%3B%20%E2%98%82"]
    wrong = ({}, {"authorization": "Bearer wrong"}, {"cookie": "longtake_token=wrong"},
             {"authorization": "Basic x"}, {"cookie": "longtake_token=\xe9"})  # fmt: skip
    for path, headers in product(paths, wrong):
        status, _, body = get(studio, path, **headers)
        assert status == 401
        assert body.endswith(".")
    for fields in ({}, {"token": "wrong"}):
        client = studio.connect()
        error = client.ask(wire.Hello, version=wire.PROTOCOL, **fields)
        assert (error.code, error.retryable) == ("bad_token", False)
        assert client.rest() == [wire.Goodbye(reason="refused")]


def test_the_token_opens_every_door(open_studio):
    studio = open_studio(token=TOKEN, sessions=3)
    status, headers, _ = get(studio, "/?token=correct%20horse%3B%20%E2%98%82")
    assert (status, headers["location"]) == (303, "/")
    cookie = headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "horse" not in cookie
    pair = cookie.partition(";")[0]
    assert get(studio, "/health", cookie=pair)[0] == 200
    studio.connect(additional_headers={"Cookie": pair}).hello()
    studio.connect().hello(token=TOKEN)


def test_a_script_gives_the_token_in_a_header(open_studio):
    studio = open_studio(token=TOKEN)
    given = f"Bearer {TOKEN}".encode().decode("latin-1")
    assert get(studio, "/health", authorization=given)[0] == 200
    assert get(studio, "/health", authorization=given + "x")[0] == 401


@pytest.mark.parametrize(
    ("host", "name", "welcome"),
    [
        ("127.0.0.1", "192.168.1.7", False),
        ("0.0.0.0", "192.168.1.7", True),
        ("0.0.0.0", "evil.example", False),
        ("box.example", "box.example", True),
        ("box.example", "localhost", True),
        ("127.0.0.1", "film.example", True),
    ],
)
def test_the_names_that_a_server_goes_by(host, name, welcome):
    settings = StudioSettings(host=host, origins=("https://film.example",))
    guard = Guard(lambda scope, receive, send: None, settings)
    assert guard.is_ours(f"{name}:7860") is welcome
