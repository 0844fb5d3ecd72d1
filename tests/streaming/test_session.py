"""The life of a session: horizon, back-pressure, pause, cancellation, failure, input."""

from __future__ import annotations

import gc
import weakref

import pytest

from longtake.streaming import Engine, Event, InputFrame, Status, StreamError
from longtake.streaming.session import INPUT_CAPACITY

CHUNK = 0.5
STEPS = 3


def model_failure():
    return StreamError("no_memory", "the device is full", "close something")


# --- horizon and room ---


@pytest.mark.parametrize(
    ("horizon", "chunks"), [(0.0, 0), (0.01, 1), (0.5, 1), (0.51, 2), (2.0, 4), (2.2, 5)]
)
def test_a_session_stops_at_the_first_boundary_at_or_after_its_horizon(
    engine, fake_model, shoot, horizon, chunks
):
    session = engine.open(fake_model(), "sea", 1, horizon=horizon)

    made = shoot(engine, session)

    assert session.time == chunks * CHUNK
    assert session.progress.chunk == chunks
    assert sum(media.units for media in made) == chunks * session.model.spec.chunk_units
    assert [media.start for media in made] == [
        sum(media.units for media in made[:index]) for index in range(len(made))
    ]
    assert session.status is Status.RUNNING
    assert session.next() is None


def test_extending_in_parts_makes_the_same_film_as_one_horizon(engine, fake_model, film, shoot):
    session = engine.open(fake_model(), "sea", 1, horizon=0.0)
    made = []
    for horizon in (0.3, 0.3, 1.0, 0.7, 2.4, 4.0):
        session.extend(horizon)
        made += shoot(engine, session)
    assert made == film(4.0)


def test_a_horizon_is_never_taken_back(engine, fake_model, shoot):
    session = engine.open(fake_model(), "sea", 1, horizon=2.0)
    session.extend(1.0)
    shoot(engine, session)
    assert session.time == 2.0


@pytest.mark.parametrize("outbox", [1, 3, 4, 7, 16])
def test_a_slow_consumer_stalls_only_itself_and_loses_nothing(
    engine, fake_model, film, shoot, outbox
):
    slow = engine.open(fake_model(), "sea", 1, horizon=10.0, outbox=outbox)
    quick = engine.open(fake_model(), "sea", 1, horizon=10.0)
    room = max(outbox, slow.model.spec.burst)

    assert shoot(engine, quick) == film(10.0)
    assert room - slow.model.spec.burst < len(slow.outbox) <= room
    assert slow.progress.units < quick.progress.units

    made = []
    while (media := slow.next(timeout=0)) is not None:
        made.append(media)
        while engine.run_once():
            assert len(slow.outbox) <= room
    assert made == film(10.0)


def test_a_chunk_that_gives_more_than_the_spec_says_still_loses_nothing(
    engine, fake_model, film, shoot
):
    model = fake_model()
    model.spec = type(model.spec)(model.spec.rate, model.spec.chunk_units, burst=1)
    session = engine.open(model, "sea", 1, horizon=4.0, outbox=1)
    assert shoot(engine, session) == film(4.0)


# --- pause ---


