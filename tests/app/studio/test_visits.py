"""Places, the queue, and whose time is over."""

from __future__ import annotations

import gc
import threading
from pathlib import Path

from longtake.app import wire
from longtake.models.video.film import FilmState

CHUNK = 8


def queued(client):
    return client.until(lambda each: isinstance(each, wire.Queued)).position


def is_ready(message):
    return isinstance(message, wire.Ready)


def test_the_next_visitor_waits_and_is_let_in(open_studio):
    studio = open_studio(queue=2)
    first = studio.visitor()
    first.open()
    waiting = [studio.connect() for _ in range(3)]
    for client in waiting:
        client.send(wire.Hello, version=wire.PROTOCOL)
    assert [queued(client) for client in waiting[:2]] == [1, 2]
    error = waiting[2].answer(1)
    assert (error.code, error.retryable) == ("busy", True)
    assert waiting[2].rest() == [wire.Goodbye(reason="refused")]

    assert waiting[1].ask(wire.Open, prompt="snow").code == "out_of_order"
    first.ask(wire.Bye)
    waiting[0].until(is_ready)
    assert queued(waiting[1]) == 1
    waiting[0].open()
    waiting[0].frame(CHUNK)
    # Who leaves the queue loses the place in it.
    last = studio.connect()
    last.send(wire.Hello, version=wire.PROTOCOL)
    assert queued(last) == 2
    waiting[1].reporting = False
    assert waiting[1].ask(wire.Bye).type == "ack"
    assert queued(last) == 1
    told = [each.position for each in waiting[0].got if isinstance(each, wire.Queued)]
    assert told == [1]


def test_nobody_is_let_in_before_the_model_is_warm(open_studio, monkeypatch):
    warm = threading.Event()
    monkeypatch.setattr("longtake.app.studio.server._warm_up", lambda model: warm.wait(30))
    client = open_studio().connect()
    assert client.ask(wire.Hello, version=wire.PROTOCOL).type == "ack"
    assert client.ask(wire.Open, prompt="snow").code == "out_of_order"
    warm.set()
    assert is_ready(client.next())


def is_notice(message):
    return isinstance(message, wire.Notice)


def test_an_idle_session_is_paused_and_told_then_ended_with_its_take_saved(open_studio, clock):
    studio = open_studio(clock, idle=900.0, idle_grace=300.0, stall=10_000.0)
    client = studio.visitor()
    client.open()
    client.frame(CHUNK)
    clock.advance(800)
    client.ask(wire.Set, settings=wire.Settings())
    clock.advance(800)
    # A report is no sign of anybody.
    client.report(client.frame(2 * CHUNK))
    clock.advance(101)
    notice = client.until(is_notice)
    assert notice.paused
    assert notice.message == "nothing was asked for 15 minutes, so the film is paused"
    assert "within 5 minutes" in notice.hint
    assert studio.take.paused
    clock.advance(299)
    client.ask(wire.Resume)
    client.frame(len(client.indices()) + 2 * CHUNK)
    clock.advance(901)
    assert client.until(is_notice) == notice
    clock.advance(301)
    assert client.rest()[-1] == wire.Goodbye(reason="idle")
    assert [each for each in client.got if is_notice(each)] == [notice, notice]
    studio.visitor()
    (take,) = studio.takes.takes()
    assert take.state == "finished"
    assert take.frames >= len(client.indices())


def test_whoever_comes_back_is_told_of_the_pause_again(open_studio, clock):
    studio = open_studio(clock, idle=40.0, stall=10_000.0)
    first = studio.connect()
    ready = first.hello()
    first.open()
    clock.advance(41)
    notice = first.until(is_notice)
    assert notice.message == "nothing was asked for 40 s, so the film is paused"
    second = studio.connect()
    resume = wire.Resumption(session=ready.session, resume_token=ready.resume_token)
    second.hello(resume=resume)
    assert second.until(is_notice) == notice


def test_a_film_that_its_visitor_paused_is_not_paused_again(open_studio, clock):
    studio = open_studio(clock, idle=900.0)
    client = studio.visitor()
    client.open()
    client.ask(wire.Pause)
    clock.advance(901)
    notice = client.until(is_notice)
    assert (notice.message, notice.paused) == ("nothing was asked for 15 minutes", False)


def test_a_visit_ends_in_time_where_others_wait(open_studio, clock):
    studio = open_studio(clock, visit=300.0)
    first = studio.visitor()
    clock.advance(301)
    assert first.open().type == "ack"
    second = studio.connect()
    second.send(wire.Hello, version=wire.PROTOCOL)
    second.until(is_ready)
    assert first.rest()[-1] == wire.Goodbye(reason="time_up")


def test_at_the_end_everybody_hears_why_and_every_take_is_saved(open_studio):
    studio = open_studio(sessions=2)
    clients = [studio.visitor() for _ in range(2)]
    for client in clients:
        client.open()
        client.frame(CHUNK)
    waiting = studio.connect()
    waiting.send(wire.Hello, version=wire.PROTOCOL)
    queued(waiting)
    studio.server.should_exit = True
    for client in [*clients, waiting]:
        assert client.rest()[-1] == wire.Goodbye(reason="shutdown")
    studio.wait_until(lambda: [t.state for t in studio.takes.takes()] == ["finished"] * 2)


def test_whoever_says_no_hello_is_sent_away(open_studio):
    client = open_studio(hello=0.05).connect()
    assert client.rest() == [wire.Goodbye(reason="refused")]


def test_the_first_message_has_to_be_a_proper_hello(studio):
    for text in ('{"type": "pause", "id": 3}', "nonsense", '{"type": "hello", "version": 1}'):
        client = studio.connect()
        client.socket.send(text)
        error, bye = client.rest()
        assert isinstance(error, wire.Error)
        assert bye == wire.Goodbye(reason="refused")


def test_200_connections_leave_nothing_behind(open_studio, clock):
    studio = open_studio(clock)

    def left():
        gc.collect()
        return {
            "files": sum(1 for _ in Path("/proc/self/fd").iterdir()),
            # The event loop keeps a few threads for whoever comes next.
            "threads": sum("asyncio" not in each.name for each in threading.enumerate()),
            "films": sum(type(each) is FilmState for each in gc.get_objects()),
            "tasks": len(studio.server.server_state.tasks),
        }

    def come_and_go(number):
        client = studio.connect()
        if number % 8 < 6:
            client.ask(wire.Hello, version=wire.PROTOCOL)
        if number % 8 < 4:
            client.until(is_ready)
        if number % 16 < 2:
            client.open()
        if number % 8 == 0:
            client.ask(wire.Bye)
        if number % 2:
            client.socket.socket.close()
        client.socket.close()
        studio.wait_until(lambda: all(each.client is None for each in studio.visits.standing))
        clock.advance(100)
        studio.wait_until(lambda: not studio.visits.standing)

    for number in range(8):
        come_and_go(number)
    before = left()
    for number in range(200):
        come_and_go(number)
    studio.wait_until(lambda: all(left()[kind] <= count for kind, count in before.items()))
