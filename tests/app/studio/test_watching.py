"""A client that shows frames, and what it is told of them."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from PIL import Image

from longtake.app import wire
from longtake.app.studio import watching
from longtake.app.studio.watching import Captioners, decode
from longtake.app.transcript import LineBuilder
from longtake.app.wire_coding import SHOWN_HEADER, pack_shown
from longtake.app.witness import open_witness
from longtake.models.vlm.words import Words
from longtake.streaming import StreamError

FPS = 2
# Of the film, as in the server's fixture.
RATE = 80


def jpeg(level: int = 90, size: tuple[int, int] = (64, 48)) -> bytes:
    coded = io.BytesIO()
    Image.new("RGB", size, (level, 120, 60)).save(coded, "JPEG")
    return coded.getvalue()


@pytest.fixture
def watching_studio(open_studio, model, tiny_captioner) -> Callable:
    """Start a server that has a captioner; `studio.loads` counts how often it was loaded."""

    def start(**options):
        loads = []

        def load():
            loads.append(1)
            return open_witness(tiny_captioner, beside=model.engine, round_tokens=4)

        studio = open_studio(captioners=Captioners(load), **options)
        studio.loads = loads
        return studio

    return start


def show(client, index, *, watch=1, payload=None):
    """Show the frame of a number, FPS a second."""
    frame = wire.ShownFrame(
        watch=watch, pts=index * 1_000_000 // FPS, payload=payload or jpeg(40 + 10 * index)
    )
    client.socket.send(pack_shown(frame))


def said(client, second):
    """Read up to the last piece of what is said of a second; all pieces of it."""
    client.until(lambda each: isinstance(each, wire.Words) and each.final and each.start == second)
    return [each for each in client.got if isinstance(each, wire.Words) and each.start == second]


def watched(client, what):
    """Read up to something that happened to a watch; it."""
    return client.until(lambda each: isinstance(each, wire.Watching) and each.what == what)


def test_what_is_shown_is_spoken_of_second_by_second_and_questions_are_answered(watching_studio):
    studio = watching_studio()
    client = studio.visitor()
    assert not studio.loads
    ack = client.ask(wire.Watch, prompt="speak of the ball", seed=3)
    assert (ack.watch, ack.fps, ack.pixels > 0) == (1, FPS, True)
    show(client, 0)
    show(client, 1)
    first = said(client, 0.0)
    assert {(each.kind, each.end, each.question) for each in first} == {("caption", 1.0, "")}
    assert client.ask(wire.Ask, text="what moves?").type == "ack"
    show(client, 2)
    show(client, 3)
    answer = said(client, 1.0)
    assert {(each.kind, each.question) for each in answer} == {("answer", "what moves?")}
    assert len(answer) > 1, "word by word"
    assert client.ask(wire.Unwatch).type == "ack"
    assert watched(client, "ended").message == "all that was shown is spoken of"

    # Another one ends the one before; the captioner is loaded once.
    assert client.ask(wire.Watch).watch == 2
    show(client, 0, watch=1)
    show(client, 0, watch=2)
    show(client, 1, watch=2)
    assert {each.watch for each in said(client, 0.0)} == {1, 2}
    assert len(studio.loads) == 1


def test_the_words_are_those_of_the_python_api(watching_studio, tiny_captioner):
    client = watching_studio().visitor()
    client.ask(wire.Watch, seed=5)
    with (
        open_witness(tiny_captioner, round_tokens=4) as witness,
        witness.watch(seed=5) as watch,
    ):
        for index in range(4):
            show(client, index)
            watch.feed(decode(jpeg(40 + 10 * index)), index / FPS)
        watch.end()
        lines = list(watch)
    builder, got = LineBuilder(), []
    for each in [*said(client, 0.0), *said(client, 1.0)]:
        words = Words(each.text, each.start, each.end, each.kind, each.final)
        if line := builder.add(words, each.question):
            got.append(line)
    assert got == lines


def test_a_film_goes_on_beside_a_watch(watching_studio):
    client = watching_studio().visitor()
    client.open()
    client.frame(4)
    client.ask(wire.Watch)
    show(client, 0)
    show(client, 1)
    said(client, 0.0)
    client.frame(60)


def test_the_film_is_watched_without_passing_the_client(watching_studio):
    client = watching_studio().visitor()
    client.open()
    client.frame(3 * RATE)
    assert client.ask(wire.Watch, film=True, seed=3).watch == 1
    # What a client shows to it all the same is passed over.
    show(client, 1000)
    words = client.until(lambda each: isinstance(each, wire.Words) and each.final)
    assert words.start >= 3.0, "from the middle on, at the film's own times"
    assert words.end - words.start == 1.0
    client.ask(wire.Ask, text="what moves?")
    client.until(lambda each: isinstance(each, wire.Words) and each.question == "what moves?")
    client.ask(wire.Unwatch)
    assert watched(client, "ended").message == "all that was shown is spoken of"
    happened = {each.what for each in client.got if isinstance(each, wire.Watching)}
    assert happened <= {"dropped", "ended"}


def test_a_film_that_is_paused_is_waited_for(watching_studio, monkeypatch):
    monkeypatch.setattr(watching, "STALL_SECONDS", 0.02)
    monkeypatch.setattr(watching, "LOST_SECONDS", 0.05)
    client = watching_studio().visitor()
    client.open()
    client.ask(wire.Pause)
    client.ask(wire.Watch, film=True)
    time.sleep(0.2)
    client.ask(wire.Resume)
    client.until(lambda each: isinstance(each, wire.Words))
    assert not [each for each in client.got if getattr(each, "what", "") in {"stalled", "ended"}]


def test_a_watch_ends_with_its_film(watching_studio):
    client = watching_studio().visitor()
    error = client.ask(wire.Watch, film=True)
    assert (error.code, error.message) == ("out_of_order", "there is no take yet")
    client.open()
    client.ask(wire.Watch, film=True)
    client.frame(2 * RATE)
    client.ask(wire.Restart)
    ended = watched(client, "ended")
    assert (ended.message, ended.hint) == ("the film has ended", "watch the next one")
    assert client.ask(wire.Watch, film=True).watch == 2
    client.until(lambda each: isinstance(each, wire.Words) and each.watch == 2)


def test_without_a_captioner_it_is_said_how_to_give_one(studio):
    error = studio.visitor().ask(wire.Watch)
    assert (error.code, error.message) == ("unsupported", "no captioner comes with this version")
    assert "--witness" in error.hint


def test_a_captioner_that_cannot_be_loaded_leaves_the_session_as_it_was(open_studio, tmp_path):
    captioners = Captioners(partial(open_witness, tmp_path))
    client = open_studio(captioners=captioners).visitor()
    error = client.ask(wire.Watch)
    assert error.code == "unsupported"
    assert error.hint
    assert client.ask(wire.Ask, text="what?").code == "out_of_order"
    client.open()
    client.frame(3)


@pytest.mark.parametrize(
    "payload",
    [
        b"\xff\xd8 no more",
        jpeg()[:-200],
        b"GIF89a" + bytes(40),
        jpeg(size=(4096, 1025)),
        jpeg(size=(1001, 5)),
        b"\xff\xd8\xff\xc0\x00\x11\x08\xff\xff\xff\xff\x03\x01\x22\x00\x02\x11\x01\x03\x11\x01",
    ],
    ids=["torn", "short", "gif", "large", "long", "bomb"],
)
def test_a_hostile_picture_is_refused_in_one_sentence_and_the_watch_goes_on(
    watching_studio, payload
):
    client = watching_studio().visitor()
    client.ask(wire.Watch)
    for _ in range(3):
        show(client, 0, payload=payload)
    show(client, 0)
    show(client, 1)
    said(client, 0.0)
    told = [each for each in client.got if isinstance(each, wire.Watching)]
    assert [each.what for each in told] == ["refused"], "the first of several in a row"
    assert told[0].message
    assert told[0].hint


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (bytes((0x57, wire.PROTOCOL, 1, 0)), "bad_message"),
        (SHOWN_HEADER.pack(0x57, wire.PROTOCOL, 2, 0, 1, 0) + b"webp", "bad_message"),
        (SHOWN_HEADER.pack(0x57, wire.PROTOCOL, 1, 0, 0, 0) + b"no watch", "bad_message"),
        (SHOWN_HEADER.pack(0x57, wire.PROTOCOL, 1, 0, 1, 2**60) + b"late", "bad_message"),
        (
            SHOWN_HEADER.pack(0x57, wire.PROTOCOL, 1, 0, 1, 0) + bytes(wire.MAX_SHOWN + 1),
            "too_large",
        ),
        (SHOWN_HEADER.pack(0x57, wire.PROTOCOL, 1, 0, 7, 0) + b"of none", "out_of_order"),
    ],
    ids=["short", "codec", "watch 0", "pts", "large", "no such watch"],
)
def test_a_binary_message_that_fits_nowhere_is_refused(watching_studio, data, code):
    client = watching_studio().visitor()
    client.socket.send(data)
    error = client.until(lambda each: isinstance(each, wire.Error))
    assert (error.id, error.code) == (None, code)


def test_frames_that_come_too_fast_are_dropped_and_told_of(watching_studio, model):
    client = watching_studio().visitor()
    client.ask(wire.Watch)
    seconds = 40
    # The worker is held until all have come.
    hold = hold_worker(model.engine)
    for index in range(FPS * seconds):
        show(client, index)
    # Frames are read in order with requests, so all have come when this is answered.
    client.ask(wire.Unwatch)
    hold()
    watched(client, "ended")
    dropped = [each for each in client.got if isinstance(each, wire.Watching) and each.frames]
    assert {each.what for each in dropped} == {"dropped"}
    seconds_said = {each.start for each in client.got if isinstance(each, wire.Words)}
    assert 0 < len(seconds_said) < seconds


def hold_worker(engine):
    """Keep an engine's worker busy until what is returned is called."""
    go = threading.Event()
    thread = threading.Thread(target=engine.call, args=(lambda: go.wait(30),))
    thread.start()

    def release():
        go.set()
        thread.join()

    return release


