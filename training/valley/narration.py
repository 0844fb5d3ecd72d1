"""What the captioner is to say of the valley, second by second, in true words.

The first second tells the scene, the next two what it does and how the camera moves; then only
changes are told, in the round that begins after they do, when most of them has happened. Every
`EVERY` seconds the scene is told again: a listener may join, and a mistake is put right.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from longtake.training.valley import phrases as p
from longtake.training.valley.captions import shown, values_of
from longtake.training.valley.questions import Asked, Past, draw_question

Scene = Mapping[str, str]
EVERY = 20
"""Seconds after which the scene is told again."""
ORDER = (
    *("time", "weather", "ground", "shape", "colour", "size"),
    *("motion", "speed", "companion", "companion_colour", "camera"),
)
"""In which changes of one moment are told."""


@dataclass(frozen=True)
class Said:
    """One round of a narration.

    `words`: what is said, empty for silence; `asked`: the question that it answers, if any;
    `scene`: the attributes as they have been told of so far.
    """

    words: str
    scene: Scene
    asked: Asked | None = None


@dataclass
class Telling:
    """How a narration goes: a script in words, and what has been told.

    `scenes`: the script's; `changes`: the second at which each becomes the next; `kinds`: of the
    questions that may be asked, all where it is empty, and else none whose answer was `given`, or
    all but the first would be learned by copying that; `told`: the round and the words of each
    change; `due`: clauses that are to be said next.
    """

    scenes: Sequence[Scene]
    changes: Sequence[float]
    kinds: Sequence[str] = ()
    told: list[tuple[int, str]] = field(default_factory=list)
    due: list[str] = field(default_factory=list)
    given: set[str] = field(default_factory=set)

    def round(
        self, second: int, rng: random.Random, *, asking: float = 0.0, held_out: bool = False
    ) -> Said:
        """What is said of the second from `second` on; rounds are to come in their order.

        `asking`: the chance that something is asked; what else was to be said waits for the next
        round. `held_out`: questions are worded as training never did.
        """
        now = sum(change <= second for change in self.changes)
        scene = self.scenes[now]
        fresh = [
            number for number, change in enumerate(self.changes) if second - 1 < change <= second
        ]
        for number in fresh:
            text = change_words(self.scenes[number], self.scenes[number + 1], rng)
            self.told.append((second, text))
            self.due.append(text)
        if second % EVERY == 0:
            self.due.append(scene_words(scene, rng))
        elif second % EVERY == 1:
            self.due.append(motion_words(scene, rng))
        elif second % EVERY == 2:
            self.due.append(rng.choice(p.CAMERAS[scene["camera"]]))
        # Of what it has not seen for long enough it is not asked.
        if second > 2 and not fresh and rng.random() < asking:
            past = Past(self.scenes[: now + 1], self.changes[:now], self.told, second)
            given = self.given if self.kinds else ()
            if asked := draw_question(past, rng, held_out=held_out, kinds=self.kinds, given=given):
                self.given.add(asked.answer)
                return Said(sentence(asked.answer), scene, asked)
        words = " ".join(sentence(text) for text in self.due)
        self.due.clear()
        return Said(words, scene)

    def from_second(self, first: int) -> Telling:
        """The telling of what is left of the script from that second on, which becomes second 0."""
        gone = sum(change <= first for change in self.changes)
        left = [change - first for change in self.changes[gone:]]
        return Telling(self.scenes[gone:], left, self.kinds)


def telling(
    rows: Sequence[Sequence[int]], changes: Sequence[float], kinds: Sequence[str] = ()
) -> Telling:
    """The telling of one script: attribute rows [S, 11], and the changes between them, [S - 1].

    `kinds`: see `Telling`.
    """
    begun = [change for change in changes if math.isfinite(change)]
    return Telling([values_of(row) for row in rows], begun, kinds)


def scene_words(scene: Scene, rng: random.Random) -> str:
    """A whole scene but for what moves in it."""
    thing = noun(scene["shape"], scene["colour"], rng.choice(p.SIZES[scene["size"]]))
    if scene["companion"] == "none":
        beside = rng.choice(p.ALONE)
    else:
        new = noun(scene["companion"], scene["companion_colour"])
        beside = rng.choice(p.BESIDE).format(new=new)
    ground = rng.choice(p.GROUNDS[scene["ground"]])
    return f"{thing} on {ground} {beside}, {rng.choice(p.SKIES[scene['time'], scene['weather']])}"


def motion_words(scene: Scene, rng: random.Random) -> str:
    """What the thing does."""
    third = rng.choice(p.MOTIONS[scene["motion"]])[1]
    return f"{_it(scene, rng)} {third}{_speed(scene, rng)}"


def change_words(old: Scene, new: Scene, rng: random.Random) -> str:
    """What has changed from one scene to another, as far as it shows."""
    changed = [name for name in ORDER if old[name] != new[name] and name in shown(dict(new))]
    clauses = []
    for name in changed:
        if name == "companion_colour" and "companion" in changed:
            continue
        if name == "speed" and "motion" in changed:
            continue
        # Once its shape has changed only "it" is right for the thing.
        it = "it" if "shape" in changed else _it(old, rng)
        clauses.append(_clause(name, old, new, it, rng))
    return ", ".join(clauses)


def noun(shape: str, *adjectives: str) -> str:
    """ "a red ball" for a ball and red; a size goes first, wherever it stands."""
    words = [*sorted(adjectives, key=lambda word: word not in _SIZE_WORDS), shape]
    return f"{'an' if words[0][0] in 'aeiou' else 'a'} {' '.join(words)}"


def sentence(text: str) -> str:
    """A clause as people write it: with a capital and a full stop."""
    return f"{text[0].upper()}{text[1:]}." if text else ""


_SIZE_WORDS = frozenset({"small", "little", "big", "large"})


def _clause(name: str, old: Scene, new: Scene, it: str, rng: random.Random) -> str:
    if name in {"companion", "companion_colour"}:
        return _companion_clause(name, old, new, rng)
    if name == "shape":
        return rng.choice(p.TURNS).format(it=it, new=noun(new["shape"]))
    if name == "colour":
        return rng.choice(p.PAINTS).format(it=it, word=new["colour"])
    if name == "motion" and new["motion"] != "rests":
        base = rng.choice(p.MOTIONS[new["motion"]])[0]
        return rng.choice(p.STARTS).format(it=it, base=base) + _speed(new, rng)
    options = p.CHANGES[name, new[name]]
    if name == "weather" and new["weather"] == "clear":
        options = p.STOPS[old["weather"]] + options
    return rng.choice(options).format(it=it)


def _companion_clause(name: str, old: Scene, new: Scene, rng: random.Random) -> str:
    # Where the thing is of the same kind, only "the other one" is plain.
    same = old["companion"] in {old["shape"], new["shape"]}
    was = "the other one" if same else f"the {old['companion']}"
    coloured = noun(new["companion"], new["companion_colour"])
    if name == "companion_colour":
        return rng.choice(p.PAINTS).format(it=was, word=new["companion_colour"])
    if new["companion"] == "none":
        return rng.choice(p.GOES).format(it=was)
    if old["companion"] == "none":
        return rng.choice(p.APPEARS).format(new=coloured)
    return rng.choice(p.TURNS).format(it=was, new=coloured)


def _speed(scene: Scene, rng: random.Random) -> str:
    return "" if scene["motion"] == "rests" else f" {rng.choice(p.SPEEDS[scene['speed']])}"


def _it(scene: Scene, rng: random.Random) -> str:
    return "it" if rng.random() < 0.5 else f"the {scene['shape']}"
