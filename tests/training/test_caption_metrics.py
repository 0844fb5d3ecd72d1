"""Marks of a captioner: full ones for the truth, none for silence or for yesterday's news."""

from __future__ import annotations

import random
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch

from longtake.models.vlm.settings import Settings
from longtake.models.vlm.words import Words
from longtake.streaming import InputFrame, Step
from longtake.training.caption_metrics import mark_elsewhere, mark_recall, mark_renders, same
from longtake.training.pictures import draw_bank
from longtake.training.valley.narration import Telling, telling
from longtake.training.valley.script import Scripts, draw_scripts

SECONDS, SEED, ASKING = 26, 1, 0.2


class Speaker:
    """Says what it is given, round by round, in place of a captioner."""

    settings = Settings(fps=1.0)

    def __init__(self, tales: list[list[str]]) -> None:
        self.tales = tales

    def open(self, prompt: str, seed: int) -> SimpleNamespace:
        return SimpleNamespace(words=iter(self.tales.pop(0)), frames=0)

    def apply(self, state: SimpleNamespace, event: object) -> None:
        state.frames += isinstance(event, InputFrame)

    def step(self, state: SimpleNamespace) -> Step:
        words = Words(next(state.words), 0.0, 1.0, "caption", final=True)
        return Step(((words, 1),), boundary=True)

    def close(self, state: SimpleNamespace) -> None:
        pass


@pytest.fixture(scope="module")
def script() -> Scripts:
    return draw_scripts(3, SECONDS, torch.Generator().manual_seed(4), held_out=True, still=0)


def tales(script: Scripts, say: Callable[[Telling, int, random.Random], str]) -> list[list[str]]:
    result = []
    for index in range(len(script)):
        story = telling(script.rows[index].tolist(), script.changes[index].tolist())
        rng = random.Random(f"{SEED}/{index}")
        result.append([say(story, second, rng) for second in range(SECONDS)])
    return result


def test_the_truth_has_full_marks(script: Scripts) -> None:
    def say(story: Telling, second: int, rng: random.Random) -> str:
        return story.round(second, rng, asking=ASKING, held_out=True).words

    marked = mark_renders(Speaker(tales(script, say)), script, SECONDS, SEED, asking=ASKING)
    for shares in vars(marked).values():
        assert shares.total
        assert shares.share() == 1
    assert set(marked.attributes.total) >= {"time", "shape", "colour", "motion", "camera"}


def test_silence_has_none(script: Scripts) -> None:
    marked = mark_renders(
        Speaker(tales(script, lambda *_: "")), script, SECONDS, SEED, asking=ASKING
    )
    for shares in (marked.attributes, marked.noticed, marked.late, marked.answers):
        assert shares.total
        assert shares.share() == 0


@pytest.mark.parametrize("late", [1, 2])
def test_what_is_told_late_is_late_and_meanwhile_wrong(script: Scripts, late: int) -> None:
    def say(story: Telling, second: int, rng: random.Random) -> str:
        return story.round(second - late, rng).words if second >= late else ""

    marked = mark_renders(Speaker(tales(script, say)), script, SECONDS, SEED, asking=0)
    assert marked.noticed.share() < 0.3
    assert (marked.late.share() == 1) == (late == 1)
    # A second is what everything is given to be told.
    assert (marked.attributes.share() == 1) == (late == 1)


def test_answers_count_by_their_meaning() -> None:
    assert same("It is red.", "it is red")
    assert same("Night falls.", "it gets dark")
    assert same("The ball flies in circles.", "the ball circles")
    assert not same("It is blue.", "it is red")
    assert not same("", "nothing has changed")
    assert not same("Night falls. Blah.", "it gets dark")


def test_recall_asks_after_what_has_changed() -> None:
    drawn = draw_scripts(2, 50, torch.Generator().manual_seed(3), pauses=(10.0, 12.0), still=0)
    changes = drawn.changes.clone()
    changes[:, 1:] = torch.inf
    once = Scripts(drawn.rows, drawn.layout, changes)
    truth = []
    for index in range(2):
        story = telling(once.rows[index].tolist(), once.changes[index].tolist())
        rng = random.Random(f"{SEED}/{index}")
        for second in range(50):
            story.round(second, rng)
        truth.append(story.told[0][1])
    right = mark_recall(Speaker([[""] * 49 + [text] for text in truth]), once, 50, ["ago"], SEED)
    wrong = mark_recall(Speaker([[""] * 49 + ["No."]] * 2), once, 50, ["ago"], SEED)
    assert right.total == {"ago": 2}
    assert right.share() == 1
    assert wrong.share() == 0


def test_another_world_is_recognised_by_what_is_said_last() -> None:
    bank = draw_bank(1, torch.Generator().manual_seed(0))
    strange = ["I do not know this world.", "", ""]
    ball = ["A red ball on the sand alone, on a sunny day.", "", ""]
    speaker = Speaker([strange, ball, [*strange[:2], ball[0]], strange])
    assert mark_elsewhere(speaker, bank, 4, 3, SEED) == 0.5
