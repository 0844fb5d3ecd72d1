"""A client whose connection breaks, or whose server does not keep to the protocol."""

from __future__ import annotations

import io
import threading
from contextlib import suppress

import pytest
from PIL import Image
from websockets.exceptions import ConnectionClosed

from longtake import connect
from longtake.app.wire import (
    Ack,
    Codec,
    EncodedFrame,
    FrameId,
    Goodbye,
    Hello,
    Notice,
    Open,
    Playback,
    Prompt,
    Resume,
    Save,
    Still,
)
from longtake.app.wire_coding import pack_frame

# A net under tests that wait for the other side: far longer than any machine needs.
PATIENCE = 60


def say_at_once(session, texts):
    """Prompts sent by as many threads."""
    typing = [threading.Thread(target=session.prompt, args=(text,)) for text in texts]
    for thread in typing:
        thread.start()
    for thread in typing:
        thread.join()


def test_a_cut_in_the_middle_loses_no_frame_and_doubles_none(play, numbers):
    def before(peer):
        peer.greet()
        peer.begin()
        peer.frames(0, 5)
        peer.cut()

    def after(peer):
        resume = peer.greet(received=2).resume
        assert (resume.session, resume.resume_token) == ("s-1", "secret")
        assert resume.next == FrameId(take=1, index=5)
        # More than it has to repeat, and a receipt again.
        peer.apply(2, 0, "day")
        peer.frames(2, 8)
        peer.part()

    with connect(play(before, after).url) as session:
        session.open("day")
        frames = list(session.frames(seconds=0.08))
    assert [frame.index for frame in frames] == list(range(8))
    assert numbers(frame.pixels for frame in frames) == list(range(8))
    assert [each.prompt for each in session.receipts] == ["day"]


def test_requests_that_were_lost_are_sent_again_in_order_under_new_ids(play):
    ids = []

    def before(peer):
        peer.greet()
        peer.begin()
        peer.frame(0)
        ids.append(peer.read(Prompt).id)
        peer.cut()

    def after(peer):
        # What was read last is said to be lost.
        peer.greet(received=ids[0] - 1)
        prompt = peer.read(Prompt)
        assert prompt.id > ids[0]
        assert (prompt.text, prompt.at) == ("night", 0.02)
        peer.send(Ack(id=prompt.id))
        peer.apply(prompt.id, 1, "night")
        peer.frames(1, 5)
        peer.part()

    with connect(play(before, after).url) as session:
        session.open("day")
        session.prompt("night", at=0.02)
        assert [frame.prompt for frame in session.frames(seconds=0.05)] == ["day"] * 4 + ["night"]
        assert session.receipts[-1].milliseconds > 0


def test_an_answer_that_was_lost_is_asked_for_again_if_it_holds_something(play, caplog, error_of):
    def one(peer):
        peer.greet()
        peer.read(Open)
        peer.cut()

    def two(peer):
        # It heard the first one, and began a take of which the client knows nothing.
        assert peer.greet(received=2).resume.next == FrameId(take=1, index=0)
        peer.apply(2, 0, "day")
        peer.frame(0)
        peer.begin(take=2)
        peer.frame(0, take=2)
        peer.read(Prompt)
        peer.cut()

    def three(peer):
        peer.greet(received=99)
        peer.read(Save)
        peer.cut()

    def four(peer):
        peer.greet(received=99)
        peer.refuse(peer.read(Save).id, "nothing_recorded")
        peer.part()

    with connect(play(one, two, three, four).url) as session:
        session.open("day")
        assert next(session.frames(1)).index == 0
        session.prompt("night")
        assert error_of(lambda: session.save("a.mp4")).code == "nothing_recorded"
    assert caplog.messages == ["the answer to prompt was lost with the connection"]
    assert [(each.prompt, each.take) for each in session.receipts] == [("day", 2)]


def test_of_prompts_due_together_the_latest_has_a_receipt(play):
    def script(peer):
        peer.greet()
        peer.begin()
        peer.frames(0, 4)
        prompts = [peer.read(Prompt) for _ in range(3)]
        for prompt in prompts:
            peer.send(Ack(id=prompt.id, chunk=1))
        peer.apply(prompts[-1].id, 1, prompts[-1].text)
        peer.frame(4)
        peer.part()

    with connect(play(script).url) as session:
        session.open("day")
        say_at_once(session, "abc")
        last = list(session.frames(seconds=0.05))[-1]
    assert [each.prompt for each in session.receipts] == ["day", last.prompt]
    assert last.prompt in "abc"


