"""A film over the WebSocket: what comes, and in which order."""

from __future__ import annotations

import io
from itertools import pairwise

import pytest
import torch
from PIL import Image

from longtake.app import wire
from longtake.app.studio import live
from longtake.streaming import StreamError

PROMPT = "a red ball bounces on green grass"
CHUNK = 8
RATE = 80
# Of the `studio` fixture: what may be sent before the first report.
AHEAD = 16
OWN = {"steps": 2, "window": 4, "sink": 2, "switch": "recache"}


def first_receipt(request_id, take, prompt=PROMPT, **settings):
    settings = wire.Settings(**OWN | settings)
    return wire.Applied(id=request_id, take=take, chunk=0, time=0, prompt=prompt, settings=settings)


def begun(studio, request_id, take):
    """The answer to what begins a take."""
    return wire.Ack(id=request_id, take=take, recording=studio.takes.takes()[0].name)


def assert_sound(client):
    """What holds of everything that a client got."""
    for take in {frame.take for frame in client.got if isinstance(frame, wire.EncodedFrame)}:
        assert client.indices(take) == list(range(len(client.indices(take))))
    chunks = {}
    for message in client.got:
        match message:
            case wire.EncodedFrame():
                assert message.chunk == message.index // CHUNK
                assert message.pts == round(message.index * 1_000_000 / RATE)
                chunks[message.take] = message.chunk
            case wire.Applied():
                assert message.chunk > chunks.get(message.take, -1), "a receipt after its frames"


def test_a_film_comes_frame_by_frame_and_follows_a_prompt(studio, model):
    client = studio.connect()
    ready = client.hello()
    assert [type(each) for each in client.got] == [wire.Ack, wire.Ready]
    assert (ready.model, ready.width, ready.height, ready.rate, ready.chunk) == (
        model.folder.name, 32, 32, RATE, CHUNK
    )  # fmt: skip
    assert (ready.received, ready.limits.ahead) == (0, AHEAD)

    opened = client.send(wire.Open, prompt=PROMPT, seed=7)
    assert client.answer(opened) == begun(studio, opened, take=1)
    assert client.next() == first_receipt(opened, take=1)
    frame = client.frame(0)
    assert (frame.take, frame.chunk, frame.index, frame.pts) == (1, 0, 0, 0)
    with Image.open(io.BytesIO(frame.payload)) as picture:
        assert (picture.format, picture.size) == ("JPEG", (32, 32))

    sent = client.send(wire.Prompt, text="night falls")
    foreseen = client.answer(sent)
    applied = client.applied()
    assert applied == wire.Applied(
        id=sent, take=1, chunk=foreseen.chunk, time=foreseen.time, prompt="night falls"
    )
    client.frame(CHUNK * applied.chunk)
    assert_sound(client)

    client.reporting = False
    assert client.ask(wire.Bye) == wire.Ack(id=client.last_id)
    assert client.rest() == [wire.Goodbye(reason="asked")]


def test_settings_are_in_force_from_the_first_chunk_on_and_told_once(studio):
    client = studio.visitor()
    opened = client.open(settings=wire.Settings(steps=1, switch="keep"))
    assert client.applied() == first_receipt(opened.id, 1, steps=1, switch="keep")
    changed = client.ask(wire.Set, settings=wire.Settings(steps=3, sink=0))
    assert client.applied() == wire.Applied(
        id=changed.id,
        take=1,
        chunk=changed.chunk,
        time=changed.time,
        settings=wire.Settings(steps=3, sink=0),
    )
    client.ask(wire.Bye)
    (stored,) = studio.takes.takes()
    assert [(entry.chunk, entry.event.field) for entry in stored.applied[:2]] == [
        (0, "steps"),
        (0, "switch"),
    ]


def test_a_pause_stops_the_film_at_the_chunk_it_names_and_resume_goes_on_there(studio):
    client = studio.visitor()
    client.open()
    client.frame(3)
    paused = client.ask(wire.Pause)
    assert paused.time == paused.chunk * CHUNK / RATE
    client.frame(paused.chunk * CHUNK - 1)
    # Nothing is being made, so nothing can come, whatever is asked.
    for _ in range(3):
        client.ask(wire.Set, settings=wire.Settings())
    assert client.indices()[-1] == paused.chunk * CHUNK - 1
    again = client.ask(wire.Resume)
    assert (again.chunk, again.time) == (paused.chunk, paused.time)
    client.frame(paused.chunk * CHUNK)
    assert_sound(client)


