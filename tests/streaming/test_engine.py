"""Many sessions on one engine: isolation, order, memory, threads."""

from __future__ import annotations

import gc
import logging
import sys
import threading
import time
import weakref

import pytest

from longtake.streaming import Engine, Event, InputFrame, Status, StreamError, WallClock
from longtake.streaming.scheduler import SHARE

CHUNK = 0.5
STEPS = 3


# --- isolation ---


def test_two_interleaved_sessions_each_equal_themselves_alone(engine, fake_model, film, shoot):
    model = fake_model()
    events = {1: [Event("prompt", "lake", 0.7)], 2: [Event("prompt", "night", 1.0)]}
    sessions = [engine.open(model, "sea", seed, horizon=4.0) for seed in events]
    for session, own in zip(sessions, events.values(), strict=True):
        session.submit(own[0])

    together = shoot(engine, *sessions)

    assert together == [film(4.0, own, seed=seed) for seed, own in events.items()]


def test_sessions_of_different_models_share_an_engine(engine, fake_model, shoot):
    shapes = [((4,),), ((), (1,), (2, 1)), ((), (), (), (1, 1))]

    def alone(emits):
        lone = Engine()
        return shoot(lone, lone.open(fake_model(emits), "sea", 1, horizon=5.0))

    sessions = [engine.open(fake_model(emits), "sea", 1, horizon=5.0) for emits in shapes]
    assert shoot(engine, *sessions) == [alone(emits) for emits in shapes]


def test_equal_sessions_take_turns_step_by_step(engine_on_fake_time, fake_time, fake_model):
    turns = []

    def note(state):
        fake_time.advance(0.01)
        turns.append(state.seed)

    model = fake_model(on_step=note)
    for seed in (1, 2, 3):
        engine_on_fake_time.open(model, "sea", seed)
    for _ in range(9):
        engine_on_fake_time.run_once()
    assert turns == [1, 2, 3] * 3


# --- earliest deadline first ---


def test_a_live_session_goes_before_an_export_whenever_it_is_due(
    engine_on_fake_time, fake_time, fake_model
):
    engine = engine_on_fake_time
    turns = []

    def note(state):
        fake_time.advance(0.02)
        turns.append("live" if state.seed == 1 else "export")

    model = fake_model(on_step=note)
    engine.open(model, "sea", 2, outbox=1_000)
    engine.open(model, "sea", 1, outbox=1_000, clock=WallClock(fake_time))
    for _ in range(200):
        engine.run_once()

    # Presentation starts with the first chunk at 0.06 s; the next starts 1.3 costs before 0.56 s,
    # and it is the step that spans this moment that delays it.
    assert turns[:STEPS] == ["live"] * STEPS
    second = turns.index("live", STEPS)
    assert 0.56 - 1.3 * 0.06 <= round(second * 0.02, 9) < 0.56 - 1.3 * 0.06 + 0.02
    assert turns[second : second + STEPS] == ["live"] * STEPS
    assert turns.count("live") == pytest.approx(200 * 0.02 / CHUNK * STEPS, abs=2 * STEPS)


def test_of_two_live_sessions_the_one_due_first_goes_first(
    engine_on_fake_time, fake_time, fake_model
):
    engine = engine_on_fake_time
    turns = []

    def note(state):
        fake_time.advance(0.01)
        turns.append(state.seed)

    model = fake_model(on_step=note)
    first = engine.open(model, "sea", 1, clock=WallClock(fake_time))
    for _ in range(STEPS):
        engine.run_once()
    second = engine.open(model, "sea", 2, clock=WallClock(fake_time))
    for _ in range(STEPS):
        engine.run_once()
    fake_time.advance(10.0)
    assert first.clock.deadline(first.time) < second.clock.deadline(second.time)
    turns.clear()
    engine.run_once()
    assert turns == [1]


def test_nothing_runs_before_a_live_chunk_is_due_and_it_runs_once_it_is(
    engine_on_fake_time, fake_time, fake_model
):
    engine = engine_on_fake_time
    model = fake_model(on_step=lambda state: fake_time.advance(0.02))
    engine.open(model, "sea", 1, clock=WallClock(fake_time))
    for _ in range(STEPS):
        assert engine.run_once()
    assert not engine.run_once()
    fake_time.advance(CHUNK - 1.3 * 0.06 - 0.001)
    assert not engine.run_once()
    fake_time.advance(0.002)
    assert engine.run_once()


