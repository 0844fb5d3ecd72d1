"""Words a model never met."""

from __future__ import annotations

from tokenizers import Tokenizer, models

from longtake.models.video.spelling import Spelling

WORDS = ("a", "ball", "duck", "jumping", "night's", "purple", "red", "two", "<unk>", ",", "</s>")


def test_unknown_words_come_with_the_nearest_known_one():
    spelling = Spelling(WORDS)
    assert spelling.unknown("Two pruple BALLS, jumpin under a xylophone! pruple") == {
        "pruple": "purple",
        "balls": "ball",
        "jumpin": "jumping",
        "under": None,
        "xylophone": None,
    }


def test_case_punctuation_and_known_words_do_not_count():
    spelling = Spelling(WORDS)
    for text in ("", "a red ball...", "A RED, RED ball?!", "night's duck", "-- , 🙂"):
        assert spelling.unknown(text) == {}
    for text in ("a duck's ball", "a duck’s ball"):  # noqa: RUF001
        assert spelling.unknown(text) == {}


def test_the_vocabulary_is_that_of_a_tokenizer_of_whole_words():
    ids = {word: index for index, word in enumerate(WORDS)}
    spelling = Spelling.of(Tokenizer(models.WordLevel(ids, unk_token="<unk>")))
    assert spelling.unknown("a reed ball") == {"reed": "red"}


def test_words_that_are_replaced_before_a_tokenizer_sees_them_are_known():
    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0, "water": 1}, unk_token="<unk>"))
    assert Spelling.of(tokenizer, {"ocean"}).unknown("water, ocean, lake") == {"lake": None}


def test_a_tokenizer_that_takes_words_apart_knows_every_word():
    pieces = Tokenizer(models.Unigram([("<unk>", 0.0), ("re", -1.0), ("d", -1.0)], unk_id=0))
    assert Spelling.of(pieces).unknown("a reed ball") == {}
