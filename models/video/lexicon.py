"""``rewriter.json`` of a model folder: the words of a closed world, and how they are found."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

ATTRIBUTES = (
    *("time", "ground", "weather", "camera", "motion", "speed"),
    *("shape", "colour", "size", "companion", "companion_colour"),
)
WORDS = (
    *("change", "become", "replace", "instead", "add", "beside", "behind", "appear", "remove"),
    *("gone", "move", "it", "other", "both", "scenery", "camera", "and", "then", "adverb"),
)
PLACES = ("thing", "does", "place", "sky", "companion", "camera")
_ADJECTIVES = {"speed", "size", "colour", "other"}
_ARTICLES = {"a": "a", "an": "a", "the": "the"}


def with_article(noun: str) -> str:
    """A noun phrase after "a", or "an" before a vowel."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


@dataclass(frozen=True)
class Value:
    """How a value of an attribute is told of.

    Attributes:
        say: what a whole prompt says.
        phrases: that name it, articles or not.
    """

    say: str
    phrases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Lexicon:
    """``rewriter.json`` of a model folder: how a scene of a thing and a companion is told of.

    Attributes:
        attributes: name -> value -> its words, of ``ATTRIBUTES``. The companion is named by the
            phrases of ``shape``, its colour by those of ``colour``; its values are of ``shape``, or
            ``none``.
        together: phrases that tell of several attributes -> name -> value.
        words: phrases by what they do, of ``WORDS``. What a thing turns into follows ``change``,
            ``become`` or ``replace``, and what was there before follows ``instead``; a companion
            follows ``add`` or ``beside``, or comes before ``behind`` or ``appear``; it leaves after
            ``remove`` or before ``gone``; ``both`` are the thing and the companion, ``scenery`` is
            neither; ``move`` leaves open which motion it is; ``adverb`` are speeds that may be of
            something else, as in "slowly night falls".
        usual: attribute -> the value of most scenes, for drawing what no prompt tells of; where
            there is none at all, nothing is drawn, and it is left to the model.
        hidden: attribute -> the other one and its value with which it does not show.
        beside: says a companion, with ``{new}``.
        order: of a whole prompt, with ``PLACES`` in braces.
    """

    attributes: dict[str, dict[str, Value]]
    together: dict[str, dict[str, str]]
    words: dict[str, tuple[str, ...]]
    hidden: dict[str, tuple[str, str]]
    beside: str
    order: str
    usual: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for what, names, known in (
            ("attributes", self.attributes, ATTRIBUTES),
            ("words", self.words, WORDS),
        ):
            if set(names) != set(known):
                raise ValueError(f"{what} has to hold {', '.join(known)}")
        told = [*self.together.items(), ("hidden", dict(self.hidden.values()))]
        told += [("usual", self.usual)]
        told += [("colour", {"companion_colour": colour}) for colour in self.attributes["colour"]]
        told += [("companion", {"companion": "none"})]
        for what, values in told:
            for name, value in values.items():
                if value not in self.attributes.get(name, ()):
                    raise ValueError(f"{what}: {name} is never {value}")
        try:
            self.order.format(**dict.fromkeys(PLACES, ""))
            self.beside.format(new="")
        except (KeyError, IndexError, ValueError):
            raise ValueError("order or beside names what there is not") from None

    @property
    def vocabulary(self) -> set[str]:
        """Every word that is understood."""
        phrases = [*self.together, *(each for some in self.words.values() for each in some)]
        for values in self.attributes.values():
            phrases += [phrase for value in values.values() for phrase in value.phrases]
        return {word for phrase in phrases for word in phrase.split()} | _ARTICLES.keys()


@dataclass(frozen=True)
class Item:
    """Words that were understood; those of a noun phrase are one item.

    Attributes:
        kind: of ``WORDS``, an attribute, or ``together``.
        sets: attribute -> value.
        article: before it: ``a``, ``the`` or none.
        other: whether it is "the other" one.
    """

    kind: str
    sets: dict[str, str] = field(default_factory=dict)
    article: str = ""
    other: bool = False


class Phrases:
    """Finds the phrases of a lexicon in prompts.

    Args:
        lexicon: whose they are.
    """

    def __init__(self, lexicon: Lexicon) -> None:
        self._table: dict[tuple[str, ...], Item] = {}
        for name, values in lexicon.attributes.items():
            for value, words in values.items():
                self._know(words.phrases, Item(name, {name: value}))
        for phrase, sets in lexicon.together.items():
            self._know([phrase], Item("together", sets))
        for kind, phrases in lexicon.words.items():
            for phrase in phrases:
                known = self._table.get(_key(phrase))
                self._know([phrase], Item(kind, known.sets if known else {}))
        self._longest = max(map(len, self._table), default=0)

    def clauses(self, prompt: str) -> Iterator[list[Item]]:
        """What is understood between punctuation, "and" and "then"; "and" begins its clause."""
        for segment in re.split(r"[^\w\s'’-]+", prompt.lower()):  # noqa: RUF001
            clause: list[Item] = []
            for item in _noun_phrases(self._items(segment)):
                if item.kind in {"and", "then"}:
                    yield clause
                    clause = [item] if item.kind == "and" else []
                else:
                    clause.append(item)
            yield clause

    def _know(self, phrases: Sequence[str], item: Item) -> None:
        self._table |= {_key(phrase): item for phrase in phrases}

    def _items(self, segment: str) -> Iterator[Item]:
        """The longest phrases that are known, from left to right; other words are passed over."""
        words = re.findall(r"[^\W_]+", segment)
        before = [""] + [_ARTICLES.get(word, "") for word in words]
        kept = [(word, before[i]) for i, word in enumerate(words) if word not in _ARTICLES]
        place = 0
        while place < len(kept):
            step = 1
            for length in range(self._longest, 0, -1):
                item = self._table.get(tuple(word for word, _ in kept[place : place + length]))
                if item and place + length <= len(kept):
                    yield Item(item.kind, item.sets, kept[place][1])
                    step = length
                    break
            place += step


def _noun_phrases(items: Iterator[Item]) -> Iterator[Item]:
    """A noun takes up the adjectives right before it."""
    adjectives: list[Item] = []
    for item in items:
        if item.kind in _ADJECTIVES:
            adjectives.append(item)
            continue
        if item.kind == "shape":
            phrase = [*adjectives, item]
            sets = {name: value for each in phrase for name, value in each.sets.items()}
            other = any(each.kind == "other" for each in phrase)
            # "slow the ball down": the article may come after what is no adjective.
            article = next((each.article for each in phrase if each.article), "")
            yield Item("shape", sets, article, other)
        else:
            yield from adjectives
            yield item
        adjectives = []
    yield from adjectives


def _key(phrase: str) -> tuple[str, ...]:
    return tuple(word for word in phrase.split() if word not in _ARTICLES)
