"""Connections that are lost, replaced or stalled, and sessions that go on."""

from __future__ import annotations

import pytest

from longtake.app import wire
from longtake.app.wire_coding import encode

CHUNK = 8
AHEAD = 16


def resumption(ready, lacks=None):
    return wire.Resumption(session=ready.session, resume_token=ready.resume_token, next=lacks)


def come_back(studio, ready, lacks=None, last_id=0):
    client = studio.connect()
    client.last_id = last_id
    return client, client.hello(resume=resumption(ready, lacks))


def told(client):
    """The receipts that a client got."""
    return [each for each in client.got if isinstance(each, wire.Applied)]


def test_a_dropped_connection_misses_no_frame_and_no_receipt(studio):
    first = studio.connect()
    ready = first.hello()
    first.open()
    first.frame(3)
    first.reporting = False
    changed = first.ask(wire.Prompt, text="night falls")
    # What follows may be lost on the way: the client reads no more of it.
    last = first.frame(4)
    first.socket.socket.close()
    heard = first.last_id

    second, again = come_back(studio, ready, wire.FrameId(take=1, index=last.index + 1), heard)
    assert again.model_copy(update={"received": 0}) == ready
    assert again.received == heard
    second.frame(changed.chunk * CHUNK)
    assert second.indices() == list(range(5, second.indices()[-1] + 1))
    assert [each.id for each in told(second)] == [changed.id]
    second.frame(5 * CHUNK)
    assert second.ask(wire.Pause).type == "ack"


def test_a_cut_before_the_first_frame_of_a_take_loses_none(studio):
    first = studio.connect()
    ready = first.hello()
    opened = first.open()
    # Frames were sent, and none was read.
    studio.wait_until(lambda: studio.take.outgoing.sent)
    first.socket.socket.close()
    second, _ = come_back(studio, ready, wire.FrameId(take=1, index=0), first.last_id)
    second.frame(2 * CHUNK)
    assert second.indices() == list(range(2 * CHUNK + 1))
    assert [(each.id, each.chunk) for each in told(second)] == [(opened.id, 0)]


@pytest.mark.parametrize("begun", [0, 1])
def test_of_a_take_whose_beginning_was_lost_everything_comes(studio, begun):
    first = studio.connect()
    ready = first.hello()
    lacks = wire.FrameId(take=1, index=0)
    if begun:
        first.open()
        lacks = wire.FrameId(take=1, index=first.frame(CHUNK).index + 1)
    # Heard and carried out, while its answer is lost.
    opened = first.send(wire.Open, prompt="snow")
    visit = studio.visits.standing[0]
    number = begun + 1
    studio.wait_until(lambda: visit.take and visit.take.opening.number == number)
    studio.wait_until(lambda: visit.take.outgoing.sent)
    first.socket.socket.close()
    second, _ = come_back(studio, ready, lacks, opened)
    second.until(lambda each: isinstance(each, wire.EncodedFrame) and each.index == CHUNK)
    assert second.indices(number) == list(range(CHUNK + 1))
    assert [(each.id, each.take) for each in told(second)] == [(opened, number)]


def test_a_page_that_forgot_its_take_is_told_what_is_in_force(studio):
    first = studio.connect()
    ready = first.hello()
    opened = first.open()
    first.ask(wire.Set, settings=wire.Settings(steps=1))
    changed = first.ask(wire.Prompt, text="night falls")
    first.until(lambda each: isinstance(each, wire.Applied) and each.id == changed.id)
    first.frame(changed.chunk * CHUNK)
    sent = studio.take.outgoing.sent
    second, _ = come_back(studio, ready, last_id=first.last_id)
    applied = second.next()
    assert (applied.id, applied.take, applied.chunk) == (opened.id, 1, changed.chunk)
    assert applied.prompt == "night falls"
    assert applied.settings == wire.Settings(steps=1, window=4, sink=2, switch="recache")
    second.until(lambda each: isinstance(each, wire.EncodedFrame))
    assert second.indices()[0] >= sent
    assert first.rest()[-1] == wire.Goodbye(reason="replaced")


def test_a_connection_that_still_stands_is_replaced(studio):
    first = studio.connect()
    ready = first.hello()
    second, _ = come_back(studio, ready)
    assert first.rest() == [wire.Goodbye(reason="replaced")]
    second.open()
    second.frame(CHUNK)


def test_only_the_holder_of_the_token_resumes_a_session(studio):
    ready = studio.connect().hello()
    for wrong in ({"session": "s-1"}, {"resume_token": "x"}, {"resume_token": "é"}):
        client = studio.connect()
        resume = resumption(ready).model_copy(update=wrong)
        error = client.ask(wire.Hello, version=wire.PROTOCOL, resume=resume)
        assert (error.code, error.retryable) == ("no_session", False)
        assert client.rest() == [wire.Goodbye(reason="refused")]


def test_after_the_grace_time_the_session_is_given_up_and_its_take_saved(open_studio, clock):
    studio = open_studio(clock, grace=60.0)
    first = studio.connect()
    ready = first.hello()
    first.open()
    first.frame(CHUNK)
    first.socket.close()
    visit = studio.visits.standing[0]
    studio.wait_until(lambda: visit.client is None)
    clock.advance(61)
    # Somebody new gets the place once it is free, so the take has ended then.
    studio.visitor()
    (take,) = studio.takes.takes()
    assert take.state == "finished"
    assert take.frames > CHUNK
    error = studio.connect().ask(wire.Hello, version=wire.PROTOCOL, resume=resumption(ready))
    assert error.code == "no_session"


def test_a_stalled_client_is_closed_and_finds_everything_when_it_comes_back(open_studio, clock):
    studio = open_studio(clock, stall=20.0)
    first = studio.connect()
    ready = first.hello()
    first.reporting = False
    first.open()
    first.frame(AHEAD)
    studio.wait_until(lambda: studio.visits.standing[0].waits)
    clock.advance(19)
    first.ask(wire.Set, settings=wire.Settings())
    clock.advance(2)
    assert first.rest()[-1] == wire.Goodbye(reason="stalled")
    second, _ = come_back(studio, ready, wire.FrameId(take=1, index=4), first.last_id)
    second.frame(4 * CHUNK)
    assert second.indices()[0] == 4
    assert second.indices() == list(range(4, len(second.indices()) + 4))


def test_a_paused_film_stalls_nobody(open_studio, clock):
    studio = open_studio(clock, stall=20.0, idle=1000.0)
    client = studio.visitor()
    client.open()
    client.frame(0)
    client.ask(wire.Pause)
    for _ in range(3):
        clock.advance(100)
        assert client.ask(wire.Set, settings=wire.Settings()).type == "ack"
    client.ask(wire.Resume)
    client.frame(3 * CHUNK)


def test_a_client_that_reads_nothing_slows_nobody(open_studio, clock):
    studio = open_studio(clock, sessions=2, stall=20.0)
    deaf = studio.visitor()
    deaf.socket.send(encode(wire.Open(id=2, prompt="snow")))
    client = studio.visitor()
    client.open()
    client.frame(20 * CHUNK)
    deaf_visit = studio.visits.standing[0]
    assert deaf_visit.take.outgoing.sent == AHEAD + 1
    assert client.indices() == list(range(len(client.indices())))