def test_two_live_sessions_that_are_too_much_together_slow_down_evenly(
    engine_on_fake_time, fake_time, fake_model
):
    engine = engine_on_fake_time
    model = fake_model(on_step=lambda state: fake_time.advance(0.1))
    # 0.3 s a chunk each, 0.6 s together, for half a second of film.
    sessions = [engine.open(model, "sea", seed, clock=WallClock(fake_time)) for seed in (1, 2)]
    for _ in range(100 * STEPS):
        engine.run_once()
        for session in sessions:
            session.next(timeout=0)
    assert [session.clock.speed for session in sessions] == pytest.approx([CHUNK / 0.6] * 2, 0.1)


# --- a share for those without a deadline ---


def watch_beside_films(engine, fake_time, fake_model, *, step, films, token, seconds=60.0):
    """Live films beside a watch that is shown a frame a second: both, and what each was given."""
    had = {"film": 0.0, "watch": 0.0}

    def pass_time(kind, cost):
        def note(state):
            fake_time.advance(cost)
            had[kind] += cost

        return note

    film_model = fake_model(on_step=pass_time("film", step))
    shown = [engine.open(film_model, "sea", n, clock=WallClock(fake_time)) for n in range(films)]
    # A round is twenty steps, the last of which gives all of its second.
    watcher = fake_model(((),) * 19 + ((1,),), 1.0, 1, on_step=pass_time("watch", token))
    watch = engine.open(watcher, "look", 9, live_input=True, input_capacity=2)
    began, fed = fake_time.now, 0
    while fake_time.now < began + seconds:
        while fed <= fake_time.now - began:
            watch.feed(InputFrame(float(fed), b""))
            fed += 1
        if not engine.run_once():
            fake_time.advance(0.001)
        for session in (*shown, watch):
            session.next(timeout=0)
    return shown, watch, fed, had


def test_a_watch_does_not_starve_beside_a_film_that_is_too_much_for_the_machine(
    engine_on_fake_time, fake_time, fake_model
):
    # 0.6 s a chunk for half a second of film; a round of 0.8 s each second.
    (film,), watch, fed, had = watch_beside_films(
        engine_on_fake_time, fake_time, fake_model, step=0.2, films=1, token=0.04
    )

    assert had["watch"] / 60 == pytest.approx(SHARE, abs=0.02)
    # The film slows evenly, by what the watch takes of it and no more.
    assert film.clock.speed == pytest.approx(CHUNK / 0.6 * (1 - SHARE), rel=0.1)
    assert film.time / 60 == pytest.approx(CHUNK / 0.6 * (1 - SHARE), rel=0.1)
    # What was not watched is the oldest, and all of it is counted.
    watched = round(watch.time)
    assert watched == pytest.approx(60 * SHARE / 0.8, abs=1)
    being_watched = not watch.at_boundary
    assert watch.inputs.dropped == fed - watched - being_watched - len(watch.inputs)
    assert watch.inputs.take().time >= fed - 2


def test_a_watch_that_the_film_leaves_time_for_takes_nothing_from_it(
    engine_on_fake_time, fake_time, fake_model
):
    # 0.3 s for half a second of film, which leaves 0.4 s a second for a round of 0.3 s.
    (film,), watch, fed, _ = watch_beside_films(
        engine_on_fake_time, fake_time, fake_model, step=0.1, films=1, token=0.015
    )

    assert film.clock.speed == 1
    assert watch.inputs.dropped == 0
    assert watch.time >= fed - 2


def test_two_films_and_a_watch_keep_their_shares(engine_on_fake_time, fake_time, fake_model):
    films, _, _, had = watch_beside_films(
        engine_on_fake_time, fake_time, fake_model, step=0.1, films=2, token=0.05
    )

    assert had["watch"] / 60 == pytest.approx(SHARE, abs=0.02)
    times = [film.time for film in films]
    assert max(times) == pytest.approx(min(times), abs=2 * CHUNK)


