"""Questions about the valley and their true answers, of the moment and of what is past."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from longtake.models.video.lexicon import with_article
from longtake.training.valley.wordings import KINDS, draw_wording

Scene = Mapping[str, str]
OUT_OF_SIGHT = 30
"""Seconds after which the video of what was told is surely kept no more."""
IN_SIGHT = 15
"""Seconds for which it surely is."""

ABOUT_PAST = ("last", "ago", "was colour", "was weather")
"""Kinds about what has been; their answers may be out of sight."""
NOTHING_KEPT = 0.1
"""Share kept of the questions whose answer is that nothing has changed: where that is mostly right,
nothing else is learned."""
REMEMBERED = 75
"""Seconds for which the words of a change are surely kept."""

TIMES = {"day": "it is day", "sunset": "it is evening", "night": "it is night"}
WEATHERS = {
    "clear": "the sky is clear",
    "rain": "it is raining",
    "snow": "it is snowing",
    "fog": "it is foggy",
}
PAST_WEATHERS = {
    "clear": "the sky was clear",
    "rain": "it was raining",
    "snow": "it was snowing",
    "fog": "it was foggy",
}
GROUNDS = {
    "grass": "it is on the grass",
    "sand": "it is on the sand",
    "snow": "it is on the snow",
    "water": "it is on the water",
}
DOES = {
    "rests": "nothing moves",
    "bounces": "the {shape} bounces",
    "rolls": "the {shape} moves from side to side",
    "circles": "the {shape} flies in circles",
    "drifts": "the {shape} floats through the air",
    "flies away": "the {shape} flies away and back",
}
CAMERAS = {
    "still": "the camera is still",
    "pans left": "the camera pans left",
    "pans right": "the camera pans right",
    "zooms": "the camera zooms in and out",
}
_TABLES: Mapping[str, Mapping[str, str]] = {
    "time": TIMES,
    "weather": WEATHERS,
    "ground": GROUNDS,
    "motion": DOES,
    "camera": CAMERAS,
}
NOTHING = "nothing has changed"


@dataclass(frozen=True)
class Asked:
    """A question, its one right answer (a clause), and its kind, one of `KINDS`."""

    question: str
    answer: str
    kind: str


@dataclass(frozen=True)
class Past:
    """A script up to some second.

    `scenes`: those that have begun, the newest last; `changes`: when each of them became the next;
    `told`: round and words of every change that was told of; `second`: now.
    """

    scenes: Sequence[Scene]
    changes: Sequence[float]
    told: Sequence[tuple[int, str]]
    second: int


def draw_question(
    past: Past,
    rng: random.Random,
    *,
    held_out: bool = False,
    kinds: Sequence[str] = (),
    given: Collection[str] = (),
) -> Asked | None:
    """A question, or None where what was drawn has no plain answer.

    `kinds`: some of `KINDS`, of which one is drawn whose answer is not `NOTHING`; where it is
    empty, one is drawn of all. `held_out`: worded as training never did. `given`: answers that are
    passed over.
    """
    kept, shape = 0.0 if kinds else NOTHING_KEPT, past.scenes[-1]["shape"]
    for kind in rng.sample(kinds, len(kinds)) or [rng.choice(KINDS)]:
        answer = _answer(kind, past)
        if answer is None or (answer == NOTHING and rng.random() >= kept):
            continue
        if (words := answer.format(shape=shape)) in given:
            continue
        return Asked(draw_wording(kind, shape, rng, held_out=held_out), words, kind)
    return None


def _answer(kind: str, past: Past) -> str | None:
    if kind == "last":
        return past.told[-1][1] if past.told else NOTHING
    if kind == "ago":
        return _long_ago(past)
    if kind.startswith("was "):
        return _before(kind.removeprefix("was "), past)
    return _present(kind, past.scenes[-1])


def _long_ago(past: Past) -> str | None:
    """The last change that is surely out of sight, where it is plain which ones are."""
    ages = [past.second - when for when, _ in past.told]
    if any(IN_SIGHT <= age < OUT_OF_SIGHT for age in ages):
        return None
    texts = [text for (_, text), age in zip(past.told, ages, strict=True) if age >= OUT_OF_SIGHT]
    return texts[-1] if texts else NOTHING


def _before(name: str, past: Past) -> str | None:
    """What an attribute was before its last change, where that is not too long ago."""
    for number in range(len(past.changes) - 1, -1, -1):
        old, new = past.scenes[number][name], past.scenes[number + 1][name]
        if old != new:
            if past.second - past.changes[number] > REMEMBERED:
                return None
            return PAST_WEATHERS[old] if name == "weather" else f"it was {old}"
    return None


def _present(kind: str, scene: Scene) -> str:
    """What is to be seen, of the attribute that a kind is named after."""
    if kind in _TABLES:
        return _TABLES[kind][scene[kind]]
    if kind in {"colour", "size"}:
        return f"it is {scene[kind]}"
    if kind == "shape":
        return f"it is {with_article(scene['colour'])} {{shape}}"
    if scene["companion"] == "none":
        return "nothing else"
    return f"{with_article(scene['companion_colour'])} {scene['companion']}"