def test_a_gap_and_another_size_are_told_of_and_the_watch_goes_on(watching_studio):
    client = watching_studio().visitor()
    client.ask(wire.Watch)
    show(client, 0)
    show(client, 1)
    said(client, 0.0)
    for index in (14, 15):
        show(client, index, payload=jpeg(size=(96, 64)))
    assert watched(client, "gap").message == "nothing was shown from 0 s to 7 s"
    assert watched(client, "resized").message == "from 7 s on the picture is 96x64"
    assert said(client, 7.0)[-1].final
    assert client.ask(wire.Unwatch).type == "ack"


def test_a_watch_that_is_shown_nothing_is_told_so_and_ends(watching_studio, monkeypatch):
    monkeypatch.setattr(watching, "STALL_SECONDS", 0.05)
    monkeypatch.setattr(watching, "LOST_SECONDS", 0.3)
    client = watching_studio().visitor()
    client.ask(wire.Watch)
    assert watched(client, "stalled").message.startswith("no frame has come for")
    assert watched(client, "ended").message.startswith("nothing was shown for")


def test_a_visitor_who_shows_something_is_not_idle(watching_studio, clock):
    client = watching_studio(now=clock, idle=100).visitor()
    client.ask(wire.Watch)
    for second in range(4):
        clock.advance(60)
        show(client, 2 * second)
        show(client, 2 * second + 1)
        said(client, float(second))
    assert not [each for each in client.got if isinstance(each, wire.Notice)]
    clock.advance(101)
    notice = client.until(lambda each: isinstance(each, wire.Notice))
    assert notice.message == "nothing was asked for 100 s"


def test_a_question_that_does_not_fit_is_refused(watching_studio):
    client = watching_studio().visitor()
    assert client.ask(wire.Ask, text="what?").code == "out_of_order"
    assert client.ask(wire.Unwatch).code == "out_of_order"
    client.ask(wire.Watch)
    client.socket.send('{"type": "ask", "id": 90, "text": "' + 10_000 * "word " + '"}')
    error = client.until(lambda each: isinstance(each, wire.Error) and each.id is None)
    assert error.code == "too_large"


def test_the_end_of_a_visit_frees_its_watch(watching_studio, model):
    client = watching_studio().visitor()
    client.ask(wire.Watch)
    show(client, 0)
    client.ask(wire.Bye)
    client.rest()
    assert not [each for each in model.engine._sessions if each.state is not None]


def test_a_picture_is_decoded_as_rgb():
    pixels = decode(jpeg(200))
    assert pixels.shape == (48, 64, 3)
    assert pixels.dtype == np.uint8
    assert abs(pixels.mean(axis=(0, 1)) - [200, 120, 60]).max() < 4
    with pytest.raises(StreamError, match="no JPEG"):
        decode(b"text")
