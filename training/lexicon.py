"""What the bundled model's prompt rewriter knows, from the words that captions are made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import product

from longtake.models.video.lexicon import Lexicon, Value
from longtake.training.valley import words as w
from longtake.training.valley.world import ATTRIBUTES, HIDDEN

ORDER = w.ORDERS[2]
"""Of the trained ones: thing and companion together, and the rest between commas."""
SAY_GROUND = {"grass": "the grass"}
"""Where the first phrase names a colour, which is another attribute's word."""
MORE: dict[tuple[str, str], w.Phrases] = {
    ("time", "day"): (
        *("day", "daytime", "daylight", "morning", "gets light", "sunrise", "sun rises"),
    ),
    ("time", "sunset"): (
        *("sunset", "dusk", "evening", "sun set", "sun goes down", "sun is setting"),
        *("dawn", "twilight"),
    ),
    ("time", "night"): ("night", "dark", "moon", "stars"),
    ("weather", "clear"): ("clear", "clear sky", "blue sky", "fine weather", "clears up"),
    ("weather", "rain"): (
        *("rain", "rains", "raining", "rainy", "storm", "stormy", "drizzle", "pouring"),
    ),
    ("weather", "snow"): (
        *("snow", "snows", "snowing", "snowfall", "falling snow", "snowy", "blizzard", "snowstorm"),
    ),
    ("weather", "fog"): ("fog", "foggy", "mist", "misty", "haze", "hazy"),
    ("ground", "snow"): ("snow on the ground",),
    ("ground", "grass"): ("field", "garden", "park"),
    ("ground", "sand"): ("dunes",),
    ("ground", "water"): ("ocean", "lake", "river", "pond"),
    ("camera", "still"): ("still camera", "camera still"),
    ("camera", "zooms"): ("zooms", "zooming", "in and out", "zooming in", "zooms in"),
    ("speed", "slow"): ("slow", "slows", "slower"),
    ("speed", "fast"): ("fast", "faster", "speed", "speeds"),
    ("size", "big"): ("grow", "grows", "get bigger"),
    ("size", "small"): ("shrink", "shrinks"),
    ("motion", "rests"): ("stop", "stops", "come to rest", "still", "not moving"),
    ("motion", "circles"): ("fly", "flies", "flying"),
    ("motion", "rolls"): ("moves", "moving"),
}
"""Single words, which people put into phrases of their own."""
SIDES = {"left": "pans left", "right": "pans right"}
FALLS: w.Phrases = (
    *("rain", "raining", "snow", "snowing", "snowfall", "fog", "mist", "falling snow"),
)
NOT_BEFORE: w.Phrases = ("no", "no more", "without", "remove", "stop", "stops", "take away")
NOT_AFTER: w.Phrases = ("stops", "ends", "goes away", "disappears", "clears", "lifts")
WORDS: dict[str, w.Phrases] = {
    "change": ("make", "makes", "turn", "turns", "change", "changes", "paint"),
    "become": (
        *("become", "becomes", "into", "turns into", "turn into", "change into", "changes into"),
        *("turn to", "turns to", "change to", "changes to"),
    ),
    "replace": ("replace", "replaces"),
    "add": ("add", "put", "there is now"),
    "beside": ("with", "next to", "near", "beside", "behind"),
    "behind": (
        *("in the background", "in the distance", "behind it", "next to it", "near it"),
        "beside it",
    ),
    "appear": ("appear", "appears", "comes up"),
    "remove": ("remove", "take", "without", "no"),
    "gone": ("disappear", "disappears", "goes away", "go away", "away"),
    "it": ("it",),
    "other": ("other", "other one"),
    "camera": ("camera",),
    "and": ("and",),
    "then": ("then", "while", "as"),
}


