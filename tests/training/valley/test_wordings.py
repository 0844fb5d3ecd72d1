"""Questions in many words: put together from parts, and none of the evaluation's among them."""

import itertools
import random

import pytest

from longtake.training.valley.questions import ABOUT_PAST
from longtake.training.valley.wordings import (
    HELD_OUT_WORDINGS,
    PATTERNS,
    UNMARKED,
    draw_wording,
    wordings,
)


def test_each_kind_is_asked_in_training_and_in_evaluation() -> None:
    assert PATTERNS.keys() == HELD_OUT_WORDINGS.keys()
    assert set(ABOUT_PAST) <= PATTERNS.keys()


@pytest.mark.parametrize("kind", PATTERNS)
def test_evaluation_asks_in_words_of_its_own(kind: str) -> None:
    mine = list(itertools.chain(*wordings(kind)))
    assert all(wordings(kind))
    assert len(mine) >= 40
    assert not set(mine) & set(HELD_OUT_WORDINGS[kind])
    rng = random.Random(0)
    drawn = {draw_wording(kind, "{shape}", rng, held_out=True) for _ in range(50)}
    assert drawn == set(HELD_OUT_WORDINGS[kind])


@pytest.mark.parametrize("kind", PATTERNS)
def test_they_are_sentences(kind: str) -> None:
    for wording in itertools.chain(*wordings(kind), HELD_OUT_WORDINGS[kind]):
        text = wording.format(shape="ball")
        assert text == " ".join(text.split())
        assert text[-1] in "?."
        assert text[-2].isalpha()
        assert not set(text) & set("[]|{}")


def test_parts_are_put_together_in_every_way() -> None:
    sizes = set(itertools.chain(*wordings("size")))
    assert {"how tall is it?", "which size has the {shape}?", "is it a small {shape}?"} <= sizes
    asked = set(itertools.chain(*wordings("ago")))
    assert {"do you remember what changed?", "do you remember what changed earlier?"} <= asked


def test_a_pattern_of_many_wordings_is_drawn_no_more_often() -> None:
    rng = random.Random(0)
    drawn = [draw_wording("colour", "ball", rng) for _ in range(2000)]
    pairs = sum(" or " in question for question in drawn)
    assert 0.5 < pairs / (len(drawn) / len(wordings("colour"))) < 1.5


def test_some_end_without_their_mark() -> None:
    rng = random.Random(0)
    drawn = [draw_wording("size", "ball", rng) for _ in range(2000)]
    bare = sum(question[-1] not in "?." for question in drawn)
    assert 0.8 < bare / (UNMARKED * len(drawn)) < 1.2
