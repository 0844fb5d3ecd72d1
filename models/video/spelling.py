"""Words of a prompt that a model with a vocabulary of whole words has never met."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from tokenizers import Tokenizer, models

SHORTEST = 3
"""Letters that a suggestion has at least: little words are near to everything."""
LONGEST = 24
"""Letters of a word that a remark shows at most."""
NEAR = 0.7
"""Likeness, in [0, 1], from which on a word is worth suggesting."""
REMARKED = 8
"""Words that a remark names at most."""
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")  # noqa: RUF001
_END = re.compile(r"['’].*")  # noqa: RUF001


class Spelling:
    """Knows a list of words, in lower case, and finds the nearest to any other.

    Args:
        words: those that are known.
    """

    def __init__(self, words: Iterable[str]) -> None:
        self._known = frozenset(word for word in words if _WORD.fullmatch(word))
        self._suggestions = sorted(word for word in self._known if len(word) >= SHORTEST)

    @staticmethod
    def of(tokenizer: Tokenizer, more: Iterable[str] = ()) -> Spelling:
        """That of a tokenizer; one that takes words apart makes something of any word.

        Args:
            tokenizer: whose words are known.
            more: words that are known although it lacks them, as a rewriter replaces them.
        """
        whole = isinstance(tokenizer.model, models.WordLevel)
        return Spelling({*tokenizer.get_vocab(with_added_tokens=False), *more} if whole else ())

    def nearest(self, word: str) -> str | None:
        """The known word most like a given one in lower case; None where none is near."""
        found = difflib.get_close_matches(word, self._suggestions, n=1, cutoff=NEAR)
        return found[0] if found else None

    def unknown(self, text: str) -> dict[str, str | None]:
        """The words of a text that are not known, in order, each with the nearest known one.

        Case, punctuation and what follows an apostrophe do not count; words come back in lower
        case. Where nothing is known (see :meth:`of`) nothing is unknown.
        """
        return {word: self.nearest(word) for word in self._unknown(text)}

    def remark(self, text: str) -> str | None:
        """One short sentence that names the first unknown words of a text; None without such."""
        unknown = self._unknown(text)
        if not unknown:
            return None
        named = [_quoted(word, self.nearest(word)) for word in unknown[:REMARKED]]
        more = f" and {len(unknown) - REMARKED} more" if len(unknown) > REMARKED else ""
        return f"this model passes over words it never met: {', '.join(named)}{more}"

    def _unknown(self, text: str) -> list[str]:
        words = dict.fromkeys(_WORD.findall(text.lower()) if self._known else ())
        return [word for word in words if self._known.isdisjoint((word, _END.sub("", word)))]


def _quoted(word: str, near: str | None) -> str:
    short = word if len(word) <= LONGEST else word[: LONGEST - 1] + "…"
    return f'"{short}"' + (f" ({near}?)" if near else "")