def lexicon() -> Lexicon:
    """Of the words for training alone: nothing that is kept for evaluation is in it."""
    phrases: dict[tuple[str, str], list[str]] = {}

    def know(name: str, value: str, more: Iterable[str]) -> None:
        phrases.setdefault((name, value), []).extend(more)

    tables: dict[str, Mapping[str, w.Phrases]] = {
        "size": w.SIZES,
        "colour": w.COLOURS,
        "shape": w.SHAPES,
        "speed": w.SPEEDS,
        "time": w.TIMES,
        "weather": w.WEATHERS,
        "camera": w.CAMERAS,
    }
    for name, table in tables.items():
        for value, words in table.items():
            know(name, value, words)
    for value, grounds in w.GROUNDS.items():
        where = ("on", "in", "over", "above", "to")
        know("ground", value, (f"{at} {ground}" for at, ground in product(where, grounds)))
        # "the snow" alone may fall.
        know("ground", value, (ground for ground in grounds if ground != "the snow"))
    for motion, verbs in _verbs().items():
        know("motion", motion, (form for verb in verbs for form in _forms(verb)))
        stopped = (f"{stop} {ing}" for stop in ("stop", "stops") for _, _, ing, _ in verbs)
        know("motion", "rests", stopped)
    for name, tags in w.TAGS.items():
        for value, tag in tags.items():
            know(name, value, [tag])
    for (name, value), changes in w.CHANGES.items():
        know(name, value, (change for change in changes if "{" not in change))
    for (name, value), words in MORE.items():
        know(name, value, words)
    for stops in w.STOPS.values():
        know("weather", "clear", stops)
    know("weather", "clear", (f"{no} {fall}" for no, fall in product(NOT_BEFORE, FALLS)))
    know("weather", "clear", (f"{fall} {ends}" for fall, ends in product(FALLS, NOT_AFTER)))
    for side, value in SIDES.items():
        pans = ("pan", "pans", "panning", "camera", "camera pans", "camera moves", "move camera")
        know("camera", value, [side, f"to {side}"])
        know("camera", value, (f"{pan} {to}" for pan in pans for to in (side, f"to {side}")))
    know("companion", "none", w.ALONE)

    say = {
        **{("ground", ground): f"{w.ON} {words[0]}" for ground, words in w.GROUNDS.items()},
        **{("ground", ground): f"{w.ON} {words}" for ground, words in SAY_GROUND.items()},
        **{("motion", motion): " ".join(verbs[0][1::2]) for motion, verbs in w.VERBS.items()},
        ("companion", "none"): w.ALONE[0],
    }
    adverbs = tuple(how for hows in w.SPEEDS.values() for how in hows if how.endswith("ly"))
    attributes: dict[str, dict[str, Value]] = {}
    for (name, value), known in phrases.items():
        said = say.get((name, value)) or known[0]
        attributes.setdefault(name, {})[value] = Value(said, tuple(dict.fromkeys(known)))
    for name, of in (("companion", "shape"), ("companion_colour", "colour")):
        values = attributes[of]
        told = {value: Value(values[value].say) for value in ATTRIBUTES[name] if value in values}
        attributes.setdefault(name, {}).update(told)
    return Lexicon(
        attributes,
        {
            phrase: {"time": time, "weather": weather}
            for (time, weather), skies in w.SKIES.items()
            for phrase in skies
        },
        WORDS | {"adverb": adverbs},
        HIDDEN,
        w.COMPANIONS[1],
        ORDER,
    )


def _verbs() -> dict[str, list[w.Verb]]:
    """All verbs of each motion."""
    found = {motion: list(verbs) for motion, verbs in w.VERBS.items()}
    for (_, motion), verbs in w.SPECIAL_VERBS.items():
        found[motion] += verbs
    return found


def _forms(verb: w.Verb) -> list[str]:
    """With what follows, and that alone: "bounces slowly up and down"."""
    *forms, tail = verb
    alone = [tail] if " " in tail else []
    return [f"{form} {tail}".strip() for form in forms if form] + alone