def test_of_prompts_due_at_one_chunk_the_latest_wins_and_so_each_setting(studio):
    client = studio.visitor()
    client.open()
    client.frame(0)
    client.ask(wire.Pause)
    answers = [
        client.ask(wire.Prompt, text="night"),
        client.ask(wire.Set, settings=wire.Settings(steps=1, sink=1)),
        client.ask(wire.Prompt, text="snow"),
        client.ask(wire.Set, settings=wire.Settings(steps=4)),
    ]
    assert len({(each.chunk, each.time) for each in answers}) == 1
    client.ask(wire.Resume)
    receipts = [client.applied() for _ in range(3)]
    assert {(each.id, each.prompt, each.settings) for each in receipts} == {
        (answers[1].id, None, wire.Settings(sink=1)),
        (answers[2].id, "snow", None),
        (answers[3].id, None, wire.Settings(steps=4)),
    }
    client.frame(CHUNK * receipts[0].chunk)
    assert_sound(client)


def test_prompts_due_at_one_chunk_all_reach_a_model_that_folds_them(open_studio, rewrites):
    studio = open_studio(makes=rewrites)
    client = studio.visitor()
    client.open()
    first = client.applied()
    client.frame(0)
    paused = client.ask(wire.Pause)
    told = ["it starts to snow", "night falls", "make it blue"]
    answers = [client.ask(wire.Prompt, text=text) for text in told]
    client.frame(paused.chunk * CHUNK - 1)
    client.ask(wire.Resume)
    receipts = [client.applied() for _ in told]
    client.frame(CHUNK * (paused.chunk + 1))
    assert [(each.id, each.prompt) for each in receipts] == [
        (answer.id, text) for answer, text in zip(answers, told, strict=True)
    ]
    assert {(each.chunk, each.time) for each in receipts} == {(paused.chunk, paused.time)}
    assert studio.take._session.state.prompts == (PROMPT, *told)
    # Each is told what the model was given, which is made of all of them.
    whole = "a blue ball bounces on the grass, at night while it snows"
    assert first.read == "a red ball bounces on the grass"
    assert {each.read for each in receipts} == {whole}
    assert studio.take.outgoing.in_force.read == whole
    settings = client.ask(wire.Set, settings=wire.Settings(steps=1))
    changed = client.until(lambda each: isinstance(each, wire.Applied) and each.id == settings.id)
    assert changed.read is None
    assert studio.take.outgoing.in_force.read == whole
    assert_sound(client)


def test_of_a_model_that_reads_prompts_as_they_are_nothing_is_told(studio):
    client = studio.visitor()
    client.open()
    first = client.applied()
    client.ask(wire.Prompt, text="night falls")
    assert [first.read, client.applied().read] == [None, None]


def test_a_session_holds_so_many_changes_that_wait(studio, monkeypatch):
    monkeypatch.setattr(live, "MAX_WAITING", 3)
    client = studio.visitor()
    client.open()
    client.frame(0)
    client.ask(wire.Pause)
    for index in range(3):
        client.ask(wire.Prompt, text="night falls", at=1000 + index)
    refused = client.ask(wire.Set, settings=wire.Settings(steps=1, sink=1), at=2000)
    assert (refused.code, refused.retryable) == ("too_fast", True)
    assert "3 changes" in refused.message
    client.ask(wire.Resume)
    client.frame(2 * CHUNK)


def test_a_prompt_for_later_waits_for_the_chunk_that_was_foreseen(studio):
    client = studio.visitor()
    client.open()
    foreseen = client.ask(wire.Prompt, text="night", at=0.32)
    assert (foreseen.chunk, foreseen.time) == (4, 0.4)
    applied = client.until(lambda each: isinstance(each, wire.Applied) and each.prompt == "night")
    assert (applied.id, applied.chunk, applied.time) == (foreseen.id, 4, 0.4)


