"""A film's prompts, scenes and changes, to one prompt for the whole scene.

Wan's inference has a language model rewrite prompts (its "prompt extension"), and LongLive's are
whole scenes each. Here it is a lexicon of a closed world and a few rules, so a film repeats. What
no prompt tells of is drawn by the film's seed: a model that is told all of a scene keeps to it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Literal

from longtake.models.folder import read_config
from longtake.models.video.lexicon import Item, Lexicon, Phrases, with_article

FILE = "rewriter.json"
_OFTEN = 0.4
"""How often a usual value is drawn; otherwise it is any."""
_BEFORE, _AFTER = {"add", "beside", "remove"}, {"behind", "appear", "gone"}
_OF_NOBODY = {"it", "time", "weather", "change", "become", "adverb"}
_MOVES = {"motion", "move"}
_NOUNS = {"shape", "it", "other"}
_WAYS = {"motion", "move", "speed", "adverb"}
_SHARED = {"colour", "size"}
_PLACES = {"ground", "weather", "time"}
_ASKED = {"change", "become", "replace", "colour", "size"}

Role = Literal["thing", "companion"]
State = dict[str, str]


class PromptRewriter:
    """Folds prompts into what was told, and says it.

    Args:
        lexicon: of the model folder.
    """

    def __init__(self, lexicon: Lexicon) -> None:
        self.lexicon = lexicon
        self._phrases = Phrases(lexicon)

    def __call__(self, prompts: Sequence[str], seed: int | None = None) -> str:
        """One prompt for a film's.

        Args:
            prompts: of the film, oldest first.
            seed: by which is drawn what they do not tell of; None leaves it out.

        Returns:
            The newest one as it is where none is understood and nothing is drawn.
        """
        drawn = {} if seed is None else self.draw(seed)
        return self.say(self._shown(drawn | self.fold(prompts))) or prompts[-1]

    def draw(self, seed: int) -> State:
        """Attribute -> value of a whole scene; each is drawn by itself, whatever the others are."""
        usual = self.lexicon.usual
        if not usual:
            return {}
        drawn = {}
        for name, values in self.lexicon.attributes.items():
            by = random.Random(f"{name} {seed}")
            often = usual.get(name) if by.random() < _OFTEN else None
            drawn[name] = often or by.choice(sorted(values))
        return drawn

    def fold(self, prompts: Sequence[str]) -> State:
        """Attribute -> value, of what was told and shows."""
        state: State = {}
        for prompt in prompts:
            reader = _Reader(state, self.lexicon)
            for number, clause in enumerate(self._phrases.clauses(prompt)):
                reader.read(clause, first=number == 0)
        if "shape" not in state and state.get("companion", "none") != "none":
            # "a meadow with a house": what there is nothing else beside is the thing.
            state["shape"] = state.pop("companion")
            if "companion_colour" in state:
                state["colour"] = state.pop("companion_colour")
        return self._shown(state)

    def _shown(self, state: State) -> State:
        """Without what its other attributes hide."""
        hidden = self.lexicon.hidden
        return {
            name: value
            for name, value in state.items()
            if name not in hidden or state.get(hidden[name][0]) != hidden[name][1]
        }

    def say(self, state: State) -> str:
        """A whole prompt; empty where there is nothing to say."""

        def told(*names: str) -> str:
            known = self.lexicon.attributes
            return " ".join(known[name][state[name]].say for name in names if name in state)

        # The speed is the noun's where no verb can carry it; its values are adjectives.
        speed = "" if "motion" in state else state.get("speed", "")
        thing = f"{speed} {told('size', 'colour', 'shape')}".strip()
        companion = told("companion")
        if companion and state["companion"] != "none":
            noun = told("companion_colour", "companion")
            companion = self.lexicon.beside.format(new=with_article(noun))
        places = {
            "thing": with_article(thing) if "shape" in state else thing,
            "does": told("motion", "speed") if "motion" in state else "",
            "place": told("ground"),
            "sky": told("time", "weather"),
            "companion": companion,
            "camera": told("camera"),
        }
        parts = (" ".join(part.split()) for part in self.lexicon.order.format(**places).split(","))
        return ", ".join(part for part in parts if part)


@dataclass
class _Reader:
    """Reads one prompt, clause by clause, into the state of a film.

    `named`: who was told of in the prompt; `subject`: of the clause; `before`: of the one before,
    where that named one only; `bare`: whether that said nothing of it, as in "the tree and the ball
    turn green".
    """

    state: State
    lexicon: Lexicon
    named: set[Role] = field(default_factory=set)
    subject: Role | None = None
    before: Role | None = None
    bare: bool = False

    def read(self, clause: list[Item], *, first: bool) -> None:
        """Take what a clause says; `first`: of the prompt."""
        joined = bool(clause) and clause[0].kind == "and"
        clause = _without_directions(_without_scenery(_in_order(clause[joined:])))
        kinds = [item.kind for item in clause]
        before = self.before if joined else None
        self.subject = before if _NOUNS.isdisjoint(kinds) else None
        changing = "replace" in kinds
        for place, item in enumerate(clause):
            kind, near = item.kind, self._near(place, clause)
            if kind in {"shape", "other"} and near & {"remove", "gone"}:
                self._remove(item)
            elif kind == "shape":
                # "it is a car now" asks for a change as well.
                changing = changing or (kinds[:place] == ["it"] and item.article == "a")
                becomes = changing and ("replace" in kinds or not near & {"add", "beside"})
                role: Role | None = self.subject if becomes else None
                self._name(item, role or self._role(item, near, kinds, joined and place == 0))
            elif kind == "it":
                # "it is snowing" is of nobody.
                self.subject = None if set(kinds) <= _OF_NOBODY else self._it()
            elif kind == "other":
                self.subject = "companion"
            elif kind == "both":
                self.subject = "thing"
            elif kind in {"change", "become", "replace"}:
                changing = True
                if kind == "become":
                    self.subject = self.subject or "thing"
            elif kind in _WAYS and self._stands(clause, joined=joined):
                continue
            elif _is_of_thing(place, kinds, first=first) and not self._asks_for_speed(kind, kinds):
                self._tell(item)
        alone = kinds.count("shape") == 1 and _BEFORE.isdisjoint(kinds)
        self.before = self.subject if alone else None
        also: Role | None = before if self.bare else None
        if "both" in kinds:  # what is said is the thing's already
            also = "companion"
        if also:
            self.subject = also
            self._share(clause)
        self.bare = set(kinds) <= {"shape", "change", "both"}

    def _tell(self, item: Item) -> None:
        """Take what is no noun."""
        if self.subject == "companion" and item.kind == "colour":
            self.state["companion_colour"] = item.sets["colour"]
        elif self.subject != "companion" or item.kind != "size":  # it has none
            self.state.update(item.sets)
        if self.state.get("companion") == "none":
            self.state.pop("companion_colour", None)

    def _share(self, clause: list[Item]) -> None:
        """Take of a clause what can be of two."""
        for item in clause:
            if item.kind in _SHARED:
                self._tell(item)

    def _stands(self, clause: list[Item], *, joined: bool) -> bool:
        """Whether a way of moving is told of the companion, which has none.

        Of "the tree moves" or "it moves", but neither of "a ball and the tree move" nor of "a ball
        with a tree moves".
        """
        nouns = [item for item in clause if item.kind in {"shape", "it"}]
        marks = _BEFORE | _AFTER
        alone = len(nouns) == 1 and marks.isdisjoint(item.kind for item in clause)
        meant = alone and (nouns[0].kind == "it" or (nouns[0].article == "the" and not joined))
        return meant and self.subject == "companion"

    def _near(self, place: int, clause: list[Item]) -> set[str]:
        """Kinds of what belongs to a noun, which lies between the nouns beside it."""
        kinds, known = [item.kind for item in clause], self.state.get("shape")
        before = [*takewhile(lambda each: each != "shape", reversed(kinds[:place]))]
        after = [*takewhile(lambda each: each != "shape", kinds[place + 1 :])]
        near = (_BEFORE & {*before}) | (_AFTER & {*after})
        if "behind" in before and len(before) == place:
            near.add("behind")  # "behind it stands a tree"
        noun = next(iter(clause[place + 1 + len(after) :]), None)
        if noun and "beside" in after and noun.article == "the" and noun.sets["shape"] == known:
            near.add("behind")  # "a tree stands behind the ball"
        return near

    def _asks_for_speed(self, kind: str, kinds: list[str]) -> bool:
        """Whether it is the "moves" of "it moves faster", of what does already, in its own way."""
        motion = self.state.get("motion")
        still = self.lexicon.hidden.get("speed") == ("motion", motion)
        asked = kind == "move" and not {"adverb", "speed"}.isdisjoint(kinds)
        return asked and bool(motion) and not still

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
            alone = noun.article == "the" and kinds.count("shape") == 1
            alone = alone or (not noun.article and kinds == ["shape"])  # "pink tree"
            meant = "replace" in kinds or alone
            again = meant and shape == self.state.get("companion")
            role = "companion" if known and (asked or again) else "thing"
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
        shape, companion = item.sets.get("shape"), self.state.get("companion")
        if item.other or shape != self.state.get("shape") or shape == companion:
            self._tell(Item("companion", {"companion": "none"}))


def _in_order(clause: list[Item]) -> list[Item]:
    """With what was there before first: "a car instead of the ball" as "the ball, a car"."""
    kinds = [item.kind for item in clause]
    if "instead" not in kinds[:-1]:
        return clause
    place = kinds.index("instead")
    old, rest = clause[place + 1], clause[:place] + clause[place + 2 :]
    # Of what is no noun nothing remains.
    return [old, Item("become"), *rest] if old.kind in {"shape", "other"} else rest


def _without_directions(clause: list[Item]) -> list[Item]:
    """Without the "right" of "the ball rolls to the right" and "move it right", not the camera's.

    There is no such thing as the direction of a motion.
    """
    kinds = [item.kind for item in clause]
    if {"shape", "it"}.isdisjoint(kinds):
        return clause
    ways = [
        kind == "camera" and before in _MOVES | _NOUNS for before, kind in pairwise(["", *kinds])
    ]
    return [item for item, way in zip(clause, ways, strict=True) if not way]


def _without_scenery(clause: list[Item]) -> list[Item]:
    """Without the "red" of "the grass turns red" and "make the sky red", which is of neither."""
    if not _NOUNS.isdisjoint(item.kind for item in clause):
        return clause
    kept, elsewhere = [], False
    for item in clause:
        elsewhere |= item.kind == "scenery" or (item.kind in _PLACES and item.article == "the")
        if not (elsewhere and item.kind in _SHARED | _WAYS):
            kept.append(item)
    return kept


def _is_of_thing(place: int, kinds: list[str], *, first: bool) -> bool:
    """Whether a motion or an adverb at a place of a clause is the thing's; all else is, too."""
    if kinds[place] in _MOVES:
        return "camera" not in kinds
    if kinds[place] != "adverb":
        return True
    if first and place == 0 and not _MOVES.issuperset(kinds[1:2]):
        return False  # "slowly the sun sets"
    moves = not _MOVES.isdisjoint(kinds) and "camera" not in kinds
    return moves or set(kinds) <= {"adverb", "shape", "it"}


def load_rewriter(folder: Path) -> PromptRewriter | None:
    """That of a model folder; None where it has none.

    Raises:
        StreamError: ``bad_model``: the file does not serve.
    """
    path = folder / FILE
    return PromptRewriter(read_config(path, Lexicon)) if path.exists() else None
