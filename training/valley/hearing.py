"""Reads narrations of the valley back: what a listener takes the scene to be, and marks of it.

Of a network that speaks the same grammar nearly every clause can be read; one that cannot is
counted, and changes nothing that is believed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache

from longtake.training.valley import phrases as p
from longtake.training.valley.captions import shown
from longtake.training.valley.world import ATTRIBUTES

Beliefs = dict[str, str]
Pattern = tuple[re.Pattern[str], Mapping[str, str]]
"""Of a clause, and the attributes that it states; groups of the pattern state more."""

COLOURS = "|".join(ATTRIBUTES["colour"])
SHAPES = "|".join(ATTRIBUTES["shape"])
THING = f"an? (?:(?P<size>small|little|big|large) )?(?:(?P<colour>{COLOURS}) )?(?P<shape>{SHAPES})"
COMPANION = (
    f"an? (?:(?P<companion_colour>{COLOURS}) )?(?P<companion>{'|'.join(ATTRIBUTES['companion'])})"
)
IT = f"(?P<who>it|the other one|the (?:{SHAPES}))"
SYNONYMS = {"little": "small", "large": "big"}


@dataclass
class Listener:
    """What is believed after what was heard.

    `beliefs`: attribute -> value, only of what was told; `lost`: clauses that meant nothing;
    `strange`: the last words on it were that this is not the valley.
    """

    beliefs: Beliefs = field(default_factory=dict)
    lost: int = 0
    strange: bool = False

    def hear(self, words: str) -> Beliefs:
        """Take in what one round says, silence included; the attributes that it states."""
        stated: Beliefs = {}
        for clause in clauses(words):
            heard = self._one(clause)
            if heard is None:
                self.lost += 1
                continue
            stated |= heard
            self.beliefs |= heard
        return stated

    def _one(self, clause: str) -> Beliefs | None:
        if clause in p.ELSEWHERE:
            self.strange = True
            return {}
        for pattern, fixed in _patterns():
            if found := pattern.fullmatch(clause):
                groups = {name: value for name, value in found.groupdict().items() if value}
                if "scene" in fixed:
                    self.strange = False
                return self._stated(fixed, groups)
        return {} if _is_elsewhere(clause) else None

    def _stated(self, fixed: Mapping[str, str], groups: Beliefs) -> Beliefs:
        who, kind = groups.pop("who", ""), fixed.get("about", "")
        values = {name: SYNONYMS.get(value, value) for name, value in groups.items()}
        values |= {name: value for name, value in fixed.items() if name in ATTRIBUTES}
        if kind == "gone":
            return {"companion": "none"}
        if kind != "turned":
            return values
        # A colour or shape that something takes on: the thing's, or the companion's.
        companion = who == "the other one" or (
            who == f"the {self.beliefs.get('companion')}"
            and who != f"the {self.beliefs.get('shape')}"
        )
        names = {"shape": "companion", "colour": "companion_colour"} if companion else {}
        return {names.get(name, name): value for name, value in values.items()}


def clauses(words: str) -> list[str]:
    """The clauses of what was said, lower case."""
    parts = re.split(r"[.,]", words.lower())
    return [" ".join(part.split()) for part in parts if part.strip()]


def marks(beliefs: Beliefs, scene: Mapping[str, str]) -> dict[str, bool]:
    """For each attribute that the scene shows, whether it is believed to be what it is."""
    return {name: beliefs.get(name) == scene[name] for name in shown(dict(scene))}


def _is_elsewhere(clause: str) -> bool:
    """Whether it is one of the things said of other worlds."""
    tables = (p.ELSEWHERE_CHANGES, p.ELSEWHERE_MOTIONS)
    if any(clause in options for table in tables for options in table.values()):
        return True
    return bool(re.fullmatch(r"it is (?:mostly )?\w+(?: and (?:mostly )?\w+)?", clause))


@cache
def _patterns() -> tuple[Pattern, ...]:
    return tuple((re.compile(text), fixed) for text, fixed in _texts())


def _texts() -> Iterator[tuple[str, Mapping[str, str]]]:
    """Every clause of the grammar as a pattern."""
    yield from _scenes()
    yield from _motions()
    for camera, options in p.CAMERAS.items():
        yield "|".join(options), {"camera": camera}
    for (name, value), options in p.CHANGES.items():
        yield from ((option.format(it=IT), {name: value}) for option in options)
    for options in p.STOPS.values():
        yield "|".join(options), {"weather": "clear"}
    yield from _turns()


def _scenes() -> Iterator[tuple[str, Mapping[str, str]]]:
    for ground, options in p.GROUNDS.items():
        for option in options:
            fixed = {"scene": "", "ground": ground}
            for alone in p.ALONE:
                yield f"{THING} on {option} {alone}", {**fixed, "companion": "none"}
            for beside in p.BESIDE:
                yield f"{THING} on {option} {beside.format(new=COMPANION)}", fixed
    for (time, weather), skies in p.SKIES.items():
        yield "|".join(skies), {"time": time, "weather": weather}


def _motions() -> Iterator[tuple[str, Mapping[str, str]]]:
    for motion, verbs in p.MOTIONS.items():
        ways = [f"{IT} {third}" for _, third in verbs]
        ways += [start.format(it=IT, base=base) for base, _ in verbs for start in p.STARTS]
        for way in ways:
            yield way, {"motion": motion}
            for speed, hows in p.SPEEDS.items():
                yield f"{way} (?:{'|'.join(hows)})", {"motion": motion, "speed": speed}


def _turns() -> Iterator[tuple[str, Mapping[str, str]]]:
    for option in p.PAINTS:
        yield option.format(it=IT, word=f"(?P<colour>{COLOURS})"), {"about": "turned"}
    for option in p.TURNS:
        yield option.format(it=IT, new=THING), {"about": "turned"}
    for option in p.APPEARS:
        yield option.format(new=COMPANION), {}
    for option in p.GOES:
        yield option.format(it=IT), {"about": "gone"}