def test_a_prompt_takes_over_in_as_many_chunks_as_are_asked_for(studio):
    client = studio.visitor()
    assert client.open().take == 1
    client.ask(wire.Prompt, text="night falls", transition=3)
    applied = client.applied()
    client.frame(CHUNK * (applied.chunk + 3))
    studio.take.close()
    (take,) = studio.takes.takes()
    (noted,) = (each for each in take.applied if each.event.field == "prompt")
    assert (noted.event.value, noted.event.transition) == ("night falls", 3)
    assert_sound(client)


def test_a_new_take_begins_after_the_last_frame_of_the_old_one(studio):
    client = studio.visitor()
    client.open(seed=3)
    client.frame(2 * CHUNK)
    client.ask(wire.Pause)
    client.ask(wire.Set, settings=wire.Settings(steps=1))
    client.ask(wire.Prompt, text="night falls")
    client.ask(wire.Prompt, text="snow", at=1000)
    restarted = client.ask(wire.Restart, seed=4)
    assert restarted == begun(studio, restarted.id, take=2)
    assert client.next() == first_receipt(restarted.id, 2, "night falls", steps=1)
    client.frame(2 * CHUNK)
    opened = client.open(prompt="snow")
    assert opened == begun(studio, opened.id, take=3)
    assert client.applied() == first_receipt(opened.id, 3, "snow")
    client.frame(0)
    takes = [each.take for each in client.got if isinstance(each, wire.EncodedFrame)]
    assert takes == sorted(takes)
    assert_sound(client)
    assert [take.prompt for take in studio.takes.takes()] == ["snow", "night falls", PROMPT]


def test_a_new_take_keeps_all_that_the_old_one_was_told(open_studio, rewrites):
    client = open_studio(makes=rewrites).visitor()
    client.open(prompt="a red ball on the grass")
    client.frame(0)
    client.ask(wire.Prompt, text="it turns blue")
    client.ask(wire.Prompt, text="night falls")
    client.ask(wire.Restart)
    begun = client.until(lambda each: isinstance(each, wire.Applied) and each.take == 2)
    assert begun.prompt == "a blue ball on the grass, at night"


def test_the_same_seed_makes_the_same_pictures_again(studio):
    client = studio.visitor()
    client.open(seed=3)
    client.frame(2 * CHUNK)
    client.ask(wire.Restart)
    client.frame(2 * CHUNK)
    pairs = list(zip(client.frames(1), client.frames(2), strict=False))
    assert len(pairs) > 2 * CHUNK
    assert all(one.payload == other.payload for one, other in pairs)
    assert any(one.payload != two.payload for one, two in pairwise(client.frames(1)))


def test_reports_give_credit(studio):
    client = studio.visitor()
    client.reporting = False
    client.open()
    client.frame(AHEAD)
    # No more may come, whatever is asked.
    for _ in range(3):
        client.ask(wire.Set, settings=wire.Settings())
    assert client.indices() == list(range(AHEAD + 1))
    client.report(client.frames()[0])
    client.report(client.frames()[5])
    client.frame(AHEAD + 5)
    client.ask(wire.Set, settings=wire.Settings())
    assert client.indices() == list(range(AHEAD + 6))


def test_words_that_the_model_never_met_are_named(studio):
    client = studio.visitor()
    assert client.open(prompt="a Red, blue ball!").note is None
    note = client.ask(wire.Prompt, text="a red bal falls up").note
    assert note == 'this model passes over words it never met: "bal" (ball?), "up"'


