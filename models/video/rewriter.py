"""A film's prompts, scenes and changes, to one prompt for the whole scene.

Wan's inference has a language model rewrite prompts (its "prompt extension"), and LongLive's are
whole scenes each. Here it is a lexicon of a closed world and a few rules, so a film repeats.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Literal

from longtake.models.folder import read_config

FILE = "rewriter.json"
ATTRIBUTES = (
    *("time", "ground", "weather", "camera", "motion", "speed"),
    *("shape", "colour", "size", "companion", "companion_colour"),
)
WORDS = (
    *("change", "become", "replace", "add", "beside", "behind", "appear", "remove", "gone"),
    *("it", "other", "camera", "and", "then", "adverb"),
)
PLACES = ("thing", "does", "place", "sky", "companion", "camera")
_ADJECTIVES = {"speed", "size", "colour", "other"}
_ASKED = {"change", "become", "replace", "colour", "size"}
_BEFORE, _AFTER = {"add", "beside", "remove"}, {"behind", "appear", "gone"}
_ARTICLES = {"a": "a", "an": "a", "the": "the"}

Role = Literal["thing", "companion"]
State = dict[str, str]


@dataclass(frozen=True)
class Value:
    """How a value of an attribute is told of.

    Attributes:
        say: what a whole prompt says; empty where another attribute's words say it.
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
            ``become`` or ``replace``; a companion follows ``add`` or ``beside``, or comes before
            ``behind`` or ``appear``; it leaves after ``remove`` or before ``gone``; ``adverb``
            are speeds that may be of something else, as in "slowly night falls".
        hidden: attribute -> the other one and its value with which it does not show.
        beside: says a companion, with ``{new}``.
        order: of a whole prompt, with ``PLACES`` in braces.
    """

    attributes: dict[str, dict[str, Value]]
    together: dict[str, State]
    words: dict[str, tuple[str, ...]]
    hidden: dict[str, tuple[str, str]]
    beside: str
    order: str

    def __post_init__(self) -> None:
        for what, names, known in (
            ("attributes", self.attributes, ATTRIBUTES),
            ("words", self.words, WORDS),
        ):
            if set(names) != set(known):
                raise ValueError(f"{what} has to hold {', '.join(known)}")
        told = [*self.together.values(), dict(self.hidden.values())]
        told += [{name: next(iter(self.attributes[name]), "")} for name in ATTRIBUTES]
        for name, value in (pair for each in told for pair in each.items()):
            if value not in self.attributes.get(name, ()):
                raise ValueError(f"attribute {name} has no value {value}")
        try:
            self.order.format(**dict.fromkeys(PLACES, "")), self.beside.format(new="")
        except (KeyError, IndexError, ValueError):
            raise ValueError("order or beside names what there is not") from None


@dataclass(frozen=True)
class Item:
    """Words that were understood; those of a noun phrase are one item.

    Attributes:
        kind: of ``WORDS``, an attribute, or ``scene`` where none depends on a subject.
        sets: attribute -> value.
        article: before it: ``a``, ``the`` or none.
        other: whether it is "the other" one.
    """

    kind: str
    sets: State = field(default_factory=dict)
    article: str = ""
    other: bool = False


class PromptRewriter:
    """Folds prompts into what was told, and says it.

    Args:
        lexicon: of the model folder.
    """

    def __init__(self, lexicon: Lexicon) -> None:
        self.lexicon = lexicon
        self._table: dict[tuple[str, ...], Item] = {}
        for name, values in lexicon.attributes.items():
            kind = name if name in {"shape", "colour", "size", "speed", "motion"} else "scene"
            for value, words in values.items():
                self._know(words.phrases, Item(kind, {name: value}))
        for phrase, sets in lexicon.together.items():
            self._know([phrase], Item("scene", sets))
        for kind, phrases in lexicon.words.items():
            for phrase in phrases:
                known = self._table.get(_key(phrase))
                self._know([phrase], Item(kind, known.sets if known else {}))
        self._longest = max(map(len, self._table))

    def __call__(self, prompts: Sequence[str]) -> str:
        """One prompt for a film's, oldest first; the newest as it is where none is understood."""
        return self.say(self.fold(prompts)) or prompts[-1]

    def fold(self, prompts: Sequence[str]) -> State:
        """Attribute -> value, of what was told and shows."""
        state: State = {}
        for prompt in prompts:
            reader = _Reader(state, self.lexicon)
            for number, clause in enumerate(self._clauses(prompt)):
                reader.read(clause, first=number == 0)
        hidden = self.lexicon.hidden
        return {
            name: value
            for name, value in state.items()
            if name not in hidden or state.get(hidden[name][0]) != hidden[name][1]
        }

    def say(self, state: State) -> str:
        """A whole prompt; empty where there is nothing to say."""

        def words(*names: str) -> str:
            said = (self.lexicon.attributes[name][state[name]].say for name in names)
            return " ".join(said)

        def told(*names: str) -> str:
            return words(*(name for name in names if name in state))

        # The speed is the noun's where no verb can carry it; its values are adjectives.
        speed = "" if "motion" in state else state.get("speed", "")
        thing = f"{speed} {told('size', 'colour', 'shape')}".strip()
        companion = told("companion")
        if companion and state["companion"] != "none":
            noun = told("companion_colour", "companion")
            companion = self.lexicon.beside.format(new=_with_article(noun))
        places = {
            "thing": _with_article(thing) if "shape" in state else thing,
            "does": told("motion", "speed") if "motion" in state else "",
            "place": told("ground"),
            "sky": told("time", "weather"),
            "companion": companion,
            "camera": told("camera"),
        }
        parts = (" ".join(part.split()) for part in self.lexicon.order.format(**places).split(","))
        return ", ".join(part for part in parts if part)

    def _know(self, phrases: Sequence[str], item: Item) -> None:
        self._table |= {_key(phrase): item for phrase in phrases}

    def _clauses(self, prompt: str) -> Iterator[list[Item]]:
        """What is understood between punctuation, "and" and "then"; "and" begins its clause."""
        for segment in re.split(r"[^\w\s'-]+", prompt.lower()):
            clause: list[Item] = []
            for item in _noun_phrases(self._items(segment)):
                if item.kind in {"and", "then"}:
                    yield clause
                    clause = [item] if item.kind == "and" else []
                else:
                    clause.append(item)
            yield clause

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


