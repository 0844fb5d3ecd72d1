from __future__ import annotations

import random

import pytest
import torch

from longtake.training import captions
from longtake.training.prompts import build_tokenizer, prompt, tokens
from longtake.training.world import NAMES, attribute_index, change_scenes, sample_scenes

README = "a red ball bounces on green grass on a sunny day", "night falls and it starts to snow"


def words(text: str) -> set[str]:
    return set(text.replace(",", " ").split())


def draws(n: int) -> list[tuple[list[int], list[int]]]:
    draw = torch.Generator().manual_seed(0)
    before = sample_scenes(n, draw)
    marks = torch.rand(n, len(NAMES), generator=draw) < 0.25
    marks[:, 0] |= ~marks.any(1)
    after = change_scenes(before, marks, draw)
    return list(zip(before.attributes.tolist(), after.attributes.tolist(), strict=True))


def test_captions_use_only_words_of_the_vocabulary() -> None:
    rng, known = random.Random(0), set(captions.vocabulary())
    assert 150 <= len(known) <= 300
    assert sorted(known) == captions.vocabulary()
    for before, after in draws(1500):
        for text in (
            captions.caption(after, rng),
            captions.caption(after, rng, held_out=True),
            captions.change_caption(before, after, rng),
        ):
            assert words(text) <= known, text
            assert text == " ".join(text.lower().split())
            assert not text.startswith(",")
            assert ", ," not in text


def test_the_readmes_prompts_are_known_words() -> None:
    for text in README:
        assert words(text) <= set(captions.vocabulary())


def says(text: str, name: str, scene: dict[str, str]) -> bool:
    """Whether a caption names an attribute, by any of the grammar's ways to."""
    value = scene[name]
    if name == "motion":
        special = captions.SPECIAL_VERBS.get((scene["shape"], value), ())
        verbs = (*captions.VERBS[value], *special)
        options = tuple(word for verb in verbs for word in verb[1:3])
    elif name in ("time", "weather"):
        table = captions.TIMES if name == "time" else captions.WEATHERS
        column = 0 if name == "time" else 1
        pairs = [p for key, each in captions.SKIES.items() if key[column] == value for p in each]
        bare = [each.removeprefix("and ") for each in table[value]]
        options = (*bare, *pairs, captions.TAGS[name][value])
    else:
        tables = {
            "ground": captions.GROUNDS,
            "shape": captions.SHAPES,
            "colour": captions.COLOURS,
            "size": captions.SIZES,
        }
        options = (*tables[name][value], captions.TAGS.get(name, {}).get(value, "-"))
    return any(f" {each} " in f" {text.replace(',', ' ')} ".replace("  ", " ") for each in options)


@pytest.mark.parametrize("held_out", [False, True])
def test_a_forced_mention_is_in_the_caption(held_out: bool) -> None:
    rng = random.Random(1)
    for row, _ in draws(600):
        scene = captions.values_of(row)
        text = captions.caption(row, rng, NAMES, held_out=held_out)
        for name in NAMES:
            assert says(text, name, scene), (text, name)


def test_a_change_names_what_changes_and_nothing_else() -> None:
    before = attribute_index(colour="red", time="day")
    after = attribute_index(colour="blue", time="day")
    rng = random.Random(0)
    for _ in range(50):
        text = captions.change_caption(before, after, rng)
        assert "blue" in text
        assert not words(text) & {"red", "day", "grass", "rain", "clear"}
    with pytest.raises(ValueError, match="nothing changes"):
        captions.change_caption(before, before, rng)


def test_a_whole_caption_after_a_change_names_the_change() -> None:
    before = attribute_index(colour="red")
    after = attribute_index(colour="blue")
    rng = random.Random(0)
    assert all("blue" in prompt(before, after, 0, rng) for _ in range(50))


def test_tokens_end_are_padded_and_know_every_word() -> None:
    tokenizer = build_tokenizer()
    ids, mask = tokens(tokenizer, README, 48, 0.0, random.Random(0))
    assert ids.shape == mask.shape == (2, 48)
    assert mask.sum(1).tolist() == [12, 8]
    unknown, end = tokenizer.token_to_id("<unk>"), tokenizer.token_to_id("</s>")
    assert not (ids == unknown).any()
    assert ids[0, 11] == end
    assert not ids[0, 12:].any()
    assert tokenizer.encode("A red BALL, xylophone.").tokens == [
        *("a", "red", "ball", ",", "<unk>", "<unk>", "</s>")
    ]
