from __future__ import annotations

import random

import pytest
import torch

from longtake.models.video.spelling import Spelling
from longtake.training.valley import captions, words
from longtake.training.valley.world import (
    NAMES,
    attribute_index,
    change_scenes,
    sample_scenes,
    shown_changes,
)

README = (
    "a red ball bounces on green grass on a sunny day",
    "a blue sailing boat on the water at sunset",
    "now make it night",
    "it starts to snow",
)
TYPED = (
    *("now make it night", "the ball turns blue", "faster", "slow down", "let it snow"),
    *("it stops raining", "make it bigger", "pan left", "zoom in", "stop the camera"),
    *("add a tree", "a red house appears", "remove the house", "it becomes a fish"),
    "the boat sails away",
)


def words_of(text: str) -> set[str]:
    return set(text.replace(",", " ").split())


def draws(n: int) -> list[tuple[list[int], list[int]]]:
    draw = torch.Generator().manual_seed(0)
    before = sample_scenes(n, draw)
    marks = torch.rand(n, len(NAMES), generator=draw) < 0.2
    marks[:, 0] |= ~marks.any(1)
    one, other = before.attributes, change_scenes(before, marks, draw).attributes
    shown = shown_changes(one, other).any(1)
    return list(zip(one[shown].tolist(), other[shown].tolist(), strict=True))


@pytest.mark.parametrize("held_out", [False, True])
def test_captions_use_only_words_of_the_vocabulary(held_out: bool) -> None:
    rng, known = random.Random(0), set(captions.vocabulary())
    assert 200 <= len(known) <= 400
    assert sorted(known) == captions.vocabulary()
    for before, after in draws(1500):
        for text in (
            captions.caption(after, rng, held_out=held_out),
            captions.change_caption(before, after, rng, held_out=held_out),
        ):
            assert words_of(text) <= known, text
            assert text == " ".join(text.lower().split())
            assert not text.startswith(",")
            assert not text.endswith(",")
            assert ", ," not in text
            assert "{" not in text


def test_the_vocabulary_has_no_word_that_training_never_shows() -> None:
    rng, seen = random.Random(3), set()
    for before, after in draws(8000):
        seen |= words_of(captions.caption(after, rng))
        seen |= words_of(captions.change_caption(before, after, rng))
    assert not seen ^ set(captions.vocabulary())


def says(text: str, name: str, scene: dict[str, str]) -> bool:
    """Whether a caption names an attribute, by any of the grammar's ways to."""
    value = scene[name]
    options: tuple[str, ...]
    if name == "motion":
        verbs = (*words.VERBS[value], *words.SPECIAL_VERBS.get((scene["shape"], value), ()))
        options = tuple(word for verb in verbs for word in verb[1:3])
    elif name in ("time", "weather"):
        table = words.TIMES if name == "time" else words.WEATHERS
        column = 0 if name == "time" else 1
        pairs = [p for key, each in words.SKIES.items() if key[column] == value for p in each]
        options = (*table[value], *pairs, words.TAGS[name][value])
    elif name == "companion":
        options = (*words.ALONE, "alone") if value == "none" else words.SHAPES[value]
    else:
        tables = {
            "ground": words.GROUNDS,
            "shape": words.SHAPES,
            "colour": words.COLOURS,
            "companion_colour": words.COLOURS,
            "size": words.SIZES,
            "camera": words.CAMERAS,
            "speed": {key: (*each, key) for key, each in words.SPEEDS.items()},
        }
        options = (*tables[name][value], words.TAGS.get(name, {}).get(value, "-"))
    # Articles may be left out.
    padded = f" {' '.join(w for w in text.replace(',', ' ').split() if w not in ARTICLES)} "
    bare = [" ".join(w for w in each.split() if w not in ARTICLES) for each in options]
    return any(f" {each} " in padded for each in bare)


ARTICLES = {"a", "an", "the"}


@pytest.mark.parametrize("held_out", [False, True])
def test_a_forced_mention_is_in_the_caption(held_out: bool) -> None:
    rng = random.Random(1)
    for row, _ in draws(800):
        scene = captions.values_of(row)
        text = captions.caption(row, rng, NAMES, held_out=held_out)
        for name in captions.shown(scene):
            assert says(text, name, scene), (text, name)