def test_prompts_that_apply_together_have_a_receipt_each_and_none_twice(play):
    """Also where they are sent in another order than they are due, and told of again."""
    prompts = []

    def before(peer):
        peer.greet()
        peer.begin(read="day.")
        peer.frames(0, 4)
        prompts.extend(peer.read(Prompt) for _ in range(3))
        peer.send(*(Ack(id=prompt.id, chunk=1) for prompt in prompts))
        for index in (1, 0):
            peer.apply(prompts[index].id, 1, prompts[index].text, read="day, night.")
        peer.cut()

    def after(peer):
        peer.greet(received=2**31 - 10)
        for index in (1, 0, 2):
            peer.apply(prompts[index].id, 1, prompts[index].text, read="day, night.")
        peer.frames(4, 8)
        peer.apply(prompts[2].id, 2, "later")
        peer.frame(8)
        peer.part()

    with connect(play(before, after).url) as session:
        session.open("day")
        say_at_once(session, "abc")
        frames = list(session.frames(seconds=0.09))
    told = [prompts[index].text for index in (1, 0, 2)]
    assert [each.read for each in session.receipts] == ["day."] + ["day, night."] * 3 + [None]
    assert [each.prompt for each in session.receipts] == ["day", *told, "later"]
    assert [each.chunk for each in session.receipts] == [0, 1, 1, 1, 2]
    assert all(each.milliseconds > 0 for each in session.receipts[1:4])
    assert [frame.prompt for frame in frames[3:6]] == ["day", told[-1], told[-1]]


def test_the_film_flows_as_far_as_frames_are_taken(play):
    """The server keeps to its credit: without reports it would wait for ever."""
    reported = []

    def script(peer):
        peer.greet()
        peer.begin()
        credit = 8
        for index in range(60):
            while index > credit:
                report = peer.read(Playback)
                peer.acknowledge_report(report)
                credit = report.frame.index + 8
                assert report.frame.index < index
                assert report.buffer_ms <= 80
            peer.frame(index)
        peer.part()
        reported.extend(each.frame.index for each in peer.reported)

    with connect(play(script).url) as session:
        session.open("day")
        assert [frame.index for frame in session.frames(seconds=0.6)] == list(range(60))
    assert reported == sorted(set(reported))


def test_a_report_that_was_refused_is_made_again(play):
    def script(peer):
        peer.greet()
        peer.begin()
        peer.frames(0, 9)
        refused = peer.read(Playback)
        peer.refuse(refused.id, "too_fast")
        while (report := peer.read(Playback)).frame.index < 8:
            peer.acknowledge_report(report)
        peer.frame(9)
        peer.part()

    with connect(play(script).url) as session:
        session.open("day")
        assert len(list(session.frames(seconds=0.1))) == 10


def test_a_report_that_was_lost_is_made_again(play):
    def before(peer):
        peer.greet()
        peer.begin()
        peer.frames(0, 9)
        while peer.read(Playback).frame.index < 8:
            pass
        peer.cut()

    def after(peer):
        peer.greet(received=99)
        assert peer.read(Playback).frame.index == 8
        peer.frame(9)
        peer.part()

    with connect(play(before, after).url) as session:
        session.open("day")
        assert len(list(session.frames(seconds=0.1))) == 10


def test_a_stalled_client_comes_back_when_it_takes_frames_again(play):
    stalled, back = threading.Event(), threading.Event()

    def before(peer):
        peer.greet()
        peer.begin()
        peer.frames(0, 9)
        peer.send(Goodbye(reason="stalled"))
        peer.connection.close()
        stalled.set()

    def after(peer):
        assert peer.greet(received=99).resume.next.index == 9
        back.set()
        while peer.read(Playback).frame.index == 0:
            pass
        peer.frame(9)
        peer.part()

    with connect(play(before, after).url) as session:
        session.open("day")
        assert stalled.wait(PATIENCE)
        # Long enough for one that came at once to be caught, mostly; never too short.
        assert not back.wait(0.3)
        assert len(list(session.frames(seconds=0.1))) == 10


def test_a_session_that_cannot_be_resumed_ends_after_its_last_frame(play, monkeypatch, error_of):
    def script(peer):
        peer.greet()
        peer.begin()
        peer.frames(0, 2)
        peer.cut()

    def gone(peer):
        peer.refuse(peer.read(Hello).id, "no_session")

    with connect(play(script, gone).url) as session:
        session.open("day")
        frames = session.frames(seconds=1)
        assert [next(frames).index, next(frames).index] == [0, 1]
        assert error_of(lambda: next(frames)).code == "no_session"
        assert error_of(lambda: session.prompt("night")).code == "no_session"


