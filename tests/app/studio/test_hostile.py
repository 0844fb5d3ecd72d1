"""Messages that no client would send."""

from __future__ import annotations

import json
import random

from websockets.exceptions import ConnectionClosed

from longtake.app import wire

CHUNK = 8
MESSAGES = 10_000
KINDS = ("hello", "open", "prompt", "set", "pause", "resume", "restart", "save", "still",
         "playback", "bye", "ack", "frame", "", None, 7, [])  # fmt: skip
FIELDS = ("id", "type", "version", "prompt", "text", "at", "settings", "frame", "seconds", "seed",
          "transition", "buffer_ms", "resume", "token", "path", "__class__", "")  # fmt: skip
VALUES = (None, True, False, 0, -1, 1, 2**31, 2**53, 2**64, 10**400, 0.5, -0.0, 1e308, "", " ",
          "x" * 3000, "\ud800", "\x00", "../../etc/passwd", [], {}, [[]], {"take": 1, "index": 0},
          {"steps": 0}, {"steps": 2}, {"session": "s-1", "resume_token": ""})  # fmt: skip
RAW = ("", "{", "null", "[]", '"x"', "NaN", '{"a": NaN}', '{"id": 1, "id": 1}', "[" * 20_000,
       "\ufeff{}", "x" * 40_000, '{"type": "pause", "id": 1e3}', b"", b"\x00F")  # fmt: skip


def hostile_message(chance):
    """Text or bytes; now and then it is a sound request."""
    if chance.random() < 0.2:
        return chance.choice(RAW)
    message = {"type": chance.choice(KINDS), "id": chance.choice((1, 2, 3, chance.choice(VALUES)))}
    for _ in range(chance.randrange(4)):
        message[chance.choice(FIELDS)] = chance.choice(VALUES)
    return json.dumps(message)


def send_all(client, chance, count):
    """Send until the connection is closed; how many messages were sent."""
    for number in range(count):
        try:
            client.socket.send(hostile_message(chance))
        except ConnectionClosed:
            return number + 1
    return count


def assert_ends_properly(messages):
    """Every answer is one of the protocol's, and the last message says why it is over."""
    assert isinstance(messages[-1], wire.Goodbye)
    assert not [each for each in messages if isinstance(each, wire.Error) and
                each.code == "internal"]  # fmt: skip


def test_10_000_hostile_messages_leave_the_take_that_runs_alone(open_studio):
    studio = open_studio(sessions=2, grace=0.0)
    client = studio.visitor()
    client.open()
    chance = random.Random(7)
    sent = reached = 0
    while sent < MESSAGES:
        enemy = studio.connect()
        if chance.random() < 0.9:
            enemy.hello()
        sent += send_all(enemy, chance, 400)
        reached += 1
        assert_ends_properly(enemy.rest())
        enemy.socket.close()
        client.frame(client.indices()[-1] + 1 if client.indices() else 0)
    assert reached > 10
    client.frame(client.indices()[-1] + 3 * CHUNK)
    assert client.indices() == list(range(len(client.indices())))
    assert not [each for each in client.got if isinstance(each, wire.Error)]


def test_a_client_that_only_errs_is_sent_away(open_studio, clock):
    client = open_studio(clock, refusals=5).visitor()
    for _ in range(7):
        client.socket.send("nonsense")
    *errors, bye = client.rest()
    assert [each.code for each in errors] == ["bad_json"] * 6
    assert bye == wire.Goodbye(reason="refused")


def test_binary_and_long_messages_get_their_error(studio):
    client = studio.visitor()
    client.socket.send(b"F")
    assert client.next().code == "bad_message"
    client.socket.send("x" * (wire.MAX_MESSAGE + 1))
    assert client.next().code == "too_large"
    assert client.open().take == 1


def test_what_fails_in_an_unforeseen_way_is_told_as_such(studio, monkeypatch):
    client = studio.visitor()
    client.open()

    def fail(*_):
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr("longtake.app.studio.live.LiveTake.pause", fail)
        error = client.ask(wire.Pause)
    assert (error.code, error.message) == ("internal", "the server failed with ZeroDivisionError")
    assert client.ask(wire.Pause).type == "ack"