@pytest.mark.parametrize(
    ("kind", "fields", "code"),
    [
        (wire.Set, {"settings": wire.Settings(window=1)}, "bad_setting"),
        (wire.Open, {"prompt": PROMPT, "settings": wire.Settings(window=1)}, "bad_setting"),
        (wire.Playback, {"frame": wire.FrameId(take=1, index=999), "buffer_ms": 0}, "out_of_order"),
        (wire.Playback, {"frame": wire.FrameId(take=2, index=0), "buffer_ms": 0}, "out_of_order"),
        (wire.Still, {"frame": wire.FrameId(take=1, index=999)}, "nothing_recorded"),
        (wire.Still, {"frame": wire.FrameId(take=2, index=0)}, "nothing_recorded"),
        (wire.Hello, {"version": wire.PROTOCOL}, "out_of_order"),
    ],
)
def test_what_is_refused_changes_nothing(studio, kind, fields, code):
    client = studio.visitor()
    client.open()
    client.frame(0)
    error = client.ask(kind, **fields)
    assert (error.type, error.code) == ("error", code)
    assert error.message
    assert error.hint
    client.frame(3 * CHUNK)
    assert len([each for each in client.got if isinstance(each, wire.Applied)]) == 1
    assert_sound(client)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (wire.Prompt, {"text": "night"}),
        (wire.Set, {"settings": wire.Settings(steps=1)}),
        *((kind, {}) for kind in (wire.Pause, wire.Resume, wire.Restart, wire.Save, wire.Still)),
        (wire.Playback, {"frame": wire.FrameId(take=1, index=0), "buffer_ms": 0}),
    ],
)
def test_before_there_is_a_take_nothing_can_be_done_to_it(studio, kind, fields):
    client = studio.visitor()
    error = client.ask(kind, **fields)
    assert (error.code, error.hint) == ("out_of_order", "open one first")


def test_ids_have_to_rise(studio):
    client = studio.visitor()
    client.reporting = False
    client.last_id = 10
    client.open()
    client.last_id = 5
    error = client.ask(wire.Pause)
    assert (error.id, error.code) == (6, "out_of_order")
    client.last_id = 11
    assert client.ask(wire.Pause).type == "ack"


def test_more_requests_than_allowed_are_refused_and_told_so(open_studio, clock):
    client = open_studio(clock, requests=3).visitor()
    client.reporting = False
    client.open()
    answers = [client.ask(wire.Set, settings=wire.Settings()) for _ in range(4)]
    assert [each.type for each in answers] == ["ack", "ack", "error", "error"]
    assert (answers[-1].code, answers[-1].retryable) == ("too_fast", True)
    clock.advance(0.34)
    assert client.ask(wire.Pause).type == "ack"


def test_measurements_come_while_a_take_runs(studio):
    client = studio.visitor()
    client.open()
    client.until(lambda _: len(client.metrics) > 2 and client.metrics[-1].frames)
    last = client.metrics[-1]
    assert 0 < last.speed <= 1
    assert last.chunks <= last.frames <= len(client.indices()) + AHEAD + CHUNK


def test_a_model_that_fails_ends_its_take_and_not_the_session(studio, model, monkeypatch):
    client = studio.visitor()
    client.open()
    client.frame(CHUNK)

    def fail(state):
        raise RuntimeError("out of paint")

    with monkeypatch.context() as patch:
        patch.setattr(model.generator, "step", fail)
        error = client.until(lambda each: isinstance(each, wire.Error))
    assert (error.id, error.code) == (None, "model_failed")
    assert "out of paint" in error.message
    assert client.ask(wire.Prompt, text="night").code == "model_failed"
    saved = client.ask(wire.Save)
    assert saved.file.seconds == len(client.indices()) / RATE
    assert client.open().take == 2
    client.frame(CHUNK)
    assert_sound(client)


def test_a_take_that_runs_out_of_memory_is_told_so_and_the_server_lives_on(
    studio, model, monkeypatch
):
    client = studio.visitor()
    client.open()
    client.frame(CHUNK)

    def fail(state, latents, sigma, attention):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")

    with monkeypatch.context() as patch:
        patch.setattr(model.generator, "_flow", fail)
        error = client.until(lambda each: isinstance(each, wire.Error))
    assert error.code == "model_failed"
    assert "memory of" in error.message
    assert "it takes cache" in error.message
    assert "doctor" in error.hint
    assert client.ask(wire.Save).file.seconds == len(client.indices()) / RATE
    assert client.open().take == 2
    client.frame(CHUNK)
    assert_sound(client)


def test_a_take_that_cannot_be_recorded_does_not_begin(studio, monkeypatch):
    client = studio.visitor()
    client.open()

    def refuse(*_):
        raise StreamError("disk_full", "the disk is full", "make room")

    with monkeypatch.context() as patch:
        patch.setattr(studio.takes, "begin", refuse)
        error = client.ask(wire.Restart)
    assert (error.code, error.message) == ("bad_output", "the disk is full")
    client.frame(3 * CHUNK)
    assert client.ask(wire.Restart).take == 2
    assert_sound(client)
