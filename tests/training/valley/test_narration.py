"""What is to be said of the valley: true, in time, and readable again."""

from __future__ import annotations

import random

import pytest
import torch

from longtake.training.valley.captions import values_of
from longtake.training.valley.film import render
from longtake.training.valley.hearing import Listener, clauses, marks
from longtake.training.valley.narration import EVERY, telling
from longtake.training.valley.questions import (
    ABOUT_PAST,
    NOTHING,
    NOTHING_KEPT,
    Past,
    draw_question,
)
from longtake.training.valley.script import Scripts, current, draw_scripts, shoot
from longtake.training.valley.wordings import PATTERNS
from longtake.training.valley.world import (
    Scenes,
    attribute_index,
    is_held_out,
    shown_changes,
)

SECONDS = 60


def scripts(n: int = 60, **more: object) -> Scripts:
    return draw_scripts(n, SECONDS, torch.Generator().manual_seed(0), **more)


def stories(n: int = 60):
    drawn = scripts(n, held_out=None)
    for rows, changes in zip(drawn.rows.tolist(), drawn.changes.tolist(), strict=True):
        yield telling(rows, changes)


def test_a_listener_ends_up_believing_the_truth_at_every_second() -> None:
    rng = random.Random(0)
    for story in stories():
        listener = Listener()
        for second in range(SECONDS):
            said = story.round(second, rng)
            listener.hear(said.words)
            assert not listener.lost, said.words
            if second >= 2:
                right = marks(listener.beliefs, said.scene)
                assert all(right.values()), (said.words, right)


def test_changes_are_told_within_two_seconds_and_nothing_else_is() -> None:
    rng = random.Random(1)
    for story in stories():
        loud = {second for second in range(SECONDS) if story.round(second, rng).words}
        told = [when for when, _ in story.told]
        assert len(told) == len([change for change in story.changes if change <= SECONDS - 1])
        for when, change in zip(told, story.changes, strict=False):
            assert 1 <= when + 1 - change < 2
        again = {k for k in range(SECONDS) if k % EVERY in {0, 1, 2}}
        assert loud == again | set(told)


def test_what_was_to_be_said_waits_for_an_answer() -> None:
    rows = [attribute_index(), attribute_index(time="night")]
    story, rng = telling(rows, [18.5], kinds=["colour"]), random.Random(0)
    for second in range(20):
        story.round(second, rng)
    said = story.round(20, rng, asking=1.0)
    assert said.asked
    after = story.round(21, rng)
    assert "on " in after.words
    assert len(clauses(after.words)) == 3


def test_narrations_come_of_the_generator_alone_and_vary() -> None:
    one, same, other = (
        [next(stories(1)).round(k, random.Random(seed)).words for k in range(25)]
        for seed in (1, 1, 2)
    )
    assert one == same
    assert one != other


@pytest.mark.parametrize("kind", PATTERNS)
def test_answers_are_true(kind: str) -> None:
    before = attribute_index(shape="ball", colour="red", weather="rain", motion="bounces")
    after = attribute_index(shape="ball", colour="blue", weather="clear", motion="bounces")
    story, rng = telling([before, after], [10.5]), random.Random(0)
    for second in range(60):
        story.round(second, rng)
    past = Past(story.scenes, story.changes, story.told, 60)
    asked = draw_question(past, rng, kinds=[kind])
    assert asked is not None
    wanted = {
        "colour": {"it is blue"},
        "shape": {"it is a blue ball"},
        "motion": {"the ball bounces"},
        "time": {"it is day"},
        "weather": {"the sky is clear"},
        "ground": {"it is on the grass"},
        "camera": {"the camera is still"},
        "companion": {"nothing else"},
        "size": {"it is small"},
        "last": {story.told[0][1]},
        "ago": {story.told[0][1]},
        "was colour": {"it was red"},
        "was weather": {"it was raining"},
    }
    assert asked.answer in wanted[kind]
    assert "{" not in asked.question


