"""Saving, restoring, branching and replaying: the same film as if never interrupted."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtake.streaming import Engine, Event, InputFrame, Progress, Status, StreamError

CHUNK = 0.5
STEPS = 3
HORIZON = 4.0
SCRIPT = (
    Event("prompt", "lake", 0.5),
    Event("mood", "calm", 0.7),
    Event("prompt", "night", 2.0),
    Event("grain", 3, 2.0),
    Event("prompt", "dawn", 3.3),
)


def open_scripted(engine, model, **options):
    session = engine.open(model, "sea", 1, **options)
    for event in SCRIPT:
        session.submit(event)
    return session


def through_json(tensors, values, progress):
    return tensors, json.loads(json.dumps(values)), Progress.from_json(as_stored(progress))


def as_stored(progress):
    return json.loads(json.dumps(progress.to_json()))


def as_script(log):
    return [entry.again() for entry in log]


@pytest.mark.parametrize("boundary", range(int(HORIZON / CHUNK) + 1))
def test_a_session_restored_at_any_boundary_continues_identically(
    engine, fake_model, film, shoot, boundary
):
    session = open_scripted(engine, fake_model(), horizon=boundary * CHUNK)
    before = shoot(engine, session)
    saved = through_json(*session.snapshot())
    session.close()

    later = Engine()
    restored = later.restore(fake_model(), *saved)
    assert not later.run_once(), "it runs only once its horizon is extended"
    assert restored.time == boundary * CHUNK
    restored.extend(HORIZON)

    assert before + shoot(later, restored) == film(HORIZON, SCRIPT)
    whole = Engine()
    uninterrupted = open_scripted(whole, fake_model(), horizon=HORIZON)
    shoot(whole, uninterrupted)
    assert restored.progress.log == uninterrupted.progress.log


def test_events_that_wait_are_restored_in_their_order(engine, fake_model, shoot):
    """One that came at once waits since then, and not since the beginning."""
    gathered = {"prompt": 64}
    session = engine.open(fake_model(gathered=gathered), "sea", 1, horizon=HORIZON)
    session.submit(Event("prompt", "scheduled", 0.1))
    for _ in range(STEPS - 1):
        engine.run_once()
    assert session.time > 0.0
    session.pause()
    session.submit(Event("prompt", "first", 0.0), Event("prompt", "second", 0.0))
    session.submit(Event("prompt", "late", 0.3))
    engine.run_once()
    saved = through_json(*session.snapshot())
    restored = engine.restore(fake_model(gathered=gathered), *saved)
    for each in (session, restored):
        each.resume()
        each.extend(HORIZON)
    shoot(engine, session)
    shoot(engine, restored)
    told = [[entry.event.value for entry in each.progress.log] for each in (session, restored)]
    assert told[0] == told[1]


@pytest.mark.parametrize("live", [False, True])
def test_a_restored_session_takes_its_input_as_it_is_told(engine, fake_model, live):
    session = engine.open(fake_model(frames=1), "sea", 1)
    restored = engine.restore(fake_model(frames=1), *session.snapshot(), live_input=live)
    assert restored.inputs.live is live


def test_a_snapshot_leaves_the_session_it_was_taken_from_unharmed(engine, fake_model, film, shoot):
    session = open_scripted(engine, fake_model(), horizon=0.0)
    made = []
    for chunk in range(int(HORIZON / CHUNK)):
        session.snapshot()
        session.extend((chunk + 1) * CHUNK)
        made += shoot(engine, session)
    assert made == film(HORIZON, SCRIPT)


def test_a_snapshot_does_not_change_as_the_session_goes_on(engine, fake_model, shoot):
    session = open_scripted(engine, fake_model(), horizon=1.0)
    shoot(engine, session)
    saved = session.snapshot()
    before = json.dumps([saved[1], saved[2].to_json()])
    session.extend(HORIZON)
    shoot(engine, session)
    assert json.dumps([saved[1], saved[2].to_json()]) == before


def test_branches_of_one_snapshot_run_side_by_side_without_touching_each_other(
    engine, fake_model, film, shoot
):
    session = engine.open(fake_model(), "sea", 1, horizon=1.0)
    shoot(engine, session)
    saved = session.snapshot()
    branches = [engine.restore(fake_model(), *saved) for _ in range(2)]
    branches[1].submit(Event("prompt", "lake"))
    for branch in branches:
        branch.extend(3.0)

    made = shoot(engine, *branches)

    rest = 2 * session.model.spec.burst
    assert made == [film(3.0)[rest:], film(3.0, [Event("prompt", "lake", 1.0)])[rest:]]
    assert [len(branch.progress.log) for branch in branches] == [0, 1]
    assert saved[2] == Progress(chunk=2, units=8)


def test_a_snapshot_during_a_chunk_waits_for_its_boundary(
    engine, fake_model, make_gate, background
):
    model = fake_model()
    session = engine.open(model, "sea", 1)
    engine.run_once()
    saving = background(session.snapshot)
    engine.run_once()
    model.on_step = gate = make_gate()
    running = background(engine.run_once)
    gate.wait_until_reached()
    assert not saving.done()
    gate.open()
    assert running.result()
    assert saving.result()[2].chunk == 1


def test_a_snapshot_of_a_running_session_is_taken_at_the_next_boundary(
    fake_model, make_gate, background, wait_until
):
    gate = make_gate()
    model = fake_model(emits=((4,),), on_step=gate)
    with Engine() as engine:
        session = engine.open(model, "sea", 1, outbox=10_000)
        gate.wait_until_reached()
        saving = background(session.snapshot)
        wait_until(lambda: session.saving > 0)
        gate.open()
        assert saving.result()[2].chunk == 1
        wait_until(lambda: session.progress.chunk > 1)


def test_a_snapshot_is_not_held_up_by_a_pause(engine, fake_model):
    session = engine.open(fake_model(), "sea", 1)
    session.pause()
    assert session.snapshot()[2] == Progress()
    assert session.status is Status.PAUSED


def test_other_sessions_may_be_talked_to_while_one_is_saved(fake_model, make_gate, background):
    gate = make_gate()
    model = fake_model()
    save = model.save
    model.save = lambda state: (gate(state), save(state))[1]
    with Engine() as engine:
        session = engine.open(model, "sea", 1, horizon=0.0)
        other = engine.open(fake_model(), "sea", 2, horizon=0.0)
        saving = background(session.snapshot)
        gate.wait_until_reached()
        background(other.submit, Event("prompt", "lake")).result()
        background(session.submit, Event("prompt", "night")).result()
        closing = background(session.close)
        assert not closing.done()
        gate.open()
        assert saving.result()[2] == Progress()
        closing.result()
    assert session.state is None


def test_an_input_that_ends_within_a_chunk_tells_whoever_waits_for_a_snapshot(
    engine, fake_model, background
):
    model = fake_model()
    model.demand = lambda state: 1
    session = engine.open(model, "sea", 1)
    session.feed(InputFrame(0.0, 0))
    assert engine.run_once()
    saving = background(session.snapshot)
    session.end_input()
    with pytest.raises(StreamError) as caught:
        saving.result()
    assert caught.value.code == "input_ended"


def test_closing_tells_whoever_waits_for_a_snapshot(engine, fake_model, background):
    session = engine.open(fake_model(), "sea", 1)
    engine.run_once()
    saving = background(session.snapshot)
    session.close()
    with pytest.raises(Exception, match="closed"):
        saving.result()


def test_a_log_submitted_again_makes_the_same_film(engine, fake_model, film, shoot):
    session = engine.open(fake_model(), "sea", 1, horizon=HORIZON)
    made = []
    for steps, event in zip((0, 2, 4, 4, 11), SCRIPT, strict=True):
        for _ in range(steps):
            engine.run_once()
        session.submit(Event(event.field, event.value))
    made = shoot(engine, session)
    assert len(session.progress.log) > 2
    assert made == film(HORIZON, as_script(session.progress.log))


def test_a_log_can_be_replayed_where_chunks_make_no_media(fake_model):
    emits = ((), ())

    def watch(events_at_chunk):
        engine, model = Engine(), fake_model(emits=emits)
        session = engine.open(model, "sea", 1)
        for chunk in range(3):
            for event in events_at_chunk.get(chunk, ()):
                session.submit(event)
            for _ in emits:
                engine.run_once()
        applied = [(each.event.field, each.event.value) for each in session.progress.log]
        return session.progress.log, applied, [chunk for chunk, _ in model.applied]

    log, applied, chunks = watch({1: [Event("mood", "calm")], 2: [Event("grain", 3)]})
    assert chunks == [1, 2]
    assert watch({0: as_script(log)})[1:] == (applied, chunks)


FIELDS = st.sampled_from(["prompt", "mood", "grain"])
ACTIONS = st.one_of(
    st.tuples(st.just("run"), st.integers(1, 5)),
    st.tuples(st.just("submit"), FIELDS, st.integers(0, 9), st.floats(0.0, HORIZON)),
    st.tuples(st.just("submit"), FIELDS, st.integers(0, 9), st.just(0.0)),
    st.tuples(st.just("pause")),
    st.tuples(st.just("resume")),
    st.tuples(st.just("fetch")),
    st.tuples(st.just("restore")),
)


@given(actions=st.lists(ACTIONS, max_size=30))
def test_whatever_is_done_to_a_session_its_log_remakes_its_film(
    fake_model, film, fetch, shoot, actions
):
    engine = Engine()
    session = engine.open(fake_model(), "sea", 1, horizon=HORIZON)
    made = []
    for name, *arguments in actions:
        if name == "run":
            for _ in range(arguments[0]):
                engine.run_once()
        elif name == "submit":
            session.submit(Event(*arguments))
        elif name == "fetch":
            made += fetch(session)
        elif name == "restore":
            session.pause()
            made += shoot(engine, session)
            saved = through_json(*session.snapshot())
            session.close()
            session = engine.restore(fake_model(), *saved)
            session.extend(HORIZON)
        else:
            getattr(session, name)()
    session.resume()
    made += shoot(engine, session)

    assert sum(media.units for media in made) == HORIZON * session.model.rate
    assert made == film(HORIZON, as_script(session.progress.log))