def test_having_had_much_is_not_held_against_an_export_for_long(
    engine_on_fake_time, fake_time, fake_model
):
    engine, turns = engine_on_fake_time, []

    def note(state):
        fake_time.advance(0.1)
        turns.append(state.seed)

    engine.open(fake_model(on_step=note), "sea", 2, outbox=10_000)
    for _ in range(3_000):
        engine.run_once()
    film = engine.open(fake_model(on_step=note), "sea", 1, clock=WallClock(fake_time))
    turns.clear()
    for _ in range(200):
        engine.run_once()
        film.next(timeout=0)
    # Half a second is: a fifth of the time of 25 steps.
    assert turns.index(2) <= 26
    assert turns.count(2) >= SHARE * (200 - 26) - 1


# --- memory ---


def test_memory_is_flat_over_ten_thousand_chunks(engine, fake_model, fetch):
    session = engine.open(fake_model(emits=((), (2, 2))), "sea", 1)

    def run(chunks):
        for _ in range(2 * chunks):
            assert engine.run_once()
            fetch(session)
        gc.collect()
        return sys.getallocatedblocks()

    run(1_000)
    before = run(500)
    after = run(8_500)
    assert session.progress.chunk == 10_000
    assert after - before < 100


def test_a_prompt_in_every_chunk_leaves_nothing_behind_but_its_log_entry(engine, fake_model, fetch):
    model = fake_model(emits=((4,),))
    session = engine.open(model, "sea", 1)
    for chunk in range(1_000):
        for attempt in range(3):
            session.submit(Event("prompt", f"{chunk} {attempt}"))
        engine.run_once()
        fetch(session)
    assert len(session.controls) == 0
    assert [entry.event.value for entry in session.progress.log] == [
        f"{chunk} 2" for chunk in range(1_000)
    ]


def test_closed_and_failed_sessions_leave_nothing_behind(engine, fake_model, caplog):
    caplog.set_level(logging.CRITICAL)  # pytest would keep every failure's record
    models = [fake_model(), fake_model(fail_at=1)]

    def churn(count):
        for seed in range(count):
            sessions = [engine.open(model, "sea", seed) for model in models]
            for _ in range(5):
                engine.run_once()
            for session in sessions:
                session.close()
        engine.run_once()
        gc.collect()
        return sys.getallocatedblocks()

    churn(100)
    before = churn(50)
    # Of a thousand sessions: one that left a single block would add a thousand.
    assert churn(500) - before < 500


# --- threads ---


def test_a_worker_thread_serves_two_consumer_threads(fake_model, film, background):
    model = fake_model()
    with Engine() as engine:
        sessions = [
            engine.open(model, "sea", s, horizon=40.0, outbox=o) for s, o in ((1, 3), (2, 7))
        ]
        consumers = [background(list, session) for session in sessions]
        made = [consumer.result() for consumer in consumers]
    assert made == [film(40.0, seed=1), film(40.0, seed=2)]


def test_a_worker_thread_under_prompts_from_two_threads_makes_a_film_its_log_can_remake(
    fake_model, film, background
):
    with Engine() as engine:
        session = engine.open(fake_model(), "sea", 1, horizon=40.0, outbox=3)

        def type_prompts(name):
            for index in range(50):
                session.submit(Event(name, f"{name} {index}"))

        typists = [background(type_prompts, name) for name in ("prompt", "mood")]
        made = background(list, session).result()
        for typist in typists:
            typist.result()
        log = list(session.progress.log)
    assert made == film(40.0, [Event(e.event.field, e.event.value, e.time) for e in log])


def test_two_threads_that_fetch_from_one_session_get_every_item_once(fake_model, film, background):
    with Engine() as engine:
        session = engine.open(fake_model(), "sea", 1, horizon=40.0)
        consumers = [background(list, session) for _ in range(2)]
        parts = [consumer.result() for consumer in consumers]
    assert sorted(parts[0] + parts[1], key=lambda media: media.start) == film(40.0)
    for part in parts:
        assert part == sorted(part, key=lambda media: media.start)