def test_what_is_hardly_out_of_sight_is_not_asked_about() -> None:
    story, rng = (
        telling([attribute_index(), attribute_index(time="night")], [10.5]),
        random.Random(),
    )
    for second in range(60):
        story.round(second, rng)
    answers = {}
    for second in (12, 30, 50):
        past = Past(story.scenes, story.changes, story.told, second)
        asked = [draw_question(past, rng, kinds=["ago"]) for _ in range(200)]
        answers[second] = {each and each.answer for each in asked}
    assert answers == {12: {None}, 30: {None}, 50: {story.told[0][1]}}


def test_that_nothing_has_changed_is_the_answer_now_and_then() -> None:
    past, rng = Past([values_of(attribute_index())], [], [], 12), random.Random(0)
    drawn = [draw_question(past, rng) for _ in range(4000)]
    nothing = sum(asked is not None and asked.answer == NOTHING for asked in drawn)
    # Two kinds of the four about the past have that for an answer here.
    most = 2 / len(PATTERNS)
    assert 0.5 < nothing / (NOTHING_KEPT * most * len(drawn)) < 1.5


def test_of_some_kinds_one_is_asked_that_has_an_answer() -> None:
    rows = [attribute_index(colour="red"), attribute_index(colour="blue")]
    story, rng = telling(rows, [10.5]), random.Random(0)
    for second in range(30):
        story.round(second, rng)
    past = Past(story.scenes, story.changes, story.told, 30)
    kinds = {draw_question(past, rng, kinds=ABOUT_PAST).kind for _ in range(50)}
    # It is not plain whether that was a while ago, and the weather has not changed.
    assert kinds == {"last", "was colour"}


def test_where_kinds_are_wanted_no_answer_is_given_twice() -> None:
    rows = [attribute_index(colour="red"), attribute_index(colour="blue")]
    answers = {}
    for kinds in ((), ABOUT_PAST):
        story, rng = telling(rows, [10.5], kinds), random.Random(0)
        said = [story.round(second, rng, asking=1.0) for second in range(60)]
        answers[kinds] = [each.words for each in said if each.asked]
    assert len(answers[()]) > len(set(answers[()]))
    assert sorted(answers[ABOUT_PAST]) == sorted(set(answers[ABOUT_PAST]))
    assert "It was red." in answers[ABOUT_PAST]


def test_a_listener_tells_the_thing_from_its_companion() -> None:
    listener = Listener()
    listener.hear("A small red ball on the grass with a blue ball behind it, on a sunny day.")
    listener.hear("The other one turns pink, the ball becomes green.")
    listener.hear("It becomes a cube, the other one turns into a white tree. It begins to gleam.")
    assert listener.beliefs["colour"] == "green"
    assert listener.beliefs["shape"] == "cube"
    assert listener.beliefs["companion"] == "tree"
    assert listener.beliefs["companion_colour"] == "white"
    assert listener.lost == 1
    listener.hear("The tree disappears, the cube shrinks.")
    assert listener.beliefs["companion"] == "none"
    assert listener.beliefs["size"] == "small"


def test_scripts_change_where_it_shows_and_stay_on_their_side() -> None:
    drawn = scripts(200)
    assert not is_held_out(drawn.rows).any()
    assert shown_changes(drawn.rows[:, :-1], drawn.rows[:, 1:]).any(-1).all()
    there = drawn.changes[drawn.changes.isfinite()]
    assert ((there > 0) & (there < SECONDS)).all()
    still = (~drawn.changes.isfinite()).all(1).float().mean()
    assert 0.05 < still < 0.3
    assert is_held_out(scripts(50, held_out=True).rows[:, 0]).all()


def test_frames_of_a_script_are_its_scenes() -> None:
    rows = torch.tensor([[attribute_index(), attribute_index(time="night"), attribute_index()]])
    script = Scripts(rows, torch.full((1, 13), 0.4), torch.tensor([[5.0, 11.0]]).double())
    seconds = torch.tensor([[1.0, 7.5, 8.5, 14.0]])
    frames = shoot(script, seconds)
    day, night = (render(Scenes(rows[:, k], script.layout), seconds)[0] for k in range(2))
    assert torch.equal(frames[0], torch.stack([day[0], night[1], night[2], day[3]]))
    assert current(script, seconds).tolist() == [[0, 1, 1, 2]]
