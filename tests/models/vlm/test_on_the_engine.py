"""The captioner on the generator's engine."""

from __future__ import annotations

from itertools import pairwise

from longtake.streaming import Engine, Event


def fetch(session):
    return list(iter(lambda: session.next(timeout=0), None)) if not session.error else []


def run(engine, *sessions):
    """What each session makes until nothing can run, and whose step came when."""
    made, order = [[] for _ in sessions], []
    while engine.run_once():
        order.append(max(sessions, key=lambda session: session.last_run))
        for part, session in zip(made, sessions, strict=True):
            part.extend(fetch(session))
    return made, order


def watch(captioner, video, seconds, engine=None):
    engine = engine or Engine()
    session = engine.open(captioner, "speak of snow", 1)
    for frame in video(seconds):
        session.feed(frame)
    session.end_input()
    return engine, session


def test_it_watches_until_the_input_ends(captioner, video):
    engine, session = watch(captioner, video, 5)
    (made,), _ = run(engine, session)
    assert session.time == 5.0
    assert session.next() is None
    assert sum(media.payload.final for media in made) == 5
    assert [media.chunk for media in made if media.payload.final] == [0, 1, 2, 3, 4]


def test_a_question_applies_at_the_next_round_and_is_acknowledged(captioner, video):
    engine, session = watch(captioner, video, 4)
    session.submit(Event("ask", "why?", at=2.0))
    (made,), _ = run(engine, session)
    assert {media.chunk for media in made if media.payload.kind == "answer"} == {2}
    (applied,) = session.progress.log
    assert (applied.event.value, applied.time) == ("why?", 2.0)


def test_a_generator_and_a_captioner_take_turns_and_do_not_disturb_each_other(
    captioner, make_generator, video
):
    alone = [run(*watch(captioner, video, 4))[0][0]]
    engine = Engine()
    film = engine.open(make_generator(), "one", 7, horizon=2.0)
    alone += run(engine, film)[0]

    engine, session = watch(captioner, video, 4)
    film = engine.open(make_generator(), "one", 7, horizon=2.0)
    made, order = run(engine, session, film)
    assert made[0] == alone[0]
    assert len(made[1]) == len(alone[1])
    assert all((a.payload == b.payload).all() for a, b in zip(made[1], alone[1], strict=True))
    changes = sum(one is not other for one, other in pairwise(order))
    assert changes > 10


def test_a_snapshot_goes_on_in_another_session(make_captioner, video):
    straight = run(*watch(make_captioner(), video, 6))[0][0]
    captioner = make_captioner()
    engine, session = watch(captioner, video, 3)
    first = run(engine, session)[0][0]
    again = engine.restore(captioner, *session.snapshot())
    again.extend(float("inf"))
    for frame in video(6)[6:]:
        again.feed(frame)
    again.end_input()
    second = run(engine, session, again)[0][1]
    assert [m.payload for m in first + second] == [m.payload for m in straight]


def test_a_failure_is_the_sessions_alone(make_captioner, video):
    captioner, other = make_captioner(), make_captioner()
    engine, session = watch(captioner, video, 3)
    _, calm = watch(other, video, 3, engine)
    captioner.network.fail_at = 6
    made, _ = run(engine, session, calm)
    assert session.error.code == "model_failed"
    assert made[0]
    assert calm.time == 3.0


def test_questions_that_come_together_are_answered_one_after_another(captioner, video):
    engine, session = watch(captioner, video, 5)
    session.submit(Event("ask", "why?"), Event("ask", "where?"), Event("ask", "when?"))
    (made,), _ = run(engine, session)
    assert {media.chunk for media in made if media.payload.kind == "answer"} == {0, 1, 2}
    assert [each.event.value for each in session.progress.log] == ["why?", "where?", "when?"]