def test_a_worker_goes_on_with_the_others_when_a_session_fails(fake_model, film, background):
    with Engine() as engine:
        failing = engine.open(fake_model(fail_at=4), "sea", 1)
        sound = engine.open(fake_model(), "sea", 1, horizon=4.0)
        consumers = [background(list, session) for session in (failing, sound)]
        with pytest.raises(StreamError, match="out of paint"):
            consumers[0].result()
        assert consumers[1].result() == film(4.0)


def test_a_consumer_is_told_when_its_model_fails_between_two_steps(fake_model, background):
    model = fake_model(emits=((4,), ()))
    model.demand = lambda state: 0 // (1 - state.chunk)  # none, then an error
    with Engine() as engine:
        consumer = background(list, engine.open(model, "sea", 1))
        with pytest.raises(StreamError, match="ZeroDivisionError"):
            consumer.result()


def test_cancelling_from_another_thread_during_a_step_frees_the_state(
    fake_model, make_gate, background, wait_until
):
    gate = make_gate()
    model = fake_model(on_step=gate)
    with Engine() as engine:
        session = engine.open(model, "sea", 1)
        consumer = background(list, session)
        gate.wait_until_reached()
        closing = background(session.close)
        wait_until(lambda: session.status is Status.CLOSED)
        gate.open()
        closing.result()
        assert consumer.result() == []
        wait_until(lambda: not model.states)


def test_leaving_an_engine_ends_its_sessions_and_wakes_their_consumers(
    fake_model, make_gate, background
):
    gate = make_gate()
    with Engine() as engine:
        paused = engine.open(fake_model(), "sea", 2)
        paused.pause()
        stuck = engine.open(fake_model(on_step=gate), "sea", 1)
        consumer = background(list, stuck)
        gate.wait_until_reached()
        gate.open()
    consumer.result()
    assert [stuck.status, paused.status] == [Status.CLOSED] * 2
    assert stuck.state is None


def test_an_engine_that_was_left_opens_no_more_sessions(fake_model):
    with Engine() as engine:
        pass
    with pytest.raises(StreamError) as caught:
        engine.open(fake_model(), "sea", 1)
    assert caught.value.code == "closed"


@pytest.mark.parametrize("wake", ["extend", "resume"])
def test_an_idle_worker_starts_when_a_horizon_is_extended_or_a_pause_ends(
    fake_model, film, background, wake
):
    chunks = 20

    def watch(session):
        made = []
        for chunk in range(chunks):
            time.sleep(0.002)  # so that the worker is found asleep, most times
            if wake == "extend":
                session.extend((chunk + 1) * CHUNK)
            else:
                session.pause()
                session.extend((chunk + 1) * CHUNK)
                session.resume()
            made += session
        return made

    with Engine() as engine:
        session = engine.open(fake_model(), "sea", 1, horizon=0.0)
        assert background(watch, session).result() == film(chunks * CHUNK)


def test_an_idle_worker_starts_when_frames_arrive(fake_model, background):
    frames = 200

    def feed_one_by_one(session):
        made = []
        for index in range(frames):
            session.feed(InputFrame(index / 8, index))
            made += [session.next() for _ in range(session.model.spec.burst)]
        return made

    with Engine() as engine:
        session = engine.open(fake_model(frames=1), "sea", 1)
        made = background(feed_one_by_one, session).result()
    assert sum(media.units for media in made) == frames * session.model.spec.chunk_units


def test_a_live_session_runs_in_a_worker_thread(fake_model, film, background):
    with Engine() as engine:
        # A tenth of a second of film in all, so that real time does not matter.
        session = engine.open(fake_model(rate=160.0), "sea", 1, clock=WallClock(), horizon=0.1)
        made = background(list, session).result()
    assert made == film(2.0)


# --- calls ---


@pytest.fixture
def calling(background, wait_until):
    """Starts a call in another thread and returns once it waits for the worker."""

    def start(engine, function):
        before = len(engine._requests)
        outcome = background(engine.call, function)
        wait_until(lambda: len(engine._requests) > before)
        return outcome

    return start


