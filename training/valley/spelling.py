"""Words of a prompt that the captions never use, and the nearest ones that they do."""

from __future__ import annotations

import difflib
import re
from functools import lru_cache

from longtake.training.valley.captions import vocabulary

SHORTEST = 3
"""Letters that a suggestion has at least: little words are near to everything."""
NEAR = 0.7
"""Likeness, in [0, 1], from which on a word is worth suggesting."""


@lru_cache
def _known() -> frozenset[str]:
    return frozenset(vocabulary())


@lru_cache
def _suggestions() -> tuple[str, ...]:
    return tuple(word for word in vocabulary() if len(word) >= SHORTEST)


def nearest(word: str) -> str | None:
    """The known word that is most like a given one, itself if it is known, None if none is near."""
    word = word.lower()
    if word in _known():
        return word
    found = difflib.get_close_matches(word, _suggestions(), n=1, cutoff=NEAR)
    return found[0] if found else None


def unknown_words(text: str) -> list[tuple[str, str | None]]:
    """The words of a prompt that no caption uses, once each, in order, with the nearest known one.

    Case and punctuation do not count; words come back in lower case.
    """
    words = dict.fromkeys(re.findall(r"[^\W_]+(?:['’][^\W_]+)*", text.lower()))  # noqa: RUF001
    return [(word, nearest(word)) for word in words if word not in _known()]