@pytest.mark.parametrize("steps_before", range(2 * STEPS + 1))
def test_a_pause_stops_at_the_next_boundary_and_resume_goes_on_with_the_same_film(
    engine, fake_model, film, shoot, steps_before
):
    session = engine.open(fake_model(), "sea", 1, horizon=4.0)
    for _ in range(steps_before):
        engine.run_once()
    session.pause()
    session.pause()

    made = shoot(engine, session)
    assert session.status is Status.PAUSED
    assert session.progress.chunk == -(-steps_before // STEPS)
    assert session.next() is None

    session.resume()
    session.resume()
    assert made + shoot(engine, session) == film(4.0)


def test_events_submitted_during_a_pause_apply_when_it_ends(engine, fake_model, film, shoot):
    session = engine.open(fake_model(), "sea", 1, horizon=2.0)
    session.pause()
    session.submit(Event("prompt", "lake"))
    assert shoot(engine, session) == []
    session.resume()
    assert shoot(engine, session) == film(2.0, prompt="lake")


# --- cancellation ---


@pytest.mark.parametrize("steps_before", range(3 * STEPS + 1))
def test_closing_after_any_step_ends_the_session_frees_it_and_keeps_what_was_made(
    engine, fake_model, film, fetch, steps_before
):
    model = fake_model()
    session = engine.open(model, "sea", 1, horizon=4.0)
    other = engine.open(fake_model(), "sea", 1, horizon=1.0)
    other.pause()
    for _ in range(steps_before):
        engine.run_once()

    session.close()
    session.close()

    assert session.status is Status.CLOSED
    assert not model.states, "the state is still referenced"
    assert not engine.run_once()
    made = fetch(session)
    assert made == film(4.0)[: len(made)]
    chunks, steps = divmod(steps_before, STEPS)
    assert len(made) == chunks * model.spec.burst + sum(map(len, model.emits[:steps]))
    other.resume()
    assert engine.run_once()


@pytest.mark.parametrize("step", range(STEPS))
def test_closing_during_a_step_waits_for_it_and_delivers_what_it_made(
    engine, fake_model, film, fetch, make_gate, background, wait_until, step
):
    model = fake_model()
    session = engine.open(model, "sea", 1)
    for _ in range(step):
        engine.run_once()
    model.on_step = gate = make_gate()
    running = background(engine.run_once)
    gate.wait_until_reached()

    closing = background(session.close)
    wait_until(lambda: session.status is Status.CLOSED)
    assert session.state is not None, "freed under the hands of a running step"
    assert not closing.done()
    gate.open()
    closing.result()
    assert running.result()

    assert not model.states
    made = fetch(session)
    assert made == film(CHUNK)[: len(made)]
    assert len(made) == sum(map(len, model.emits[: step + 1]))
    assert not engine.run_once()


def test_a_closed_session_refuses_events_frames_and_snapshots(engine, fake_model):
    session = engine.open(fake_model(), "sea", 1)
    session.close()
    uses = [
        lambda: session.submit(Event("prompt", "lake")),
        lambda: session.feed(InputFrame(0.0, b"")),
        session.snapshot,
    ]
    for use in uses:
        with pytest.raises(StreamError) as caught:
            use()
        assert caught.value.code == "closed"


def test_a_closed_session_cannot_be_resumed_or_extended_back_to_life(engine, fake_model):
    session = engine.open(fake_model(), "sea", 1, horizon=1.0)
    session.pause()
    session.close()
    session.resume()
    session.extend(5.0)
    assert session.status is Status.CLOSED
    assert not engine.run_once()


@pytest.mark.parametrize("end", ["close", "pause"])
def test_ending_a_session_wakes_a_consumer_that_waits_for_media(
    engine, fake_model, background, end
):
    session = engine.open(fake_model(), "sea", 1)
    waiting = background(session.next)
    getattr(session, end)()
    assert waiting.result() is None


def test_a_consumer_that_waits_gets_the_media_as_soon_as_there_is_any(
    engine, fake_model, film, background
):
    session = engine.open(fake_model(), "sea", 1)
    waiting = background(session.next)
    engine.run_once()
    engine.run_once()
    assert waiting.result() == film(CHUNK)[0]


# --- failure ---


@pytest.mark.parametrize("error", [model_failure, lambda: ZeroDivisionError("by zero")])
@pytest.mark.parametrize("fail_at", range(3 * STEPS + 1))
def test_an_exception_in_any_step_fails_its_session_only(engine, fake_model, film, fail_at, error):
    model = fake_model(fail_at=fail_at, error=error)
    session = engine.open(model, "sea", 1, horizon=4.0, outbox=100)
    other = engine.open(fake_model(), "sea", 1, horizon=4.0, outbox=100)
    while engine.run_once():
        pass

    made = []
    with pytest.raises(StreamError) as caught:
        made.extend(session)
    whole, steps = divmod(fail_at, STEPS)
    items = whole * model.spec.burst + sum(map(len, model.emits[:steps]))
    assert made == film(4.0)[:items]

    expected = {"no_memory": "the device is full", "model_failed": "ZeroDivisionError: by zero"}
    assert expected[caught.value.code] in str(caught.value)
    assert session.status is Status.FAILED
    with pytest.raises(StreamError):
        session.submit(Event("prompt", "lake"))
    assert list(other) == film(4.0)


@pytest.mark.parametrize("error", [model_failure, lambda: RuntimeError("out of paint")])
def test_a_failed_state_is_freed_at_once_though_the_error_is_kept(engine, fake_model, error):
    model = fake_model(fail_at=2, error=error)
    session = engine.open(model, "sea", 1)
    gc.disable()
    try:
        while engine.run_once():
            pass
        assert session.error is not None
        assert not model.states, "the error's traceback holds the state"
    finally:
        gc.enable()


def test_a_closed_session_stays_failed_and_keeps_its_error(engine, fake_model):
    session = engine.open(fake_model(fail_at=0), "sea", 1)
    engine.run_once()
    session.close()
    assert session.status is Status.FAILED
    with pytest.raises(StreamError, match="out of paint"):
        session.next()


def test_an_exception_while_an_event_is_applied_fails_the_session(engine, fake_model):
    model = fake_model()
    model.apply = lambda state, event: 1 / 0
    session = engine.open(model, "sea", 1)
    session.submit(Event("prompt", "lake"))
    assert engine.run_once()
    with pytest.raises(StreamError, match="ZeroDivisionError"):
        session.next()


@pytest.mark.parametrize("method", ["demand", "step"])
def test_a_model_that_breaks_its_contract_fails_its_session_only(
    engine, fake_model, film, shoot, method
):
    model = fake_model()
    setattr(model, method, lambda state: None)
    broken = engine.open(model, "sea", 1, horizon=2.0)
    sound = engine.open(fake_model(), "sea", 1, horizon=2.0)
    assert shoot(engine, sound) == film(2.0)
    with pytest.raises(StreamError):
        broken.next(timeout=0)


def test_an_interrupt_in_a_step_reaches_the_caller_and_leaves_nothing_locked(
    engine, fake_model, background
):
    model = fake_model(fail_at=1, error=KeyboardInterrupt)
    session = engine.open(model, "sea", 1)
    engine.run_once()
    with pytest.raises(KeyboardInterrupt):
        engine.run_once()
    background(session.close).result()
    assert session.state is None
    assert not engine.run_once()


# --- input ---


def frames(start, stop):
    return [InputFrame(index / 8, index) for index in range(start, stop)]


def test_a_chunk_starts_only_when_the_frames_it_demands_are_there(engine, fake_model, fetch):
    session = engine.open(fake_model(frames=4), "sea", 1)
    for frame in frames(0, 3):
        session.feed(frame)
        assert not engine.run_once()
    session.feed(InputFrame(3 / 8, 3))
    for _ in range(STEPS):
        assert engine.run_once()
    assert not engine.run_once()
    assert len(fetch(session)) == session.model.spec.burst
    assert session.progress.chunk == 1


def test_the_frames_fed_reach_the_model_in_order_and_shape_what_it_makes(engine, fake_model, shoot):
    def watch(order):
        session = engine.open(fake_model(frames=2), "sea", 1, horizon=1.0)
        for index in order:
            session.feed(InputFrame(0.0, index))
        return shoot(engine, session)

    assert watch([0, 1, 2, 3]) == watch([0, 1, 2, 3])
    assert watch([0, 1, 2, 3]) != watch([1, 0, 2, 3])


def test_a_full_live_lane_drops_its_oldest_frames_and_counts_them(engine, fake_model):
    session = engine.open(fake_model(frames=1), "sea", 1, live_input=True)
    for frame in frames(0, INPUT_CAPACITY + 5):
        session.feed(frame)
    assert session.summary().dropped == 5
    assert len(session.inputs) == INPUT_CAPACITY
    assert session.inputs.take().data == 5


def test_a_full_live_lane_drops_what_belongs_together(engine, fake_model):
    session = engine.open(
        fake_model(frames=3), "sea", 1, live_input=True, input_capacity=7, input_batch=3
    )
    for frame in frames(0, 12):
        session.feed(frame)
    assert session.summary().dropped == 6
    assert [session.inputs.take().data for _ in range(len(session.inputs))] == [*range(6, 12)]


def test_a_full_file_lane_blocks_until_a_frame_is_taken_and_drops_none(
    engine, fake_model, background
):
    session = engine.open(fake_model(frames=1), "sea", 1)
    for frame in frames(0, INPUT_CAPACITY):
        session.feed(frame)
    late = InputFrame(9.0, "late")
    feeding = background(session.feed, late)
    assert session.inputs.full
    assert not feeding.done()
    engine.run_once()
    feeding.result()
    assert session.summary().dropped == 0
    assert len(session.inputs) == INPUT_CAPACITY


@pytest.mark.parametrize("end", ["close", "fail"])
def test_a_feeder_that_waits_for_room_is_told_when_the_session_ends(
    engine, fake_model, background, end
):
    session = engine.open(fake_model(fail_at=0), "sea", 1)
    for frame in frames(0, INPUT_CAPACITY):
        session.feed(frame)
    feeding = background(session.feed, InputFrame(9.0, "late"))
    if end == "close":
        session.close()
    else:
        engine.run_once()
    with pytest.raises(StreamError):
        feeding.result()


def test_a_model_may_demand_more_frames_than_the_lane_usually_holds(engine, fake_model):
    demanded = INPUT_CAPACITY + 1
    session = engine.open(fake_model(frames=demanded), "sea", 1, live_input=True)
    for frame in frames(0, demanded):
        assert not engine.run_once()
        session.feed(frame)
    assert engine.run_once()


def test_a_session_is_forgotten_by_its_engine_once_it_is_closed(engine, fake_model):
    session = engine.open(fake_model(), "sea", 1)
    session.close()
    engine.run_once()
    reference = weakref.ref(session)
    del session
    gc.collect()
    assert reference() is None


@pytest.mark.parametrize("ended_first", [False, True])
def test_whoever_waits_for_more_is_told_when_the_input_has_ended(
    fake_model, background, ended_first
):
    with Engine() as engine:
        session = engine.open(fake_model(frames=2), "sea", 1)
        consumer = None if ended_first else background(list, session)
        for index in range(5):
            session.feed(InputFrame(index / 8, index))
        session.end_input()
        made = (consumer or background(list, session)).result()
    assert sum(media.units for media in made) == 2 * session.model.spec.chunk_units


def test_an_input_that_has_ended_takes_no_more_and_a_session_that_needs_none_goes_on(
    engine, fake_model, film, shoot
):
    session = engine.open(fake_model(), "sea", 1, horizon=2.0)
    session.end_input()
    with pytest.raises(StreamError) as caught:
        session.feed(InputFrame(0.0, 0))
    assert caught.value.code == "input_ended"
    assert shoot(engine, session) == film(2.0)