def test_all_that_a_model_computes_is_computed_in_the_worker(fake_model):
    model, threads = fake_model(), {}

    def noting(name):
        original = getattr(model, name)

        def noted(*arguments):
            threads.setdefault(name, set()).add(threading.current_thread())
            return original(*arguments)

        return noted

    names = ("open", "apply", "step", "save", "load")
    for name in names:
        setattr(model, name, noting(name))
    with Engine() as engine:
        session = engine.open(model, "sea", 1, horizon=0.0)
        session.submit(Event("prompt", "lake"))
        session.extend(1.0)
        assert list(session)
        engine.restore(model, *session.snapshot())
        worker = engine.call(threading.current_thread)
    assert worker is not threading.current_thread()
    assert threads == {name: {worker} for name in names}


def test_without_a_worker_a_call_runs_at_once(engine):
    assert engine.call(threading.current_thread) is threading.current_thread()


def test_a_call_from_within_a_call_runs_at_once():
    with Engine() as engine:
        assert engine.call(lambda: engine.call(lambda: "within")) == "within"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_what_ends_the_worker_is_told_to_every_session(fake_model, make_gate, background):
    gate = make_gate()
    with Engine() as engine:
        other = engine.open(fake_model(), "sea", 1, horizon=0.0)
        engine.open(fake_model(on_step=gate, error=KeyboardInterrupt, fail_at=0), "sea", 1)
        gate.wait_until_reached()
        other.extend(60.0)
        waiting = background(list, other)
        gate.open()
        with pytest.raises(StreamError) as caught:
            waiting.result()
    assert caught.value.code == "closed"


@pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit, KeyboardInterrupt])
def test_what_a_call_raises_goes_to_its_caller_and_the_worker_goes_on(fake_model, film, error):
    def fail():
        raise error

    with Engine() as engine:
        with pytest.raises(error):
            engine.call(fail)
        assert list(engine.open(fake_model(), "sea", 1, horizon=4.0)) == film(4.0)


def test_calls_wait_for_the_step_in_flight_and_for_no_more(fake_model, make_gate, calling):
    gate, order = make_gate(), []

    def note(state):
        order.append(state.step)
        gate(state)

    with Engine() as engine:
        session = engine.open(fake_model(on_step=note), "sea", 1, horizon=CHUNK)
        gate.wait_until_reached()
        calls = [calling(engine, lambda n=n: order.append(f"call {n}")) for n in range(2)]
        gate.open()
        for call in calls:
            call.result()
        assert len(list(session)) == session.model.spec.burst
    assert order == [0, "call 0", "call 1", 1, 2]


def test_leaving_an_engine_tells_whoever_waits_for_a_call(
    fake_model, make_gate, background, calling, wait_until
):
    gate = make_gate()
    engine = Engine()
    engine.start()
    engine.open(fake_model(on_step=gate), "sea", 1)
    gate.wait_until_reached()
    call = calling(engine, lambda: "too late")
    stopping = background(engine.stop)
    wait_until(lambda: engine._stopping)
    gate.open()
    stopping.result()
    for ended in (call.result, lambda: engine.call(lambda: "later still")):
        with pytest.raises(StreamError) as caught:
            ended()
        assert caught.value.code == "closed"


def test_the_worker_keeps_nothing_of_what_a_call_returned():
    with Engine() as engine:
        thing = weakref.ref(engine.call(type("Thing", (), {})))
        gc.collect()
        assert thing() is None


def test_four_sessions_get_as_many_chunks_as_each_other(engine, fake_model):
    model = fake_model()
    sessions = [engine.open(model, "sea", seed) for seed in range(4)]
    for _ in range(400):
        assert engine.run_once()
        for session in sessions:
            session.next(timeout=0)
    chunks = [session.progress.chunk for session in sessions]
    assert min(chunks) > 20
    assert max(chunks) <= 1.2 * min(chunks)


def test_media_say_their_chunk_and_a_follower_gets_all_of_them(engine, fake_model, background):
    session = engine.open(fake_model(), "sea", 1, horizon=1.0)
    followed = background(lambda: list(session.follow()))
    while engine.run_once():
        pass
    session.pause()
    session.extend(2.0)
    session.resume()
    while engine.run_once():
        pass
    session.close()
    assert [(media.chunk, media.start) for media in followed.result()] == [
        (chunk, 4 * chunk + start) for chunk in range(4) for start in (0, 1, 3)
    ]
