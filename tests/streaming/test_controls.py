"""Prompts and settings: when they apply, which of them wins, and what the log says."""

from __future__ import annotations

import pytest

from longtake.streaming import Applied, Boundary, Event, StreamError

# The fake model's chunks are half a second long and take three steps.
CHUNK = 0.5
STEPS = 3


def run_chunks(engine, count):
    for _ in range(count * STEPS):
        assert engine.run_once()


def test_of_several_prompts_submitted_at_once_the_last_wins_and_the_others_leave_no_trace(
    engine, fake_model, film, shoot
):
    model = fake_model()
    session = engine.open(model, "sea", 1, horizon=2 * CHUNK)
    for prompt in ("one", "two", "three"):
        session.submit(Event("prompt", prompt))

    made = shoot(engine, session)

    assert model.applied == [(0, Event("prompt", "three"))]
    assert session.progress.log == [Applied(Event("prompt", "three"), chunk=0, time=0.0)]
    assert made == film(2 * CHUNK, prompt="three")


def test_events_of_a_queued_field_all_apply_one_a_chunk_the_earliest_first(
    engine, fake_model, shoot
):
    model = fake_model(queued=frozenset({"mood"}))
    session = engine.open(model, "sea", 1, horizon=5 * CHUNK)
    for mood, at in (("late", 0.1), ("one", 0.0), ("two", 0.0), ("two", 0.0)):
        session.submit(Event("mood", mood, at))
    session.submit(Event("prompt", "lake"), Event("prompt", "hill"))

    shoot(engine, session)

    assert model.applied == [
        (0, Event("mood", "one")),
        (0, Event("prompt", "hill")),
        (1, Event("mood", "two")),
        (2, Event("mood", "two")),
        (3, Event("mood", "late", 0.1)),
    ]
    assert len(session.controls) == 0


def test_events_of_a_gathered_field_all_apply_to_one_chunk_in_order_and_at_once(
    engine, fake_model, shoot
):
    model = fake_model(gathered={"prompt": 3})
    session = engine.open(model, "sea", 1, horizon=3 * CHUNK)
    engine.run_once()
    for prompt, at in (("third", 0.3), ("first", 0.0), ("later", 0.6), ("second", 0.2)):
        session.submit(Event("prompt", prompt, at))
    session.submit(Event("mood", "calm"), Event("mood", "wild"))
    before = model.applications

    shoot(engine, session)

    assert [(chunk, event.value) for chunk, event in model.applied] == [
        (1, "first"),
        (1, "wild"),
        (1, "second"),
        (1, "third"),
        (2, "later"),
    ]
    assert model.applications == before + 2
    assert [entry.event for entry in session.progress.log] == [event for _, event in model.applied]
    assert len(session.controls) == 0


def test_more_events_than_a_field_gathers_leave_the_latest(engine, fake_model, shoot):
    model = fake_model(gathered={"prompt": 2})
    session = engine.open(model, "sea", 1, horizon=2 * CHUNK)
    engine.run_once()
    for prompt, at in (("four", 0.4), ("one", 0.1), ("three", 0.3), ("two", 0.2)):
        session.submit(Event("prompt", prompt, at))
    shoot(engine, session)
    assert [event.value for _, event in model.applied] == ["three", "four"]


def test_a_field_that_gathers_one_is_as_any_other(engine, fake_model, shoot):
    films = []
    for gathered in ({}, {"prompt": 1}):
        model = fake_model(gathered=gathered)
        session = engine.open(model, "sea", 1, horizon=2 * CHUNK)
        for prompt in ("one", "two"):
            session.submit(Event("prompt", prompt))
        shoot(engine, session)
        films.append(session.progress.log)
    assert films[0] == films[1] == [Applied(Event("prompt", "two"), 0, 0.0)]


def test_a_log_of_gathered_events_replays_to_the_same_film(engine, fake_model, shoot):
    model = fake_model(gathered={"prompt": 64})
    session = engine.open(model, "sea", 1, horizon=4 * CHUNK)
    engine.run_once()
    for prompt, at in (("one", 0.0), ("two", 0.0), ("four", 1.0), ("three", 0.0), ("five", 1.0)):
        session.submit(Event("prompt", prompt, at))
    made = shoot(engine, session)
    again = engine.open(model, "sea", 1, horizon=4 * CHUNK)
    again.submit(*(entry.again() for entry in session.progress.log))
    assert shoot(engine, again) == made
    other = engine.open(model, "sea", 1, horizon=4 * CHUNK)
    other.submit(*(entry.again() for entry in session.progress.log if entry.event.value != "one"))
    assert shoot(engine, other) != made


def test_events_of_different_fields_all_apply_to_the_same_chunk(engine, fake_model, shoot):
    model = fake_model()
    session = engine.open(model, "sea", 1, horizon=CHUNK)
    wishes = [Event("mood", "calm"), Event("prompt", "lake"), Event("grain", 3)]
    for wish in wishes:
        session.submit(wish)

    shoot(engine, session)

    assert model.applied == [(0, wish) for wish in wishes]
    assert [entry.event for entry in session.progress.log] == wishes


