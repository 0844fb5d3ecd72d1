"""Questions about the valley and their true answers, of the moment and of what is past."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


Scene = Mapping[str, str]
Told = Sequence[tuple[int, str]]
OUT_OF_SIGHT = 30
"""Seconds after which the video of what was told is surely kept no more."""
IN_SIGHT = 15
"""Seconds for which it surely is."""

WORDINGS: dict[str, tuple[str, ...]] = {
    "colour": ("what colour is the {shape}?", "what colour is it?", "which colour has the {shape}?"),
    "shape": ("what is it?", "what thing is this?", "what do you see?"),
    "motion": ("what is moving?", "what does the {shape} do?", "what is it doing?"),
    "time": ("what time of day is it?", "is it day or night?", "is it night?"),
    "weather": ("what is the weather like?", "how is the weather?", "is it raining?"),
    "ground": ("where is the {shape}?", "what is the ground like?", "what is it on?"),
    "camera": ("is the camera moving?", "what does the camera do?", "does the camera move?"),
    "companion": ("what is behind it?", "is there anything else?", "what is in the background?"),
    "size": ("how big is the {shape}?", "how big is it?", "is it big or small?"),
    "last": ("what happened last?", "what was the last change?", "what has changed?"),
    "ago": ("what happened a minute ago?", "what happened before?", "what happened a while ago?"),
    "was colour": ("what colour was it before?", "which colour did it have before?"),
    "was weather": ("what was the weather before?", "how was the weather before?"),
}
HELD_OUT_WORDINGS: dict[str, tuple[str, ...]] = {
    "colour": ("which colour is it?", "what colour has the {shape}?"),
    "shape": ("what thing do you see?", "what is this?"),
    "motion": ("what does it do?", "what is the {shape} doing?"),
    "time": ("which time of day is it?", "is it night or day?"),
    "weather": ("what is the weather?", "is it raining or snowing?"),
    "ground": ("where is it?", "what is the {shape} on?"),
    "camera": ("what is the camera doing?", "is the camera still?"),
    "companion": ("what else is there?", "is there anything behind it?"),
    "size": ("is the {shape} big or small?", "how small is it?"),
    "last": ("what changed last?", "what was the last thing that happened?"),
    "ago": ("what changed a minute ago?", "what happened a minute before?"),
    "was colour": ("which colour was it before?",),
    "was weather": ("how was the weather a minute ago?",),
}
"""Wordings for evaluation only."""
PAST = frozenset({"ago", "was colour", "was weather"})
"""Kinds about what may be out of sight."""

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
    """A question, its one right answer (a clause), and its kind, a key of `WORDINGS`."""

    question: str
    answer: str
    kind: str


def draw_question(
    scene: Scene,
    scenes: Sequence[Scene],
    changes: Sequence[float],
    told: Told,
    second: int,
    rng: random.Random,
    *,
    held_out: bool = False,
    kinds: Sequence[str] = (),
) -> Asked | None:
    """A question at a second, or None where the one that was drawn has no plain answer.

    `scene`: what is to be seen; `scenes`, `changes`: all up to it, and when one became the next;
    `told`: round and sentence of every change that was told; `kinds`: which kinds may be drawn.
    """
    kind = rng.choice(tuple(kinds) or tuple(WORDINGS))
    answer = _answer(kind, scene, scenes, changes, told, second)
    if answer is None:
        return None
    wording = rng.choice((HELD_OUT_WORDINGS if held_out else WORDINGS)[kind])
    return Asked(wording.format(shape=scene["shape"]), answer.format(shape=scene["shape"]), kind)


def _answer(
    kind: str,
    scene: Scene,
    scenes: Sequence[Scene],
    changes: Sequence[float],
    told: Told,
    second: int,
) -> str | None:
    if kind in {"last", "ago"}:
        return _told(kind, told, second)
    if kind.startswith("was "):
        return _before(kind.removeprefix("was "), scenes, changes, second)
    return _present(kind, scene)


def _told(kind: str, told: Told, second: int) -> str | None:
    if kind == "last":
        return told[-1][1] if told else NOTHING
    ages = [second - when for when, _ in told]
    if any(IN_SIGHT <= age < OUT_OF_SIGHT for age in ages):
        return None
    past = [text for (_, text), age in zip(told, ages, strict=True) if age >= OUT_OF_SIGHT]
    return past[-1] if past else NOTHING


def _before(
    name: str, scenes: Sequence[Scene], changes: Sequence[float], second: int
) -> str | None:
    """What an attribute was before its last change, where it has changed in the last two minutes."""
    for number in range(len(changes) - 1, -1, -1):
        old, new = scenes[number][name], scenes[number + 1][name]
        if old != new:
            if second - changes[number] > 120:
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
        return f"it is {_with_article(scene['colour'])} {{shape}}"
    if scene["companion"] == "none":
        return "nothing else"
    return f"{_with_article(scene['companion_colour'])} {scene['companion']}"


def _with_article(word: str) -> str:
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"