def test_a_caption_leaves_out_what_it_is_not_to_name() -> None:
    rng, row = random.Random(2), attribute_index(shape="duck", colour="pink", time="night")
    for _ in range(100):
        text = captions.caption(row, rng, {"colour"})
        assert words_of(text) <= {"a", "the", "one", "pink", "rubber", "duck", "there", "is", "we",
                                  "see"}  # fmt: skip


def test_a_caption_that_begins_with_the_companion_does_not_begin_with_and() -> None:
    rng, row = random.Random(3), attribute_index(shape="duck", companion="tree")
    begun = {captions.caption(row, rng, NAMES).split()[0] for _ in range(400)}
    assert {"with", "beside"} <= begun
    assert "and" not in begun


def test_held_out_orders_and_phrases_are_not_in_training() -> None:
    assert not set(words.ORDERS) & set(words.HELD_OUT_ORDERS)
    trained = [p for options in words.CHANGES.values() for p in options]
    trained += [*words.MOVES, *words.TURNS, *words.PAINTS, *words.APPEARS, *words.GOES]
    trained += [p for options in words.STOPS.values() for p in options]
    held_out = [p for options in words.HELD_OUT_CHANGES.values() for p in options]
    held_out += [*words.HELD_OUT_MOVES, *words.HELD_OUT_TURNS, *words.HELD_OUT_PAINTS]
    held_out += [*words.HELD_OUT_APPEARS, *words.HELD_OUT_GOES]
    assert not set(trained) & set(held_out)
    # A change of the motion to rest has its own phrases; every other one that is trained has some.
    assert set(words.HELD_OUT_CHANGES) == set(words.CHANGES)


def test_held_out_sentences_never_come_up_in_training() -> None:
    rng, row = random.Random(5), attribute_index(shape="bird", motion="circles")
    trained = {captions.caption(row, rng, NAMES) for _ in range(20_000)}
    held_out = {captions.caption(row, rng, NAMES, held_out=True) for _ in range(2000)}
    assert not trained & held_out


def test_a_change_names_what_changes_and_nothing_else() -> None:
    before = attribute_index(colour="red", companion="tree")
    after = attribute_index(colour="blue", companion="tree")
    rng = random.Random(0)
    for held_out in (False, True):
        for _ in range(100):
            text = captions.change_caption(before, after, rng, held_out)
            assert "blue" in text
            assert not words_of(text) & {"red", "day", "grass", "rain", "clear", "tree", "big"}
    unseen = (
        attribute_index(colour="red", companion="none"),
        attribute_index(colour="red", companion="none", companion_colour="pink"),
    )
    with pytest.raises(ValueError, match="nothing that shows changes"):
        captions.change_caption(*unseen, rng)
    with pytest.raises(ValueError, match="nothing that shows changes"):
        captions.change_caption(before, before, rng)


def test_a_companion_comes_with_its_colour_and_goes_without() -> None:
    alone = attribute_index(companion="none", companion_colour="blue")
    together = attribute_index(companion="house", companion_colour="red")
    rng = random.Random(0)
    for _ in range(100):
        assert "red house" in captions.change_caption(alone, together, rng)
        gone = words_of(captions.change_caption(together, alone, rng))
        assert "house" in gone
        assert not gone & {"red", "blue"}


def test_what_people_type_is_known() -> None:
    spelling = Spelling(captions.vocabulary())
    for text in (*README, *TYPED):
        assert spelling.unknown(text) == {}


def test_what_people_type_comes_up_in_training() -> None:
    rng = random.Random(0)
    pairs = draws(2000)
    boat = {"shape": "boat", "companion": "none"}
    rows = [attribute_index(**boat, **more) for more in ({}, {"motion": "flies away"})]
    red = attribute_index(shape="boat", companion="house", companion_colour="red")
    ball = attribute_index(shape="ball", colour="red"), attribute_index(colour="blue")
    pairs += [(rows[0], rows[1]), (rows[0], red), (red, rows[0]), ball] * 20
    seen = {captions.change_caption(*pair, rng) for pair in pairs for _ in range(20)}
    bare = {text.removeprefix("now ") for text in seen}
    assert {text.removeprefix("now ") for text in TYPED} <= bare