def test_a_server_that_stays_away_is_given_up_after_the_time_of_grace(play, error_of):
    def script(peer):
        peer.greet(grace=0.2)
        peer.begin()
        server.server.socket.close()
        peer.cut()

    server = play(script)
    with connect(server.url) as session:
        session.open("day")
        error = error_of(lambda: next(session.frames(seconds=1)))
    assert error.code == "no_session"
    assert error.message.startswith("the connection was lost for 0.2 s (nothing listens at")


def test_a_film_that_the_server_paused_is_said_and_gone_on_with(play, error_of):
    def script(peer):
        peer.greet()
        peer.begin()
        peer.frames(0, 2)
        peer.send(Notice(message="nothing was asked for", hint="go on", paused=True))
        peer.send(Ack(id=peer.read(Resume).id))
        peer.frame(2)
        peer.part()

    with connect(play(script).url) as session:
        session.open("day")
        frames = session.frames(seconds=1)
        assert [next(frames).index, next(frames).index] == [0, 1]
        error = error_of(lambda: next(frames))
        assert (error.code, str(error)) == ("idle", "nothing was asked for: go on")
        session.resume()
        assert next(session.frames(seconds=1)).index == 2


@pytest.mark.parametrize("reason", ["replaced", "idle", "time_up", "shutdown", "refused"])
def test_why_the_server_ended_the_session_is_said(play, reason, error_of):
    def script(peer):
        peer.greet()
        peer.begin()
        peer.frame(0)
        peer.send(Goodbye(reason=reason))

    with connect(play(script).url) as session:
        session.open("day")
        frames = session.frames(seconds=1)
        next(frames)
        error = error_of(lambda: next(frames))
    assert error.code == "closed"
    assert error.message.startswith("the server ended the session: ")


def jpeg(size: tuple[int, int], index: int = 0, form: str = "JPEG", take: int = 1) -> bytes:
    picture = io.BytesIO()
    Image.new("RGB", size).save(picture, form)
    return pack_frame(
        EncodedFrame(
            codec=Codec.JPEG, take=take, chunk=0, index=index, pts=0, payload=picture.getvalue()
        )
    )


BAD = {
    "no JSON": "{",
    "no message": '{"type": "surprise"}',
    "a request": '{"type": "pause", "id": 4}',
    "a field too many": '{"type": "ack", "id": 2, "more": 1}',
    "a place after ready": '{"type": "queued", "position": 1}',
    "an elsewhere": '{"type":"ack","id":2,"file":{"url":"//evil.org/a","size":1,"seconds":1}}',
    "no frame": b"F",
    "another size": jpeg((32, 48)),
    "another coding": jpeg((48, 32), form="PNG"),
    "a gap": [jpeg((48, 32), 0), jpeg((48, 32), 2)],
    "more than its limit": [jpeg((48, 32), index) for index in range(10)],
    "prompts without frames": [
        f'{{"type":"applied","id":2,"take":1,"chunk":{chunk},"time":1,"prompt":"a"}}'
        for chunk in (1, 2, 3)
    ],
}


@pytest.mark.parametrize("messages", BAD.values(), ids=BAD.keys())
def test_a_server_that_breaks_the_protocol_is_left(play, messages, error_of):
    def script(peer):
        peer.greet()
        peer.begin()
        # It may leave at the first of several.
        with suppress(ConnectionClosed):
            peer.send(*(messages if isinstance(messages, list) else [messages]))
        peer.see_it_leave()

    with connect(play(script).url) as session:
        session.open("day")
        error = error_of(lambda: list(session.frames(seconds=1)))
        assert error.code == "bad_message"
        assert error.message.startswith("the server breaks the protocol: ")
        assert error_of(lambda: session.prompt("night")).code in {"bad_message", "closed"}


@pytest.mark.parametrize("message", ['{"type":"ready","version":3}', b"F", "{", "[]"])
def test_a_server_that_greets_wrongly_is_left(play, message, error_of):
    def script(peer):
        peer.send(Ack(id=peer.read(Hello).id), message)
        peer.see_it_leave()

    assert error_of(lambda: connect(play(script).url)).code == "bad_message"


@pytest.mark.parametrize(("kind", "ask"), [(Open, "open"), (Save, "save"), (Still, "still")])
def test_an_answer_without_what_was_asked_for_is_refused(play, kind, ask, error_of):
    def script(peer):
        peer.greet()
        if kind is not Open:
            peer.begin()
        peer.send(Ack(id=peer.read(kind).id))
        peer.see_it_leave()

    with connect(play(script).url) as session:
        if kind is not Open:
            session.open("day")
        given = {"open": "day", "save": "a.mp4", "still": "a.png"}[ask]
        assert error_of(lambda: getattr(session, ask)(given)).code == "bad_message"