@pytest.mark.parametrize("steps_before", range(2 * STEPS + 1))
def test_an_event_submitted_anywhere_in_a_chunk_applies_at_the_next_boundary(
    engine, fake_model, shoot, steps_before
):
    session = engine.open(fake_model(), "sea", 1, horizon=4 * CHUNK)
    for _ in range(steps_before):
        engine.run_once()
    session.submit(Event("prompt", "lake"))

    shoot(engine, session)

    chunk = -(-steps_before // STEPS)
    assert session.progress.log == [Applied(Event("prompt", "lake"), chunk, chunk * CHUNK)]


@pytest.mark.parametrize(
    ("at", "chunk"),
    [(-1.0, 0), (0.0, 0), (0.001, 1), (0.5, 1), (0.501, 2), (1.0, 2), (1.6, 4), (2.0, 4)],
)
def test_a_scheduled_event_applies_at_the_first_boundary_at_or_after_its_time(
    engine, fake_model, film, shoot, at, chunk
):
    session = engine.open(fake_model(), "sea", 1, horizon=6 * CHUNK)
    event = Event("prompt", "lake", at)
    session.submit(event)

    made = shoot(engine, session)

    assert session.progress.log == [Applied(event, chunk, chunk * CHUNK)]
    plain = film(6 * CHUNK)
    items = session.model.spec.burst
    assert made[: chunk * items] == plain[: chunk * items]
    assert not set(made[chunk * items :]) & set(plain)


def test_scheduled_events_apply_in_the_order_of_their_times_not_of_their_submission(
    engine, fake_model, shoot
):
    session = engine.open(fake_model(), "sea", 1, horizon=6 * CHUNK)
    for at in (2.0, 0.5, 1.0):
        session.submit(Event("prompt", f"scene {at}", at))

    shoot(engine, session)

    assert [(entry.event.value, entry.chunk) for entry in session.progress.log] == [
        ("scene 0.5", 1),
        ("scene 1.0", 2),
        ("scene 2.0", 4),
    ]


def test_an_immediate_prompt_does_not_cancel_a_later_scheduled_one(engine, fake_model, shoot):
    session = engine.open(fake_model(), "sea", 1, horizon=4 * CHUNK)
    session.submit(Event("prompt", "night", at=1.0))
    run_chunks(engine, 1)
    session.submit(Event("prompt", "lake"))

    shoot(engine, session)

    assert [(entry.event.value, entry.chunk) for entry in session.progress.log] == [
        ("lake", 1),
        ("night", 2),
    ]


@pytest.mark.parametrize("scheduled_first", [True, False])
def test_where_a_scheduled_and_an_immediate_prompt_meet_the_scheduled_one_wins(
    engine, fake_model, shoot, scheduled_first
):
    session = engine.open(fake_model(), "sea", 1, horizon=4 * CHUNK)
    engine.run_once()
    wishes = [Event("prompt", "night", at=0.25), Event("prompt", "lake")]
    for wish in wishes if scheduled_first else reversed(wishes):
        session.submit(wish)

    shoot(engine, session)

    assert [entry.event.value for entry in session.progress.log] == ["night"]


def test_of_two_prompts_scheduled_for_the_same_time_the_one_submitted_last_wins(
    engine, fake_model, shoot
):
    session = engine.open(fake_model(), "sea", 1, horizon=2 * CHUNK)
    session.submit(Event("prompt", "dawn", at=0.5))
    session.submit(Event("prompt", "dusk", at=0.5))

    shoot(engine, session)

    assert [entry.event.value for entry in session.progress.log] == ["dusk"]


def test_an_event_beyond_the_horizon_waits_and_applies_after_an_extension(
    engine, fake_model, shoot
):
    session = engine.open(fake_model(), "sea", 1, horizon=2 * CHUNK)
    session.submit(Event("prompt", "night", at=1.0))

    shoot(engine, session)
    assert session.progress.log == []
    assert session.summary().controls == 1

    session.extend(3 * CHUNK)
    shoot(engine, session)
    assert [(entry.chunk, entry.time) for entry in session.progress.log] == [(2, 1.0)]
    assert session.summary().controls == 0


@pytest.mark.parametrize(
    "event", [Event("colour", "red"), Event("prompt", ""), Event("mood", "", at=0.5)]
)
def test_a_refused_event_leaves_the_session_unharmed(engine, fake_model, film, shoot, event):
    session = engine.open(fake_model(), "sea", 1, horizon=4 * CHUNK)
    run_chunks(engine, 1)

    with pytest.raises(StreamError):
        session.submit(event)

    assert shoot(engine, session) == film(4 * CHUNK)
    assert session.progress.log == []


@pytest.mark.parametrize("at", [float("nan"), float("inf")])
def test_an_event_at_no_time_is_refused_and_not_silently_dropped(engine, fake_model, at):
    session = engine.open(fake_model(), "sea", 1)
    with pytest.raises(StreamError, match="time"):
        session.submit(Event("prompt", "night", at))


def test_a_refused_opening_prompt_opens_nothing(engine, fake_model):
    with pytest.raises(StreamError) as caught:
        engine.open(fake_model(), "", 1)
    assert caught.value.code == "bad_value"
    assert not engine.run_once()


def test_a_paused_session_that_is_steered_on_and_on_keeps_what_can_still_win(
    engine, fake_model, shoot
):
    session = engine.open(fake_model(), "sea", 1, horizon=4 * CHUNK)
    session.pause()
    for index in range(1_000):
        session.submit(Event("prompt", f"now {index}"))
        session.submit(Event("mood", f"now {index}"))
        session.submit(Event("prompt", f"later {index}", at=1.0))
        session.submit(Event("prompt", f"by chunk {index}", chunk=3))
    assert session.summary().controls == 4
    session.resume()
    shoot(engine, session)
    assert [(entry.event.value, entry.chunk) for entry in session.progress.log] == [
        ("now 999", 0),
        ("now 999", 0),
        ("later 999", 2),
        ("by chunk 999", 3),
    ]


def test_a_paused_session_holds_no_more_of_a_gathered_field_than_can_apply(
    engine, fake_model, shoot
):
    session = engine.open(fake_model(gathered={"prompt": 5}), "sea", 1, horizon=CHUNK)
    session.pause()
    for index in range(1_000):
        session.submit(Event("prompt", f"now {index}"))
        assert session.summary().controls == min(index + 1, 5)
    session.resume()
    shoot(engine, session)
    told = [entry.event.value for entry in session.progress.log]
    assert told == [f"now {index}" for index in range(995, 1_000)]


def test_an_event_put_again_counts_from_when_it_was_put_last(engine, fake_model, shoot):
    model = fake_model()
    session = engine.open(model, "sea", 1, horizon=2 * CHUNK)
    run_chunks(engine, 1)
    # All are due at the second chunk.
    for prompt, chunk in (("one", 0), ("two", 1), ("three", 0)):
        session.submit(Event("prompt", prompt, 0.0, chunk))

    shoot(engine, session)

    assert [event.value for _, event in model.applied] == ["three"]


@pytest.mark.parametrize("steps_before", range(2 * STEPS + 1))
@pytest.mark.parametrize("at", [0.0, 0.3, 0.5, 1.2, 2.0])
def test_where_an_event_will_apply_is_told_at_once(engine, fake_model, shoot, steps_before, at):
    session = engine.open(fake_model(), "sea", 1, horizon=6 * CHUNK)
    for _ in range(steps_before):
        engine.run_once()

    foreseen = session.submit(Event("prompt", "lake", at))

    shoot(engine, session)
    (entry,) = session.progress.log
    assert (foreseen.chunk, foreseen.time) == (entry.chunk, entry.time)


def test_an_event_submitted_while_a_chunk_begins_is_foreseen_for_the_next_one(engine, fake_model):
    foreseen = []
    model = fake_model()
    session = engine.open(model, "sea", 1, horizon=CHUNK)
    model.on_step = lambda state: foreseen.append(session.boundary)
    run_chunks(engine, 1)
    assert foreseen == [Boundary(1, CHUNK)] * STEPS
    assert session.boundary == Boundary(1, CHUNK)


def test_pause_and_resume_name_the_chunk_between_them(engine, fake_model, shoot):
    session = engine.open(fake_model(), "sea", 1, horizon=4 * CHUNK)
    run_chunks(engine, 1)
    engine.run_once()
    assert session.pause() == Boundary(2, 2 * CHUNK)
    shoot(engine, session)
    assert session.resume() == Boundary(2, 2 * CHUNK)
    assert session.time == 2 * CHUNK


def test_events_submitted_together_are_all_refused_where_one_is(engine, fake_model):
    session = engine.open(fake_model(), "sea", 1)
    with pytest.raises(StreamError):
        session.submit(Event("mood", "calm"), Event("colour", "red"))
    assert len(session.controls) == 0
    assert session.submit() == Boundary(0, 0.0)


def test_what_is_wanted_is_what_applied_and_what_waits_for_the_next_chunk_only(engine, fake_model):
    session = engine.open(fake_model(), "sea", 1, horizon=4 * CHUNK)
    session.submit(Event("prompt", "lake"), Event("mood", "calm"))
    engine.run_once()
    session.submit(Event("prompt", "night"), Event("grain", 3, at=1.0))
    wanted = [("prompt", "lake"), ("mood", "calm"), ("prompt", "night")]
    assert [(event.field, event.value) for event in session.wanted()] == wanted
    run_chunks(engine, 1)
    wanted.append(("grain", 3))
    assert [(event.field, event.value) for event in session.wanted()] == wanted


@pytest.mark.parametrize("fails", [False, True])
def test_what_is_being_applied_is_wanted_until_the_model_fails_at_it(engine, fake_model, fails):
    session, model, seen = None, fake_model(), []
    apply = model.apply

    def look(state, *arrivals):
        seen.append([event.value for event in session.wanted()])
        if fails:
            raise RuntimeError("no such night")
        apply(state, *arrivals)

    model.apply = look
    session = engine.open(model, "sea", 1)
    session.submit(Event("prompt", "night"))
    engine.run_once()
    assert seen == [["night"]]
    assert [event.value for event in session.wanted()] == ([] if fails else ["night"])