@dataclass
class _Reader:
    """Reads one prompt, clause by clause, into the state of a film.

    `named`: who was told of in the prompt; `subject`: of the clause.
    """

    state: State
    lexicon: Lexicon
    named: set[Role] = field(default_factory=set)
    subject: Role | None = None

    def read(self, clause: list[Item], *, first: bool) -> None:
        """Take what a clause says; `first`: of the prompt."""
        joined = bool(clause) and clause[0].kind == "and"
        clause = clause[joined:]
        kinds = [item.kind for item in clause]
        self.subject, changing = None, False
        for place, item in enumerate(clause):
            kind = item.kind
            # What belongs to a noun lies between the nouns beside it.
            before = takewhile(lambda each: each != "shape", reversed(kinds[:place]))
            after = takewhile(lambda each: each != "shape", kinds[place + 1 :])
            near = (_BEFORE & {*before}) | (_AFTER & {*after})
            if kind in {"shape", "other"} and near & {"remove", "gone"}:
                self._remove(item)
            elif kind == "shape":
                becomes = changing and ("replace" in kinds or not near & {"add", "beside"})
                role = self.subject if becomes else None
                self._name(item, role or self._role(item, near, kinds, joined and place == 0))
            elif kind == "other":
                self.subject = "companion"
            elif kind == "it":
                self.subject = self._it()
            elif kind in {"change", "become", "replace"}:
                changing = True
                if kind == "become":
                    self.subject = self.subject or "thing"
            elif kind == "colour":
                name = "companion_colour" if self.subject == "companion" else "colour"
                self.state[name] = item.sets["colour"]
            elif kind == "size" and self.subject == "companion":
                pass  # it has none
            elif kind == "motion" and "camera" in kinds:
                if item.sets["motion"] == "rests":
                    self.state["camera"] = "still"
            elif kind != "adverb" or _is_of_thing(place, kinds, first=first):
                self.state.update(item.sets)
                if self.state.get("companion") == "none":
                    self.state.pop("companion_colour", None)

    def _it(self) -> Role:
        """Who "it" is: the thing, but where the prompt has told of the companion alone."""
        role: Role = "companion" if self.named == {"companion"} else "thing"
        self.named.add(role)
        return role

    def _role(self, noun: Item, near: set[str], kinds: list[str], joined: bool) -> Role | None:
        """Whom a noun names; None for what cannot be beside a thing.

        `near`: kinds of items around it, `kinds`: in its clause; `joined`: whether "and" is right
        before it.
        """
        shape, known = noun.sets["shape"], self.state.get("shape")
        marked = bool(near & {"add", "beside", "behind", "appear"})
        if noun.other:
            role: Role = "companion"
        elif marked and near.isdisjoint({"beside", "behind"}) and not known:
            role = "thing"
        elif marked and not (shape == known and noun.article == "the"):
            role = "companion"
        elif shape == known and (noun.article == "the" or not (joined and "thing" in self.named)):
            role = "thing"
        elif "thing" in self.named:
            role = "companion"
        else:
            # What is asked of a thing that is not the known one is asked of the other.
            asked = not _ASKED.isdisjoint(kinds) and noun.article != "a"
            role = "companion" if known and asked else "thing"
            marked = False
        if role == "companion" and shape not in self.lexicon.attributes["companion"]:
            return None if marked or "thing" in self.named else "thing"
        return role

    def _name(self, noun: Item, role: Role | None) -> None:
        if role == "thing":
            self.state.update(noun.sets)
        elif role == "companion" and noun.sets["shape"] in self.lexicon.attributes["companion"]:
            self.state["companion"] = noun.sets["shape"]
            if "colour" in noun.sets:
                self.state["companion_colour"] = noun.sets["colour"]
        if role:
            self.named.add(role)
            self.subject = role

    def _remove(self, item: Item) -> None:
        """The companion goes; the thing cannot."""
        shape = item.sets.get("shape")
        if item.other or not shape or shape != self.state.get("shape") or self._has_two(shape):
            self.state["companion"] = "none"
            self.state.pop("companion_colour", None)

    def _has_two(self, shape: str) -> bool:
        return self.state.get("companion") == shape


def _is_of_thing(place: int, kinds: list[str], *, first: bool) -> bool:
    """Whether the adverb at a place of a clause tells of the thing's motion."""
    if first and place == 0 and kinds[1:2] not in ([], ["motion"]):
        return False  # "slowly the sun sets"
    return "motion" in kinds or set(kinds) <= {"adverb", "shape", "it"}


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


def _with_article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def load_rewriter(folder: Path) -> PromptRewriter | None:
    """That of a model folder; None where it has none.

    Raises:
        StreamError: ``bad_model``: the file does not serve.
    """
    path = folder / FILE
    return PromptRewriter(read_config(path, Lexicon)) if path.exists() else None
